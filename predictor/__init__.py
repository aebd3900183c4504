"""The KServe custom predictor: wire contract, queue, step-batching engine, LoRA adapters."""

__version__ = "0.1.0"
