"""From a checkpoint folder or a LoRA file to a new version in the store.

Knows which file to take and which never to open; the work itself is done by the modules that it calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from weights import durable
from weights.adapter_config import AdapterConfig
from weights.base import read_base
from weights.canonical import MAX_TENSORS, canonicalize
from weights.errors import CorruptLora, IncompatibleLora, WeightsError
from weights.manifest import Manifest
from weights.pickles import MAX_BYTES, read_pickle
from weights.store import Store
from weights.version import LoraVersion

if TYPE_CHECKING:
    import torch

# In order of preference, each with what its LoRA keys contain. The last two are whole models of accelerate's
# save_state, of which the LoRA's tensors alone are taken. Optimizer, scheduler, scaler and random states are
# never opened.
CANDIDATES = {
    "pytorch_lora_weights.safetensors": "",
    "pytorch_lora_weights.bin": "",
    "adapter_model.safetensors": "",
    "adapter_model.bin": "",
    "model.safetensors": "lora",
    "pytorch_model.bin": "lora",
}
CONFIG = "adapter_config.json"
CONFIG_KEY = "lora_adapter_metadata"
MAX_CONFIG_BYTES = 1 << 20
MAX_NUMBERS = 1 << 29
EXPORT_AGAIN = "Download or export it again"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: the new version, the file it was taken from, and what the user should know."""

    version: LoraVersion
    file: Path
    notes: tuple[str, ...]


def import_lora(
    source: Path,
    *,
    name: str,
    base: Path,
    store: Store,
    alias: str | None = None,
    labels: Mapping[str, str] | None = None,
    origin: str | None = None,
    license: str = "",
    attribution: str = "",
    alpha: float | None = None,
    dtype: torch.dtype | None = None,
) -> Imported:
    """Takes the LoRA out of `source`, checks it against `base`, and adds it to `store` as a new version.

    Args:
        source: an accelerate state folder, a folder with pytorch_lora_weights, or one file.
        name: of the LoRA.
        base: a Stable Diffusion folder.
        store: it is not touched unless everything was found good.
        alias: to point to the new version.
        labels: for the manifest.
        origin: where it came from, for the manifest; the file's name when None.
        license: for the manifest, SPDX.
        attribution: for the manifest.
        alpha: for files that do not tell theirs; rank is taken when None, as diffusers does.
        dtype: of the stored tensors, see `canonicalize`.

    Raises:
        WeightsError: naming the file, the key and the remedy.
    """
    file, contains = _find(Path(source))
    signature = read_base(base)
    try:
        if file.suffix == ".safetensors":
            tensors, config = _read_safetensors(file, contains)
        else:
            tensors, config = read_pickle(file, contains=contains), None
        if not tensors:
            raise IncompatibleLora("holds no LoRA tensors", remedy="Give the folder or file of a LoRA")
        config = config or _config_beside(file)
        lora = canonicalize(tensors, signature, config=config, alpha=alpha, dtype=dtype)
    except WeightsError as error:
        error.file = error.file or str(file)
        raise
    draft = Manifest(
        name=name,
        version=1,
        sha256="",
        created="",
        base_sha256=signature.sha256,
        targets=lora.targets,
        labels=labels or {},
        source=f"{file.absolute().parent.name}/{file.name}" if origin is None else origin,
        license=license,
        attribution=attribution,
    )
    notes = []
    if lora.assumed_alpha:
        notes.append(
            "The file does not tell its alpha: alpha = rank was taken (--lora-alpha says otherwise)."
        )
    return Imported(store.add(lora.tensors, draft, alias=alias), file, tuple(notes))


def _find(source: Path) -> tuple[Path, str]:
    if not source.is_dir():
        return source, CANDIDATES.get(source.name, "")
    for name, contains in CANDIDATES.items():
        if (source / name).exists():
            return source / name, contains
    raise CorruptLora(
        "holds no LoRA", file=source, remedy=f"Give a folder with one of {', '.join(CANDIDATES)}, or a file"
    )


def _read_safetensors(file: Path, contains: str) -> tuple[dict[str, torch.Tensor], AdapterConfig | None]:
    try:
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            raise CorruptLora(f"is no regular file of at most {MAX_BYTES} bytes", remedy="Check the path")
        with safe_open(file, framework="pt") as stream:
            keys = [key for key in stream.keys() if contains in key]  # noqa: SIM118  # no mapping
            if len(keys) > MAX_TENSORS:
                raise IncompatibleLora(f"{len(keys)} LoRA tensors", remedy=f"Give at most {MAX_TENSORS}")
            numbers = sum(math.prod(stream.get_slice(key).get_shape()) for key in keys)
            if numbers > MAX_NUMBERS:
                raise IncompatibleLora(f"{numbers} numbers", remedy=f"Give a LoRA of at most {MAX_NUMBERS}")
            told = (stream.metadata() or {}).get(CONFIG_KEY)
            return {key: stream.get_tensor(key) for key in keys}, told and AdapterConfig.from_json(told)
    except (OSError, SafetensorError) as error:
        raise CorruptLora(f"is truncated or no safetensors file ({error})", remedy=EXPORT_AGAIN) from None


def _config_beside(file: Path) -> AdapterConfig | None:
    beside = file.parent / CONFIG
    if file.name not in CANDIDATES or not beside.exists():
        return None
    try:
        return AdapterConfig.from_json(durable.read(beside.resolve(), MAX_CONFIG_BYTES))
    except WeightsError as error:
        error.file = error.file or str(beside)
        raise
