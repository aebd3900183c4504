"""A catalogue of files that an import must refuse. `python -m tests.weights.attacks FOLDER` writes them all.

Those that would run code only make a file named in MARKER, if anything ever ran them.
"""

import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

MARKER = "/tmp/weights-attack-was-run"
KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"
OTHER = KEY.replace("lora_A", "lora_B")
PAIR = {KEY: torch.ones(2, 8), OTHER: torch.ones(8, 2)}


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


RUN = Call(os.system, f"touch {MARKER}")


def saved(payload: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    torch.save(payload, stream, pickle_protocol=protocol)
    return stream.getvalue()


def rezipped(
    change: Callable[[dict[str, bytes]], object], compression: int = zipfile.ZIP_STORED, payload: Any = PAIR
) -> bytes:
    """An archive of torch.save, its records changed and zipped again."""
    with zipfile.ZipFile(io.BytesIO(saved(payload))) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there twice is on purpose
        for name, data in records.items():
            archive.writestr(name.removesuffix("#again"), data)
    return stream.getvalue()


def append(name: str, data: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda records: records.update({name: records.get(name, b"") + data})


def lying_about_sizes() -> bytes:
    """The central directory says that a record is a terabyte."""
    data = bytearray(saved(PAIR))
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    return bytes(data)


def tensor_of(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Call:
    """A tensor whose shape need not fit its storage."""
    typed = torch.storage.TypedStorage(
        wrap_storage=storage.untyped_storage(), dtype=storage.dtype, _internal=True
    )
    return Call(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, OrderedDict())


def with_attributes() -> Any:
    state = OrderedDict(PAIR)
    state._metadata = RUN  # type: ignore[attr-defined]
    return state


def deep() -> bytes:
    """Lists within each other, so many that whoever recurses runs out of stack."""
    pickled = b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b"."
    return rezipped(lambda records: records.update({"archive/data.pkl": pickled}))


# File name to bytes and what the refusal says.
PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "os-system": (lambda: saved({KEY: RUN}), "system"),
    "nested-call": (lambda: saved({KEY: [(1, {"a": [RUN]})]}), "system"),
    "call-in-attributes": (lambda: saved(with_attributes()), "system"),
    "eval": (lambda: saved({KEY: Call(eval, "1")}), "eval"),
    "getattr": (lambda: saved({KEY: Call(getattr, PAIR, "clear")}), "getattr"),
    "torch-load": (lambda: saved({KEY: Call(torch.load, MARKER)}), r"torch\.serialization"),
    "protocol-4": (lambda: saved({KEY: RUN}, 4), "FRAME|SHORT_BINUNICODE|MEMOIZE|STACK_GLOBAL"),
    "plain-pickle": (lambda: pickle.dumps({KEY: RUN}), "zip format"),
    "second-pickle": (
        lambda: rezipped(append("archive/data.pkl", pickle.dumps(RUN))),
        "goes on after its end",
    ),
    "two-pickles": (
        lambda: rezipped(lambda records: records.update({"archive/data.pkl#again": pickle.dumps(RUN)})),
        "no archive of torch.save",
    ),
    "torchscript": (lambda: rezipped(append("archive/code/__torch__.py", b"")), "no entry of torch.save"),
    "path-traversal": (lambda: rezipped(append("archive/../../evil", b"x")), "no entry of torch.save"),
    "absolute-path": (lambda: rezipped(append("/etc/evil", b"x")), "no archive of torch.save"),
    "zip-bomb": (
        lambda: rezipped(append("archive/data/9", bytes(64 << 20)), zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "many-entries": (
        lambda: rezipped(lambda records: records.update({f"archive/data/{n}": b"" for n in range(20_001)})),
        r"200\d\d entries",
    ),
    "lying-sizes": (lying_about_sizes, "more than the file"),
    "large-pickle": (lambda: rezipped(append("archive/data.pkl", bytes(9 << 20))), "larger than"),
    "endless-stride": (lambda: saved({KEY: torch.ones(1).expand(1 << 40)}), "more than the file can hold"),
    "huge-shape": (
        lambda: saved({KEY: tensor_of(torch.ones(2), 0, (1 << 20, 1 << 20), (1 << 20, 1))}),
        "cannot be read as tensors|more than",
    ),
    "negative-offset": (lambda: saved({KEY: tensor_of(torch.ones(2), -8, (2,), (1,))}), "cannot be read"),
    "deep-lists": (deep, "not a dictionary"),
    "big-endian": (
        lambda: rezipped(lambda records: records.update({"archive/byteorder": b"big"})),
        "byte order",
    ),
    "list": (lambda: saved([PAIR]), "not a dictionary"),
    "numbers": (lambda: saved({KEY: 5}), "not a tensor"),
    "sparse": (lambda: saved({KEY: torch.ones(2, 2).to_sparse()}), "sparse"),
    "truncated": (lambda: saved(PAIR)[:-40], "truncated"),
    "beginning-lost": (lambda: saved(PAIR)[40:], "zip format"),
    "damaged-pickle": (lambda: saved(PAIR).replace(b"ctorch._utils", b"\xfftorch._utils"), "damaged"),
    "empty": (bytes, "zip format"),
    "html": (lambda: b"<!doctype html><title>Not found</title>", "zip format"),
    "git-lfs-pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "zip format"),
}


def with_header(header: Mapping[str, Any] | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "overlapping": (
        lambda: with_header({KEY: entry([2, 8], 0, 64), OTHER: entry([8, 2], 0, 64)}, bytes(128)),
        "no safetensors",
    ),
    "beyond-the-end": (lambda: with_header({KEY: entry([2, 8], 0, 64)}, bytes(32)), "no safetensors"),
    "hole": (lambda: with_header({KEY: entry([2, 8], 64, 128)}, bytes(128)), "no safetensors"),
    "absurd-shape": (
        lambda: with_header({KEY: entry([1 << 40, 1 << 40], 0, 64)}, bytes(64)),
        "no safetensors",
    ),
    "overflowing-shape": (lambda: with_header({KEY: entry([1 << 62, 8], 0, 0)}), "no safetensors"),
    "negative-shape": (lambda: with_header({KEY: entry([-2, 8], 0, 64)}, bytes(64)), "no safetensors"),
    "huge-header": (lambda: with_header(b"{}", length=1 << 60), "no safetensors"),
    "cut-header": (lambda: save(PAIR)[:40], "no safetensors"),
    "cut-body": (lambda: save(PAIR)[:-1], "no safetensors"),
    "trailing-bytes": (lambda: save(PAIR) + b"x", "no safetensors"),
    "unknown-dtype": (lambda: with_header({KEY: entry([2, 8], 0, 64, "F99")}, bytes(64)), "no safetensors"),
    "no-json": (lambda: with_header(b"\xff" * 64), "no safetensors"),
    "deep-json": (lambda: with_header(b"[" * 100_000), "no safetensors"),
    "pickle-inside": (lambda: saved({KEY: RUN}), "no safetensors"),
    "empty": (bytes, "no safetensors"),
    "no-tensors": (lambda: save({}), "holds no LoRA tensors"),
    "nan": (lambda: save({**PAIR, KEY: torch.full((2, 8), torch.nan)}), "NaN"),
    "infinity": (lambda: save({**PAIR, OTHER: torch.full((8, 2), -torch.inf)}), "infinity"),
    "integers": (lambda: save({**PAIR, KEY: torch.ones(2, 8, dtype=torch.int32)}), "int32"),
    "no-lora": (lambda: save({"conv_in.weight": torch.ones(2)}), "no key of a known LoRA layout"),
    "path-traversal": (
        lambda: save({k.replace("mid_block", "../../../etc"): t for k, t in PAIR.items()}),
        "no module of the base",
    ),
    "wrong-base": (
        lambda: save({KEY: torch.ones(2, 320), OTHER: torch.ones(320, 2)}),
        "does not fit the base",
    ),
    "rank-0": (lambda: save({KEY: torch.ones(0, 8), OTHER: torch.ones(8, 0)}), "rank 0"),
    "rank-257": (lambda: save({KEY: torch.ones(257, 8), OTHER: torch.ones(8, 257)}), "rank 257"),
    "half-a-pair": (lambda: save({KEY: PAIR[KEY]}), "has no lora_B"),
    "dora": (lambda: save({**PAIR, KEY.replace("lora_A", "lora_magnitude_vector"): torch.ones(8)}), "DoRA"),
    "text-encoder": (
        lambda: save(
            {**PAIR, "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.ones(2, 8)}
        ),
        "text encoder",
    ),
    "unknown-extra": (lambda: save({**PAIR, "emb_params": torch.ones(1)}), "no key of a known LoRA layout"),
    "bad-metadata": (lambda: save(PAIR, {"lora_adapter_metadata": "{"}), "no configuration of a LoRA"),
    "pissa": (lambda: save(PAIR, {"lora_adapter_metadata": '{"init_lora_weights": "pissa"}'}), "pissa"),
}


def write_catalogue(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for catalogue, suffix in ((PICKLES, "bin"), (SAFETENSORS, "safetensors")):
        for name, (make, _) in catalogue.items():
            (folder / f"{name}.{suffix}").write_bytes(make())


if __name__ == "__main__":
    write_catalogue(Path(sys.argv[1]))
