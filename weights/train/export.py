"""Puts finished stages together as the embedded model: the base as a StableDiffusionPipeline folder in half
precision, and each LoRA by importing its run's accelerate state folder into the store.

Knows nothing of how the stages were trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from weights.importer import import_lora
from weights.store import Store
from weights.train.denoiser import assemble

GENERATION = {"num_inference_steps": 10, "guidance_scale": 2.0, "solver": "ddim"}
LICENCES = {
    "notoemoji": (
        "OFL-1.1",
        "Trained on Noto Color Emoji, Copyright 2013 Google LLC, SIL Open Font License 1.1",
    ),
    "openmoji": ("CC-BY-SA-4.0", "Trained on OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0"),
}


def unpack(embedded: Path, runs: Path) -> None:
    """The reverse of `export` for the base: its parts as the finished stages of a new run folder.

    Raises FileExistsError when the folder has stages of its own already.
    """
    base = embedded / "base"
    for part, stage in (
        ("vae", "autoencoder/model"),
        ("text_encoder", "text/model"),
        ("tokenizer", "text/tokenizer"),
        ("unet", "base/model"),
    ):
        shutil.copytree(base / part, runs / stage)


def export(runs: Path, embedded: Path, looks: Sequence[str]) -> None:
    """Write `embedded/base` and `embedded/loras` from the run folders, in place of what was there."""
    decoder = runs / "decoder" / "model"
    pipeline = assemble(
        UNet2DConditionModel.from_pretrained(runs / "base" / "model"),
        AutoencoderKL.from_pretrained(decoder if decoder.exists() else runs / "autoencoder" / "model"),
        CLIPTextModel.from_pretrained(runs / "text" / "model"),
        CLIPTokenizer.from_pretrained(runs / "text" / "tokenizer"),
    )
    for part in ("base", "loras"):
        shutil.rmtree(embedded / part, ignore_errors=True)
    base = embedded / "base"
    pipeline.to(dtype=torch.float16).save_pretrained(base, safe_serialization=True)
    # transformers computes in the dtype that a config names, diffusers in float32: name float32 here too,
    # so that a plain from_pretrained gives one dtype.
    text_config = base / "text_encoder" / "config.json"
    text_config.write_text(text_config.read_text().replace('"float16"', '"float32"'))
    (base / "generation.json").write_text(json.dumps(GENERATION, indent=2) + "\n", encoding="utf-8")
    for part in ("unet", "vae"):  # where the parts came from is this machine's business
        file = base / part / "config.json"
        config = {key: value for key, value in json.loads(file.read_text()).items() if key != "_name_or_path"}
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in base.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors keeps them to the owner; a server may run as somebody else
    store = Store(embedded / "loras")
    for look in looks:
        licence, attribution = LICENCES[look]
        imported = import_lora(
            runs / f"lora-{look}" / "state",
            name=look,
            base=base,
            store=store,
            alias="stable",
            origin=f"weights train lora-{look}",
            license=licence,
            attribution=attribution,
            dtype=torch.float16,
        )
        print(f"{imported.version} ← {imported.file.name}")
    total = sum(file.stat().st_size for file in embedded.rglob("*") if file.is_file())
    print(f"{embedded}: {total / 1e6:.1f} MB")
