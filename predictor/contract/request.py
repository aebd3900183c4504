"""Reading a request's tensors and parameters into rows of plain values, and writing such a request.

Every value that came over the wire is checked here for datatype, shape, length and encoding; the
fields' ranges are not known here.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest
from kserve.protocol.infer_type import InferParameter

from predictor.contract.fields import INPUTS, OUTPUTS, Field, Value
from predictor.contract.pictures import PictureRequest
from predictor.errors import InvalidInput

_NUMPY: dict[str, np.dtype[Any]] = {
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
KEY_HEADER = "x-sticky-key"
# of the protocol, not of this model: says how REST sends the outputs back
_PROTOCOL_PARAMETERS = ("binary_data_output",)


def read_tensors(
    request: InferRequest, max_rows: int, fields: Sequence[Field] = INPUTS
) -> list[dict[str, Value]]:
    """Read an Open Inference Protocol request; `prompt` gives the number of rows N.

    A tensor is [N], [N, 1] or, for every field but the prompt, [1] for all rows; a request-level parameter
    of the same name holds for all rows, and a tensor beats it.

    Returns:
        One dictionary a row with the fields that were given.

    Raises:
        InvalidInput: a name is unknown or given twice, or a datatype, shape, length or encoding is wrong.
    """
    known = {field.name: field for field in fields}
    tensors: dict[str, InferInput] = {}
    for tensor in request.inputs:
        if tensor.name not in known:
            raise InvalidInput("inputs", f"unknown input {_quote(tensor.name)}; known: {', '.join(known)}")
        if tensor.name in tensors:
            raise InvalidInput(tensor.name, "is given twice")
        tensors[tensor.name] = tensor
    if "prompt" not in tensors:
        raise InvalidInput("prompt", "a BYTES tensor of shape [N] must be given")
    count = _rows(tensors["prompt"])
    if not 1 <= count <= max_rows:
        raise InvalidInput("prompt", f"must hold from 1 to {max_rows} prompts, holds {count}")

    shared = _read_parameters(request.parameters or {}, known)
    rows = [dict(shared) for _ in range(count)]
    for name, tensor in tensors.items():
        values = _read_tensor(tensor, known[name], count)
        for row, value in zip(rows, values * count if len(values) == 1 else values, strict=True):
            row[name] = value
    return rows


def read_instances(
    payload: object, max_rows: int, fields: Sequence[Field] = INPUTS
) -> list[dict[str, Value]]:
    """Read a KServe v1 request: `{"instances": ["a prompt" | {"prompt": …, "seed": …}], "parameters": {…}}`.

    Returns and raises as `read_tensors` does.
    """
    known = {field.name: field for field in fields}
    if not isinstance(payload, dict) or not isinstance(payload.get("instances"), list):
        raise InvalidInput("instances", 'the body must be {"instances": [...]}')
    unknown = payload.keys() - {"instances", "parameters"}
    if unknown:
        raise InvalidInput("body", f"unknown key {_quote(min(unknown))}; known: instances, parameters")
    instances = payload["instances"]
    if not 1 <= len(instances) <= max_rows:
        raise InvalidInput("instances", f"must hold from 1 to {max_rows} instances, holds {len(instances)}")
    parameters = payload.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput("parameters", "must be an object")
    shared = _read_parameters(parameters, known)
    rows = []
    for instance in instances:
        values = {"prompt": instance} if isinstance(instance, str) else instance
        if not isinstance(values, dict):
            raise InvalidInput("instances", "every instance must be a string or an object")
        for name in values:
            if name not in known:
                raise InvalidInput("instances", f"unknown field {_quote(name)}; known: {', '.join(known)}")
        if not isinstance(values.get("prompt"), str):
            raise InvalidInput("prompt", "every instance must have a prompt, a string")
        rows.append(shared | {name: _scalar(value, known[name]) for name, value in values.items()})
    return rows


def with_key(rows: list[dict[str, Value]], headers: Mapping[str, str] | None) -> list[dict[str, Value]]:
    """The rows, with the key of the request's headers (lower-case) where they have none of their own."""
    key = (headers or {}).get(KEY_HEADER)
    return [{**({"sticky_key": key} if key else {}), **row} for row in rows]


def requested_outputs(request: InferRequest, fields: Sequence[Field] = OUTPUTS) -> tuple[str, ...]:
    """The names of the outputs the caller wants, in its order; all of them if it names none.

    Raises:
        InvalidInput: an output of that name does not exist, or is named twice.
    """
    known = [field.name for field in fields]
    wanted = [output.name for output in request.request_outputs or []]
    for name in wanted:
        if name not in known:
            raise InvalidInput("outputs", f"unknown output {_quote(name)}; known: {', '.join(known)}")
        if wanted.count(name) > 1:
            raise InvalidInput("outputs", f"{name} is named twice")
    return tuple(wanted or known)


def infer_request(
    model_name: str, pictures: Sequence[PictureRequest], request_id: str | None = None
) -> InferRequest:
    """Write the pictures as an Open Inference Protocol request with raw tensors; `read_tensors` reads it.

    A field that is None in any row must be None in all of them, since a tensor cannot have holes.
    """
    inputs = []
    for field in INPUTS:
        values = [getattr(picture, field.name) for picture in pictures]
        if any(value is None for value in values):
            if any(value is not None for value in values):
                raise InvalidInput(field.name, "must be given for all pictures of one request or for none")
            continue
        if field.datatype == "BYTES":
            array = np.array([value.encode() for value in values], dtype=np.object_)
        else:
            array = np.array(values, dtype=_NUMPY[field.datatype])
        tensor = InferInput(field.name, [len(values)], field.datatype)
        tensor.set_data_from_numpy(array, binary_data=True)
        inputs.append(tensor)
    return InferRequest(model_name, inputs, request_id=request_id)


def _rows(tensor: InferInput) -> int:
    """N of a tensor [N] or [N, 1]."""
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[0] < 0 or (len(shape) == 2 and shape[1] != 1):
        raise InvalidInput(tensor.name, f"must have shape [N] or [N, 1], has {list(shape)}")
    return int(shape[0])


def _read_tensor(tensor: InferInput, field: Field, count: int) -> list[Value]:
    if tensor.datatype != field.datatype:
        raise InvalidInput(field.name, f"must have datatype {field.datatype}, has {_quote(tensor.datatype)}")
    rows = _rows(tensor)
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
    dtype = _NUMPY[field.datatype]
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


def _read_parameters(parameters: Mapping[str, object], known: Mapping[str, Field]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name in parameters:
        if name in _PROTOCOL_PARAMETERS:
            continue
        if name not in known or name == "prompt":
            allowed = ", ".join(other for other in known if other != "prompt")
            raise InvalidInput("parameters", f"unknown parameter {_quote(name)}; known: {allowed}")
        value = parameters[name]
        if isinstance(value, InferParameter):
            kind = value.WhichOneof("parameter_choice")
            value = None if kind is None else getattr(value, kind)
        values[name] = _scalar(value, known[name])
    return values


def _scalar(value: object, field: Field) -> Value:
    """A parameter's value; all but text may also come as text, because gRPC's parameters have no floats."""
    if isinstance(value, str) and field.datatype != "BYTES":
        try:
            value = _PARSERS[field.datatype](value)
        except (ValueError, KeyError):
            raise InvalidInput(field.name, f"must be {_TYPE_NAMES[field.datatype]}") from None
    return _element(value, field)


def _quote(name: object) -> str:
    """A caller's own word in a message, short and on one line."""
    return repr(str(name)[:40])
