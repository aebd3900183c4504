"""The servers that the predictor is compared with, each as its own documentation would have it written.

Each runs in an environment of its own (`make bench-peers` builds them in build/peers) and imports nothing of
this project but `pipeline.py` beside it.
"""
