"""Reading a request's tensors and parameters into rows of plain values, and writing such a request.

Which fields there are, and how many rows, is checked here; the fields' ranges are not known here.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from kserve import InferInput, InferRequest
from kserve.protocol.infer_type import InferParameter

from predictor.contract.fields import APPROXIMATION, INPUTS, OUTPUTS, Field, Value
from predictor.contract.pictures import PictureRequest
from predictor.contract.tensor import NUMPY, count_rows, quote, read_scalar, read_tensor
from predictor.errors import InvalidInput

KEY_HEADER = "x-sticky-key"
TENANT_HEADER = "x-tenant"
MAX_TENANT_CHARS = 128
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
            raise InvalidInput("inputs", f"unknown input {quote(tensor.name)}; known: {', '.join(known)}")
        if tensor.name in tensors:
            raise InvalidInput(tensor.name, "is given twice")
        tensors[tensor.name] = tensor
    if "prompt" not in tensors:
        raise InvalidInput("prompt", "a BYTES tensor of shape [N] must be given")
    count = count_rows(tensors["prompt"])
    if not 1 <= count <= max_rows:
        raise InvalidInput("prompt", f"must hold from 1 to {max_rows} prompts, holds {count}")

    shared = _read_parameters(request.parameters or {}, known)
    rows = [dict(shared) for _ in range(count)]
    for name, tensor in tensors.items():
        values = read_tensor(tensor, known[name], count)
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
        raise InvalidInput("body", f"unknown key {quote(min(unknown))}; known: instances, parameters")
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
                raise InvalidInput("instances", f"unknown field {quote(name)}; known: {', '.join(known)}")
        if not isinstance(values.get("prompt"), str):
            raise InvalidInput("prompt", "every instance must have a prompt, a string")
        rows.append(shared | {name: read_scalar(value, known[name]) for name, value in values.items()})
    return rows


def with_key(rows: list[dict[str, Value]], headers: Mapping[str, str] | None) -> list[dict[str, Value]]:
    """The rows, with the key of the request's headers (lower-case) where they have none of their own."""
    key = (headers or {}).get(KEY_HEADER)
    with suppress(UnicodeError):  # bytes, read as Latin-1 on the way here; whoever sent them meant UTF-8
        key = key and key.encode("latin-1").decode("utf-8")
    return [{**({"sticky_key": key} if key else {}), **row} for row in rows]


def tenant(headers: Mapping[str, str] | None) -> str:
    """Who asks, by the request's headers (lower-case); "" where they don't say.

    Raises:
        InvalidInput: the name is not fit to be passed on as a header.
    """
    name = (headers or {}).get(TENANT_HEADER, "").strip()
    if len(name) > MAX_TENANT_CHARS or not (name.isascii() and name.isprintable()):
        raise InvalidInput("X-Tenant", f"must have at most {MAX_TENANT_CHARS} printable ASCII characters")
    return name


def requested_outputs(
    request: InferRequest, pictures: Sequence[PictureRequest], fields: Sequence[Field] = OUTPUTS
) -> tuple[str, ...]:
    """The names of the outputs the caller wants, in its order; if it names none, all that say something of
    these pictures.

    Raises:
        InvalidInput: an output of that name does not exist, or is named twice.
    """
    known = [field.name for field in fields]
    wanted = [output.name for output in request.request_outputs or []]
    for name in wanted:
        if name not in known:
            raise InvalidInput("outputs", f"unknown output {quote(name)}; known: {', '.join(known)}")
        if wanted.count(name) > 1:
            raise InvalidInput("outputs", f"{name} is named twice")
    if not any(picture.approximated for picture in pictures):
        known.remove(APPROXIMATION)
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
            array = np.array(values, dtype=NUMPY[field.datatype])
        tensor = InferInput(field.name, [len(values)], field.datatype)
        tensor.set_data_from_numpy(array, binary_data=True)
        inputs.append(tensor)
    return InferRequest(model_name, inputs, request_id=request_id)


def _read_parameters(parameters: Mapping[str, object], known: Mapping[str, Field]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name in parameters:
        if name in _PROTOCOL_PARAMETERS:
            continue
        if name not in known or name == "prompt":
            allowed = ", ".join(other for other in known if other != "prompt")
            raise InvalidInput("parameters", f"unknown parameter {quote(name)}; known: {allowed}")
        value = parameters[name]
        if isinstance(value, InferParameter):
            kind = value.WhichOneof("parameter_choice")
            value = None if kind is None else getattr(value, kind)
        values[name] = read_scalar(value, known[name])
    return values
