"""The body of a v2 REST call: JSON, alone or followed by raw tensors (the binary tensor data extension).

Reads and writes bytes; which tensors there are is not known here.
"""

import struct
from typing import Any

import numpy as np
import orjson
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from predictor.errors import InvalidInput

Parameters = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]


class TensorBody(BaseModel):
    """One input tensor."""

    name: StrictStr
    shape: list[StrictInt] = Field(description="[N], [N, 1], or [1] for all prompts")
    datatype: StrictStr
    parameters: Parameters | None = None
    data: list[Any] | None = Field(None, description="absent when the tensor follows the JSON as raw bytes")


class OutputBody(BaseModel):
    """One output tensor that is asked for; with `binary_data` it comes as raw bytes after the JSON."""

    name: StrictStr
    parameters: Parameters | None = None


class InferBody(BaseModel):
    """A request of the Open Inference Protocol v2."""

    id: StrictStr | None = None
    parameters: Parameters | None = Field(
        None, description="fields that hold for all prompts, by the inputs' names; `binary_data_output`"
    )
    inputs: list[TensorBody]
    outputs: list[OutputBody] | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "42",
                "parameters": {"num_inference_steps": 10, "guidance_scale": 2.0},
                "inputs": [
                    {
                        "name": "prompt",
                        "shape": [2],
                        "datatype": "BYTES",
                        "data": ["a red apple", "a happy cat"],
                    },
                    {"name": "seed", "shape": [2], "datatype": "INT64", "data": [1, 2]},
                ],
                "outputs": [{"name": "image"}, {"name": "seed"}, {"name": "lora"}],
            }
        }
    )


def parse_json(body: bytes) -> Any:
    """Parse a body as JSON.

    Raises:
        InvalidInput: it isn't JSON; says where.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("body", f"is not JSON: {error.msg} at character {error.pos}") from None


def decode_body(body: bytes, json_length: str | None, model_name: str) -> InferRequest:
    """Decode the body of a v2 request.

    Args:
        body: the JSON, and after it the raw bytes of every input with a `binary_data_size`, in their order.
        json_length: the header Inference-Header-Content-Length; None: all of the body is JSON.
        model_name: the name the request was sent to.

    Raises:
        InvalidInput: it is no such body.
    """
    if json_length is None:
        head = len(body)
    elif (
        json_length.isascii()
        and json_length.isdigit()
        and len(json_length) < 12
        and int(json_length) <= len(body)
    ):
        head = int(json_length)
    else:
        raise InvalidInput(
            "Inference-Header-Content-Length", f"must be from 0 to the body's length, {len(body)}"
        )
    try:
        parsed = InferBody.model_validate(parse_json(body[:head]))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InvalidInput(
            ".".join(str(part)[:40] for part in first["loc"]) or "body", first["msg"]
        ) from None

    inputs = []
    for tensor in parsed.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if (size is None) == (tensor.data is None):
            raise InvalidInput(tensor.name[:40], "must have either data or the parameter binary_data_size")
        infer_input = InferInput(tensor.name, tensor.shape, tensor.datatype, tensor.data, tensor.parameters)
        if size is not None:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(body) - head:
                raise InvalidInput(
                    tensor.name[:40], f"binary_data_size must be from 0 to {len(body) - head}, the bytes left"
                )
            infer_input._raw_data = body[head : head + size]
            head += size
        inputs.append(infer_input)
    if head != len(body):
        raise InvalidInput(
            "body", f"{len(body) - head} bytes follow that no input claims by binary_data_size"
        )
    outputs = [RequestedOutput(output.name, output.parameters or {}) for output in parsed.outputs or []]
    request = InferRequest(
        model_name, inputs, parsed.id, parameters=parsed.parameters, request_outputs=outputs
    )
    for name, value in [
        ("binary_data_output", (parsed.parameters or {}).get("binary_data_output")),
        *(("binary_data", (output.parameters or {}).get("binary_data")) for output in parsed.outputs or []),
    ]:
        if value is not None and not isinstance(value, bool):
            raise InvalidInput(name, "must be true or false")
    return request


def binary_outputs(request: InferRequest, names: list[str]) -> frozenset[str]:
    """Which of the outputs the caller wants as raw bytes: the output's own parameter beats the request's."""
    everything = bool((request.parameters or {}).get("binary_data_output", False))
    own = {output.name: output.binary_data for output in request.request_outputs or []}
    return frozenset(name for name in names if (everything if own.get(name) is None else own[name]))


def encode_body(response: InferResponse, binary: frozenset[str]) -> tuple[bytes, int | None]:
    """Encode a v2 reply whose outputs hold numpy arrays.

    Returns:
        The body, and the length of its JSON if raw tensors follow (header Inference-Header-Content-Length).
    """
    outputs, tail = [], []
    for output in response.outputs:
        array: np.ndarray[Any, Any] = output.data
        entry: dict[str, Any] = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
        if output.name in binary:
            raw = (
                b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())
                if output.datatype == "BYTES"
                else array.tobytes()
            )
            entry["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            entry["data"] = (
                [item.decode("utf-8") for item in array.ravel()]
                if output.datatype == "BYTES"
                else np.ascontiguousarray(array).ravel()
            )
        outputs.append(entry)
    head = orjson.dumps(
        {
            "model_name": response.model_name,
            "model_version": response.model_version,
            "id": response.id,
            "outputs": outputs,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    return (b"".join([head, *tail]), len(head)) if tail else (head, None)
