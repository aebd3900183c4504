"""One version of a LoRA in its folder: the tensors, and the manifest that they are checked against.

    <folder>/adapter.safetensors   the canonical tensors
    <folder>/manifest.json         what they are

Written once, and checked whenever it is read. Does not know which versions there are, nor their aliases.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weights import durable
from weights.errors import CorruptLora
from weights.manifest import MAX_BYTES, Manifest

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter.safetensors"
MANIFEST = "manifest.json"
MAX_ADAPTER_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class LoraVersion:
    """One version in the store; `str()` is the exact reference, such as "notoemoji@1"."""

    name: str
    version: int
    manifest: Manifest

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def read_version(folder: Path, name: str, number: int) -> LoraVersion:
    """The version in a folder, by its manifest alone.

    Raises:
        CorruptLora: the manifest is damaged, or is that of another version.
    """
    file = folder / MANIFEST
    manifest = Manifest.from_json(durable.read(file, MAX_BYTES), str(file))
    if (manifest.name, manifest.version) != (name, number):
        raise CorruptLora(
            f"is the manifest of {manifest.name}@{manifest.version}",
            file=file,
            remedy="Versions cannot be renamed or copied by hand: import the LoRA again",
        )
    return LoraVersion(name, number, manifest)


def read_tensors(folder: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    """The tensors in a folder, on the CPU; see `Store.load`.

    Raises:
        CorruptLora: when the SHA-256, a key or a shape is not the manifest's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = folder / ADAPTER
    remedy = "Restore the file from its source or import the LoRA again"
    data = durable.read(file, MAX_ADAPTER_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.sha256:
        raise CorruptLora(f"SHA-256 is {digest}, not the manifest's", file=file, remedy=remedy)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CorruptLora(f"is not safetensors ({error})", file=file, remedy=remedy) from None
    wanted: dict[str, tuple[int, ...]] = {}
    for path, target in manifest.targets.items():
        wanted[f"unet.{path}.lora_A.weight"] = (target.rank, target.shape[1])
        wanted[f"unet.{path}.lora_B.weight"] = (target.shape[0], target.rank)
    for key in wanted.keys() | tensors.keys():
        shape = tuple(tensors[key].shape) if key in tensors else None
        if shape != wanted.get(key):
            raise CorruptLora(
                f"shape {shape}, the manifest says {wanted.get(key)}", file=file, key=key, remedy=remedy
            )
    return tensors


def write_version(folder: Path, adapter: bytes, manifest: Manifest) -> None:
    """Fills a new folder, down to the disk; the name of the folder still needs `durable.sync`.

    Args:
        folder: empty.
        adapter: the safetensors file whose SHA-256 the manifest has.
        manifest: complete.

    Raises:
        OSError: it cannot be written.
    """
    durable.write(folder / ADAPTER, adapter)
    durable.write(folder / MANIFEST, manifest.to_json())
    durable.sync(folder)
