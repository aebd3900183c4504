"""Moves the traffic of an InferenceService from one look to another, in steps, and back: `python -m rollout
--help`.

What a cluster shows is read into a state (cluster.py; knative_objects.py, standard_objects.py), the next step
is planned from it without any call (knative.py, standard.py), and done (driver.py); so a command can be
interrupted anywhere, and run again.
"""
