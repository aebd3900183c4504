"""The edge of the service: language, translation, pictures and the KServe transformer in front of the predictor.

It knows nothing of torch diffusion or LoRA files; of the predictor it imports the wire contract and the errors only.
"""
