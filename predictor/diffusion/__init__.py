"""The model: rows become pictures, each with its own LoRAs, steps, guidance and solver, in mixed batches.

It knows no queue, no request and no store.
"""
