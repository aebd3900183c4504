"""Step-level batching: who is drawn when, and with whom.

It knows of the model that it begins, steps and decodes rows; no wire format, no names of looks.
"""
