"""Bodies of v2 with JSON and binary tensors in one."""

import orjson
import pytest

from predictor.contract import binary_outputs, decode_body
from predictor.errors import InvalidInput


def test_an_output_decides_for_itself_whether_it_is_binary() -> None:
    body = {
        "inputs": [],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "image"}, {"name": "seed", "parameters": {"binary_data": False}}],
    }
    request = decode_body(orjson.dumps(body), None, "emoji")
    assert binary_outputs(request, ["image", "seed"]) == {"image"}
    assert binary_outputs(request, ["image", "seed", "lora"]) == {"image", "lora"}


@pytest.mark.parametrize(
    ("body", "json_length", "field"),
    [
        (b"", None, "body"),
        (b"{", None, "body"),
        (b"\xff", None, "body"),
        (b"[]", None, "body"),
        (b'{"inputs":[{"name":"prompt"}]}', None, "inputs.0.shape"),
        (b'{"inputs":[{"name":"prompt","shape":[1],"datatype":"BYTES"}]}', None, "prompt"),
        (
            b'{"inputs":[{"name":"prompt","shape":["1"],"datatype":"BYTES","data":[]}]}',
            None,
            "inputs.0.shape.0",
        ),
        (b'{"inputs":[],"id":1}', None, "id"),
        (b'{"inputs":[]}x', "13", "body"),
        (b'{"inputs":[]}', "14", "Inference-Header-Content-Length"),
        (b'{"inputs":[]}', "-1", "Inference-Header-Content-Length"),
        (b'{"inputs":[]}', "x", "Inference-Header-Content-Length"),
    ],
)
def test_a_wrong_body_is_refused(body: bytes, json_length: str | None, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_body(body, json_length, "emoji")
    assert caught.value.field == field


@pytest.mark.parametrize("size", [5, -1, True, "4", 1.5])
def test_a_wrong_binary_size_is_refused(size: object) -> None:
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "seed", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": size}}
            ]
        }
    )
    with pytest.raises(InvalidInput, match=r"^seed: binary_data_size"):
        decode_body(head + b"1234", str(len(head)), "emoji")
