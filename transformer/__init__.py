"""The edge of the service: language, translation, pictures, and the KServe transformer before the predictor.

It knows nothing of diffusion or LoRA files; of the predictor it imports the wire contract and the errors.
"""
