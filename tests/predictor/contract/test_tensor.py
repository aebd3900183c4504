"""One tensor or parameter to its values: types, shapes, and what is refused by its name."""

import struct
from typing import Any

import numpy as np
import pytest
from kserve import InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.contract import read_tensors
from predictor.errors import InvalidInput
from tests.predictor.contract.bodies import read, tensor


def test_numbers_in_parameters_may_be_text() -> None:
    rows = read(tensor("prompt", "BYTES", "a"), guidance_scale="1.5", seed="12", height="64", lora="x@1")
    assert rows == [{"prompt": "a", "guidance_scale": 1.5, "seed": 12, "height": 64, "lora": "x@1"}]


def test_floats_are_the_same_by_every_way() -> None:
    raw = InferInput("lora_scale", [1], "FP32")
    raw.set_data_from_numpy(np.array([0.1], dtype=np.float32))
    prompt = InferInput("prompt", [1], "BYTES", ["a"])
    ways = [
        read(tensor("prompt", "BYTES", "a"), tensor("lora_scale", "FP32", 0.1)),
        read(tensor("prompt", "BYTES", "a"), lora_scale=0.1),
        read(tensor("prompt", "BYTES", "a"), lora_scale="0.1"),
        read_tensors(InferRequest("emoji", [prompt, raw]), 4),
    ]
    assert all(rows == ways[0] for rows in ways)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ([], "prompt"),
        ([tensor("prompt", "BYTES")], "prompt"),
        ([tensor("prompt", "BYTES", *"abcde")], "prompt"),
        ([tensor("prompt", "BYTES", "a", shape=[1, 2])], "prompt"),
        ([tensor("prompt", "BYTES", "a", shape=[])], "prompt"),
        ([tensor("prompt", "BYTES", "a", shape=[-1])], "prompt"),
        ([tensor("prompt", "BYTES", "a", shape=[2])], "prompt"),
        ([tensor("prompt", "BYTES", 1)], "prompt"),
        ([tensor("prompt", "BYTES", None)], "prompt"),
        ([tensor("prompt", "FP32", 1)], "prompt"),
        ([tensor("prompt", "BYTES", "a"), tensor("prompt", "BYTES", "b")], "prompt"),
        ([tensor("prompt", "BYTES", "a"), tensor("sed", "INT64", 1)], "inputs"),
        ([tensor("prompt", "BYTES", "a"), tensor("seed", "INT32", 1)], "seed"),
        ([tensor("prompt", "BYTES", "a"), tensor("seed", "INT64", 1.5)], "seed"),
        ([tensor("prompt", "BYTES", "a"), tensor("seed", "INT64", True)], "seed"),
        ([tensor("prompt", "BYTES", "a"), tensor("seed", "INT64", "1")], "seed"),
        ([tensor("prompt", "BYTES", *"abc"), tensor("seed", "INT64", 1, 2)], "seed"),
        ([tensor("prompt", "BYTES", "a"), tensor("guidance_scale", "FP32", 1e39)], "guidance_scale"),
        ([tensor("prompt", "BYTES", "a"), tensor("guidance_scale", "FP32", [1])], "guidance_scale"),
    ],
)
def test_a_wrong_tensor_is_refused_by_its_name(inputs: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(*inputs)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"sed": 1}, "parameters"),
        ({"prompt": "a"}, "parameters"),
        ({"seed": 1.5}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"guidance_scale": "nan"}, "guidance_scale"),
        ({"guidance_scale": "1e999"}, "guidance_scale"),
        ({"guidance_scale": True}, "guidance_scale"),
        ({"lora": 1}, "lora"),
        ({"binary_data_output": "yes"}, "binary_data_output"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tensor("prompt", "BYTES", "a"), **parameters)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [
        ("BYTES", b"\x01\x00"),
        ("BYTES", struct.pack("<I", 5) + b"abc"),
        ("BYTES", struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b"),
        ("BYTES", struct.pack("<I", 2) + b"\xff\xfe"),
        ("BYTES", b""),
    ],
)
def test_raw_text_of_a_wrong_length_or_encoding_is_refused(datatype: str, raw: bytes) -> None:
    prompt = InferInput("prompt", [1], datatype)
    prompt._raw_data = raw
    with pytest.raises(InvalidInput, match=r"^prompt: "):
        read_tensors(InferRequest("emoji", [prompt]), 4)


def test_raw_numbers_of_a_wrong_length_are_refused() -> None:
    seed = InferInput("seed", [1], "INT64")
    seed._raw_data = b"\x00" * 7
    with pytest.raises(InvalidInput, match=r"^seed: must have 8 bytes of data, has 7"):
        read_tensors(InferRequest("emoji", [InferInput("prompt", [1], "BYTES", ["a"]), seed]), 4)


def test_grpc_contents_in_the_wrong_field_are_refused() -> None:
    message = pb.ModelInferRequest(
        inputs=[
            {"name": "prompt", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
            {"name": "seed", "datatype": "INT64", "shape": [1], "contents": {"fp32_contents": [1.0]}},
        ]
    )
    with pytest.raises(InvalidInput, match=r"^seed: has shape"):
        read_tensors(InferRequest.from_grpc(message), 4)
