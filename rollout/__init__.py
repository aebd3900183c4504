"""Moves the traffic of an InferenceService from one look to another, in steps, and back: `python -m rollout
--help`.

What a cluster shows is read into a state (knative.py, standard.py), the next step is planned from it without
any call, and done (driver.py); so a command can be interrupted anywhere, and run again.
"""
