"""LoRA tensors of any layout, checked against a base and brought into the one layout of the store.

Knows tensors, ranks and alphas; does not know files, pickles or the store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from weights.adapter_config import AdapterConfig
from weights.base import Base
from weights.errors import IncompatibleLora
from weights.layouts import Layouts, PartKind
from weights.manifest import MAX_RANK, Target

MAX_TENSORS = 16_384
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OTHER_BASE = "Give the base that the LoRA was trained on"
EXPORT_AGAIN = "The file is incomplete or damaged: export the LoRA again"


@dataclass(frozen=True, slots=True)
class CanonicalLora:
    """A LoRA in the store's layout.

    Args:
        tensors: "unet.<path>.lora_A.weight" [rank, d_in] and "….lora_B.weight" [d_out, rank], alpha / rank
            folded into lora_B; contiguous, on the CPU.
        targets: module path to its rank, alpha and shape.
        assumed_alpha: whether alpha = rank was taken for some module because nothing told it.
    """

    tensors: Mapping[str, torch.Tensor]
    targets: Mapping[str, Target]
    assumed_alpha: bool


def canonicalize(
    tensors: Mapping[str, torch.Tensor],
    base: Base,
    *,
    config: AdapterConfig | None = None,
    alpha: float | None = None,
    dtype: torch.dtype | None = None,
) -> CanonicalLora:
    """Checks every tensor and rewrites the LoRA.

    Args:
        tensors: as they were in the file; each key must be understood, none is passed over.
        base: what it must fit.
        config: the configuration found beside the tensors; an alpha among the tensors goes before it.
        alpha: what the user says; must not contradict the file.
        dtype: of the result. None keeps each tensor's own, or takes float32 where folding is not exact in it.

    Raises:
        IncompatibleLora: naming the key.
    """
    if not 0 < len(tensors) <= MAX_TENSORS:
        raise IncompatibleLora(
            f"{len(tensors)} LoRA tensors", remedy=f"Give a LoRA of 1 to {MAX_TENSORS} tensors"
        )
    modules = _group(tensors, base)
    result: dict[str, torch.Tensor] = {}
    targets: dict[str, Target] = {}
    assumed = False
    for path, keys in modules.items():
        a, b, shape = _matrices(tensors, keys, path, base)
        rank = a.shape[0]
        told = _told_alpha(tensors, keys, path, rank, config)
        if told is not None and alpha is not None and not math.isclose(told, alpha):
            raise IncompatibleLora(
                f"alpha is {told:g} in the file, not {alpha:g}",
                key=keys.get(PartKind.ALPHA, path),
                remedy="Leave the alpha away",
            )
        assumed = assumed or (told is None and alpha is None)
        taken = told or alpha or float(rank)
        targets[path] = Target(rank, taken, shape)
        for part, matrix, factor, key in (
            ("lora_A", a, 1.0, keys[PartKind.A]),
            ("lora_B", b, taken / rank, keys[PartKind.B]),
        ):
            result[f"unet.{path}.{part}.weight"] = _scaled(matrix, factor, dtype, key)
    return CanonicalLora(result, targets, assumed)


def _group(tensors: Mapping[str, torch.Tensor], base: Base) -> dict[str, dict[PartKind, str]]:
    """Module path to the keys of its parts; each module has both matrices, and every part once."""
    modules: dict[str, dict[PartKind, str]] = {}
    adapters = set()
    for key, part in Layouts(base).read(tensors).items():
        other = modules.setdefault(part.path, {}).setdefault(part.kind, key)
        if other != key:
            raise IncompatibleLora(
                f"gives the same matrix as {other}", key=key, remedy="Export one adapter, in one layout"
            )
        if part.kind is not PartKind.ALPHA:
            adapters.add(part.adapter)
    if len(adapters - {None}) > 1:
        names = ", ".join(sorted(name for name in adapters if name))
        raise IncompatibleLora(f"holds several adapters: {names[:200]}", remedy="Export them one by one")
    for path, keys in modules.items():
        for kind in (PartKind.A, PartKind.B):
            if kind not in keys:
                raise IncompatibleLora(
                    f"has no {kind.value} beside it", key=next(iter(keys.values())), remedy=EXPORT_AGAIN
                )
        if base.matrix(path) is None:
            known = path in base.shapes
            raise IncompatibleLora(
                f"{path} is {'neither linear nor a 1x1 convolution' if known else 'no module of the base'}",
                key=keys[PartKind.A],
                remedy="Train a LoRA of linear modules and 1x1 convolutions" if known else OTHER_BASE,
            )
    return dict(sorted(modules.items()))


def _matrices(
    tensors: Mapping[str, torch.Tensor], keys: Mapping[PartKind, str], path: str, base: Base
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    shape = base.matrix(path)
    assert shape is not None  # held by _group
    a, b = (_matrix(tensors[keys[kind]], keys[kind]) for kind in (PartKind.A, PartKind.B))
    rank = a.shape[0]
    if not 1 <= rank <= MAX_RANK:
        raise IncompatibleLora(
            f"rank {rank}", key=keys[PartKind.A], remedy=f"The rank may be 1 to {MAX_RANK}: resize the LoRA"
        )
    if b.shape[1] != rank:
        raise IncompatibleLora(
            f"rank {b.shape[1]}, but {keys[PartKind.A]} has {rank}", key=keys[PartKind.B], remedy=EXPORT_AGAIN
        )
    for kind, has, wants in ((PartKind.A, a.shape[1], shape[1]), (PartKind.B, b.shape[0], shape[0])):
        if has != wants:
            given, wanted = list(tensors[keys[kind]].shape), list(base.shapes[path])
            raise IncompatibleLora(
                f"shape {given} does not fit the base's {wanted} at {path}", key=keys[kind], remedy=OTHER_BASE
            )
    return a, b, shape


def _matrix(tensor: torch.Tensor, key: str) -> torch.Tensor:
    if tensor.dtype not in DTYPES:
        raise IncompatibleLora(
            f"dtype {tensor.dtype}", key=key, remedy="Export the LoRA in float32, float16 or bfloat16"
        )
    if tensor.ndim not in (2, 4) or tensor.shape[2:] not in ((), (1, 1)):
        raise IncompatibleLora(
            f"shape {list(tensor.shape)} is no matrix and no 1x1 convolution",
            key=key,
            remedy="Train a LoRA of linear modules and 1x1 convolutions",
        )
    if not torch.isfinite(tensor).all():
        raise IncompatibleLora(
            "holds NaN or infinity", key=key, remedy="The training diverged: take an earlier checkpoint"
        )
    return tensor.reshape(tensor.shape[:2])


def _told_alpha(
    tensors: Mapping[str, torch.Tensor],
    keys: Mapping[PartKind, str],
    path: str,
    rank: int,
    config: AdapterConfig | None,
) -> float | None:
    key = keys.get(PartKind.ALPHA)
    if key is None:
        return None if config is None else config.alpha_of(path, rank)
    tensor = tensors[key]
    number = tensor.numel() == 1 and tensor.dtype in (*DTYPES, torch.int32, torch.int64)
    value = float(tensor.item()) if number else math.nan
    if not math.isfinite(value) or value <= 0:
        raise IncompatibleLora("is no finite alpha above 0", key=key, remedy=EXPORT_AGAIN)
    return value


def _scaled(matrix: torch.Tensor, factor: float, dtype: torch.dtype | None, key: str) -> torch.Tensor:
    exact = matrix.double() * factor
    if dtype is None:
        own = torch.float32 if matrix.dtype is torch.float64 else matrix.dtype
        dtype = own if torch.equal(exact.to(own).double(), exact) else torch.float32
    # A copy of its own: what came from the file may be a view of something larger.
    result = exact.to(dtype).contiguous().clone()
    if not torch.isfinite(result).all():
        raise IncompatibleLora(f"overflows {dtype}", key=key, remedy="Store it with --dtype float32")
    return result
