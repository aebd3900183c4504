"""The signature of a base model: a hash, and the shape of every weight of its UNet.

Reads configurations and safetensors headers; tensors are hashed as bytes and never loaded.
Does not know LoRAs or pipelines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from weights.errors import IncompatibleLora, UnusableBase
from weights.manifest import Target

WEIGHTS = "diffusion_pytorch_model"
UNET_CLASS = "UNet2DConditionModel"
MAX_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Base:
    """What a LoRA must fit.

    Args:
        folder: where it was read.
        sha256: over the UNet's configuration (but for fields that begin with "_") and its weight files;
            another precision of the same model has another hash.
        shapes: module path to the shape of its weight, for all weights of two or more dimensions.
        layers_per_block: of the UNet, None where its blocks differ.
    """

    folder: Path
    sha256: str
    shapes: Mapping[str, tuple[int, ...]]
    layers_per_block: int | None

    def matrix(self, path: str) -> tuple[int, int] | None:
        """(d_out, d_in) of an nn.Linear or a 1x1 convolution; None for any other module, or none."""
        shape = self.shapes.get(path, ())
        if path == "class_embedding" or len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)):
            return None
        return shape[0], shape[1]

    def check(self, targets: Mapping[str, Target]) -> None:
        """Raises IncompatibleLora naming the first module that this base lacks or has in another shape."""
        for path, target in targets.items():
            if self.matrix(path) != target.shape:
                raise IncompatibleLora(
                    f"shape {list(target.shape)} does not fit the base's {self.matrix(path)}",
                    key=path,
                    remedy="Give the base that the LoRA was trained on",
                )


def read_base(folder: Path) -> Base:
    """Reads the signature of a Stable Diffusion folder, or of its UNet's folder.

    Raises:
        UnusableBase: naming the file at fault.
    """
    folder = Path(folder)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _read_json(unet / "config.json")
    if config.get("_class_name", UNET_CLASS) != UNET_CLASS:
        raise UnusableBase(
            f"is a {config['_class_name']!r}, not a {UNET_CLASS}",
            file=unet / "config.json",
            remedy="Give the folder of a Stable Diffusion 1.x or 2.x model",
        )
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _weight_files(unet):
        shapes.update(_shapes(file))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    layers = config.get("layers_per_block", 2)
    return Base(folder, digest.hexdigest(), shapes, layers if type(layers) is int else None)


def _weight_files(unet: Path) -> list[Path]:
    index = unet / f"{WEIGHTS}.safetensors.index.json"
    if index.is_file():
        names = set(map(str, _read_json(index).get("weight_map", {}).values()))
        if not names or any(Path(name).name != name for name in names):
            raise UnusableBase("names no files beside it", file=index, remedy="Download the base again")
        return [unet / name for name in sorted(names)]
    for variant in ("", ".fp16", ".bf16"):
        file = unet / f"{WEIGHTS}{variant}.safetensors"
        if file.is_file():
            return [file]
    raise UnusableBase(
        f"holds no {WEIGHTS}.safetensors",
        file=unet,
        remedy="Give a diffusers folder with safetensors; save_pretrained writes one",
    )


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, framework="np") as header:
            shapes = {key: tuple(header.get_slice(key).get_shape()) for key in header.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UnusableBase(f"cannot be read ({error})", file=file, remedy="Download the base again") from None
    return {
        key.removesuffix(".weight"): shape
        for key, shape in shapes.items()
        if key.endswith(".weight") and len(shape) >= 2
    }


def _read_json(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            document = json.loads(stream.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableBase(
            f"cannot be read ({error})", file=file, remedy="Give a diffusers Stable Diffusion folder"
        ) from None
    if not isinstance(document, dict):
        raise UnusableBase(
            "is not a JSON object", file=file, remedy="Give a diffusers Stable Diffusion folder"
        )
    return document
