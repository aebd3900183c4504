"""One tensor, or one parameter, as plain values.

Every value that came over the wire is checked here for datatype, shape, length and encoding. Does not know
which fields a request has.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from kserve import InferInput

from predictor.contract.fields import Field, Value
from predictor.errors import InvalidInput

NUMPY: dict[str, np.dtype[Any]] = {
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "BOOL": np.dtype("?"),
}
_TYPE_NAMES = {
    "BYTES": "a string",
    "INT32": "an integer",
    "INT64": "an integer",
    "FP32": "a number",
    "BOOL": "true or false",
}
_PARSERS: dict[str, Callable[[str], Value]] = {
    "INT32": int,
    "INT64": int,
    "FP32": float,
    "BOOL": {"true": True, "false": False}.__getitem__,
}
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def count_rows(tensor: InferInput) -> int:
    """N of a tensor [N] or [N, 1]. Raises InvalidInput for any other shape."""
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[0] < 0 or (len(shape) == 2 and shape[1] != 1):
        raise InvalidInput(tensor.name, f"must have shape [N] or [N, 1], has {list(shape)}")
    return int(shape[0])


def read_tensor(tensor: InferInput, field: Field, count: int) -> list[Value]:
    """The elements of one field: `count` of them, or a single one for all rows.

    Raises:
        InvalidInput: its datatype, shape, length or encoding is wrong.
    """
    if tensor.datatype != field.datatype:
        raise InvalidInput(field.name, f"must have datatype {field.datatype}, has {quote(tensor.datatype)}")
    rows = count_rows(tensor)
    if rows not in (1, count):
        raise InvalidInput(field.name, f"must hold 1 or {count} values, one a prompt; holds {rows}")
    # as_numpy() of the SDK would do, were it not for its many kinds of exception on a wrong length
    raw = tensor._raw_data
    if raw is not None:
        values = _split_bytes(raw, field, rows) if field.datatype == "BYTES" else _unpack(raw, field, rows)
    else:
        values = _flatten(tensor.data, field, len(tensor.shape))
    if len(values) != rows:
        raise InvalidInput(field.name, f"has shape {list(tensor.shape)} but {len(values)} values")
    return [_element(value, field) for value in values]


def _flatten(data: object, field: Field, rank: int) -> list[object]:
    """The elements of a JSON tensor, which may be nested as its shape is."""
    if not isinstance(data, list):
        raise InvalidInput(field.name, "its data must be a list")
    if rank == 2 and data and all(isinstance(row, list) and len(row) == 1 for row in data):
        return [row[0] for row in data]
    return data


def _unpack(raw: bytes, field: Field, rows: int) -> list[object]:
    """Little-endian numbers, row-major."""
    dtype = NUMPY[field.datatype]
    if len(raw) != rows * dtype.itemsize:
        raise InvalidInput(field.name, f"must have {rows * dtype.itemsize} bytes of data, has {len(raw)}")
    values: list[object] = np.frombuffer(raw, dtype=dtype).tolist()
    return values


def _split_bytes(raw: bytes, field: Field, rows: int) -> list[object]:
    """Elements that each have their length in front, as 4 bytes, little-endian."""
    values: list[object] = []
    offset = 0
    while offset < len(raw) and len(values) <= rows:
        if offset + 4 > len(raw):
            raise InvalidInput(field.name, "its data ends within an element's length")
        (length,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + length > len(raw):
            raise InvalidInput(
                field.name, f"an element says it has {length} bytes, {len(raw) - offset} are left"
            )
        values.append(bytes(raw[offset : offset + length]))
        offset += length
    return values


def _element(value: object, field: Field) -> Value:
    """One element of a tensor, of exactly the field's type."""
    if field.datatype == "BYTES":
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise InvalidInput(field.name, "must be UTF-8 text") from None
    elif isinstance(value, bool):
        if field.datatype == "BOOL":
            return value
    elif isinstance(value, int) and field.datatype != "BOOL":
        if field.datatype != "FP32":
            return value
        return _float32(value, field)
    elif isinstance(value, float) and field.datatype == "FP32":
        return _float32(value, field)
    raise InvalidInput(field.name, f"must be {_TYPE_NAMES[field.datatype]}")


def _float32(value: float, field: Field) -> float:
    """Rounded to FP32, so that JSON, parameters and raw tensors draw the same picture."""
    if not -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
        raise InvalidInput(field.name, "must be a finite number")
    return float(np.float32(value))


def read_scalar(value: object, field: Field) -> Value:
    """A parameter's value; all but text may also come as text, because gRPC's parameters have no floats.

    Raises:
        InvalidInput: it isn't of the field's type.
    """
    if isinstance(value, str) and field.datatype != "BYTES":
        try:
            value = _PARSERS[field.datatype](value)
        except (ValueError, KeyError):
            raise InvalidInput(field.name, f"must be {_TYPE_NAMES[field.datatype]}") from None
    return _element(value, field)


def quote(name: object) -> str:
    """A caller's own word in a message, short and on one line."""
    return repr(str(name)[:40])
