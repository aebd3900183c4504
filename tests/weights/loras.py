"""Small LoRAs for the tests of the store: real tensors with a manifest that fits them."""

import torch

from weights.manifest import Manifest, Target

PATHS = (
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
)
RANK, D_OUT, D_IN = 4, 8, 6


def make_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """A LoRA in canonical layout; another for each seed."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for path in PATHS:
        tensors[f"unet.{path}.lora_A.weight"] = torch.randn(RANK, D_IN, generator=generator)
        tensors[f"unet.{path}.lora_B.weight"] = torch.randn(D_OUT, RANK, generator=generator)
    return tensors


def make_manifest(name: str = "notoemoji", source: str = "a test") -> Manifest:
    """The manifest of `make_tensors`, but for what the store fills in."""
    return Manifest(
        name=name,
        version=1,
        sha256="",
        created="",
        base_sha256="b" * 64,
        targets={path: Target(RANK, float(RANK), (D_OUT, D_IN)) for path in PATHS},
        source=source,
    )
