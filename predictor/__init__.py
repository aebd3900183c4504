"""The KServe custom predictor: wire contract, queue, step-batching engine, LoRA adapters."""
