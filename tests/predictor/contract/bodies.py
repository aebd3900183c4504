"""v2 requests as their callers write them in JSON."""

from typing import Any

import orjson

from predictor.contract import decode_body, read_tensors


def tensor(name: str, datatype: str, *data: Any, shape: list[int] | None = None) -> dict[str, Any]:
    """A vector of `data`, unless it has another shape."""
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(data)] if shape is None else shape,
        "data": list(data),
    }


def read(*inputs: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a request with these tensors and parameters, four at most."""
    body = orjson.dumps({"inputs": inputs, "parameters": parameters})
    return read_tensors(decode_body(body, None, "emoji"), max_rows=4)
