"""From a checkpoint folder to a verified, versioned LoRA; and the training of the embedded model.

Knows nothing of serving, KServe, languages or picture formats.
"""
