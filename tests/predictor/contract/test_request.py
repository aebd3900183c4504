"""Requests of v1 and v2 to rows of fields, and written ones back."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve import InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.contract import (
    INPUTS,
    Field,
    PictureRequest,
    decode_body,
    infer_request,
    read_instances,
    read_tensors,
    requested_outputs,
    tenant,
    with_key,
)
from predictor.errors import InvalidInput
from tests.predictor.contract.bodies import read, tensor


def test_the_prompt_alone_is_enough() -> None:
    assert read(tensor("prompt", "BYTES", "a cat", "개")) == [{"prompt": "a cat"}, {"prompt": "개"}]


def test_one_value_holds_for_all_rows_and_a_tensor_beats_a_parameter() -> None:
    rows = read(
        tensor("prompt", "BYTES", ["a"], ["b"], shape=[2, 1]),
        tensor("seed", "INT64", 7),
        tensor("guidance_scale", "FP32", 1, 2.5),
        guidance_scale=9,
        num_inference_steps=3,
    )
    assert rows == [
        {"prompt": "a", "seed": 7, "guidance_scale": 1.0, "num_inference_steps": 3},
        {"prompt": "b", "seed": 7, "guidance_scale": 2.5, "num_inference_steps": 3},
    ]


def test_a_server_may_have_more_fields() -> None:
    fields = (*INPUTS, Field("metadata", "BOOL", (-1,), "put the prompt into the file"))
    body = {"inputs": [tensor("prompt", "BYTES", "a", "b"), tensor("metadata", "BOOL", True, False)]}
    request = decode_body(orjson.dumps(body), None, "emoji")
    assert [row["metadata"] for row in read_tensors(request, 4, fields)] == [True, False]
    message = pb.ModelInferRequest(
        inputs=[
            {"name": "prompt", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
        ],
        parameters={"metadata": pb.InferParameter(bool_param=True)},
    )
    assert read_tensors(InferRequest.from_grpc(message), 4, fields) == [{"prompt": "a", "metadata": True}]
    with pytest.raises(InvalidInput, match=r"^metadata: must be true or false"):
        read_instances({"instances": [{"prompt": "a", "metadata": 1}]}, 4, fields)


def test_instances_are_texts_or_objects_with_shared_parameters() -> None:
    payload = {"instances": ["a", {"prompt": "b", "seed": 3}], "parameters": {"seed": 1, "height": 64}}
    assert read_instances(payload, 4) == [
        {"prompt": "a", "seed": 1, "height": 64},
        {"prompt": "b", "seed": 3, "height": 64},
    ]


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        b"a",
        {},
        {"instances": "a"},
        {"instances": []},
        {"instances": ["a"] * 5},
        {"instances": [1]},
        {"instances": [{"seed": 1}]},
        {"instances": [{"prompt": None}]},
        {"instances": [{"prompt": "a", "steps": 1}]},
        {"instances": ["a"], "parameters": 1},
        {"instances": ["a"], "parameters": {"prompt": "b"}},
        {"instances": ["a"], "signature_name": "x"},
    ],
)
def test_wrong_instances_are_refused(payload: object) -> None:
    with pytest.raises(InvalidInput):
        read_instances(payload, 4)


def test_a_tenant_is_who_the_header_names() -> None:
    assert (tenant(None), tenant({}), tenant({"x-tenant": " acme "})) == ("", "", "acme")
    for odd in ("é", "a\x00b", "a" * 129):
        with pytest.raises(InvalidInput, match=r"^X-Tenant: must have at most 128 printable ASCII"):
            tenant({"x-tenant": odd})


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_headers_key_is_the_same_as_an_inputs(key: str) -> None:
    """HTTP's headers are bytes, and servers hand them on as Latin-1."""
    arrived = {"x-sticky-key": key.encode().decode("latin-1")}
    assert with_key([{"prompt": "a"}, {"sticky_key": "own"}], arrived) == [
        {"prompt": "a", "sticky_key": key},
        {"sticky_key": "own"},
    ]


def test_a_headers_key_that_is_no_utf8_is_taken_as_it_is() -> None:
    for key in ("\xe9", "사용자", ""):  # Latin-1; read as UTF-8 by somebody before; none
        assert with_key([{}], {"x-sticky-key": key}) == ([{"sticky_key": key}] if key else [{}])


def test_requested_outputs_keep_their_order_and_must_exist() -> None:
    def ask(*names: str) -> InferRequest:
        body = {"inputs": [], "outputs": [{"name": name} for name in names]}
        return decode_body(orjson.dumps(body), None, "emoji")

    pictures = [PictureRequest("a"), PictureRequest("b", approximation="none")]
    assert requested_outputs(ask("lora", "image"), pictures) == ("lora", "image")
    assert requested_outputs(ask(), pictures) == ("image", "seed", "lora")
    assert requested_outputs(ask("approximation"), pictures) == ("approximation",)
    pictures.append(PictureRequest("c", approximation="few-steps"))
    assert requested_outputs(ask("lora", "image"), pictures) == ("lora", "image")
    assert requested_outputs(ask(), pictures) == ("image", "seed", "lora", "approximation")
    for names in (("pixels",), ("image", "image")):
        with pytest.raises(InvalidInput, match=r"^outputs: "):
            requested_outputs(ask(*names), pictures)


pictures = st.builds(
    PictureRequest,
    prompt=st.text(),
    negative_prompt=st.text(),
    seed=st.integers(0, 2**63 - 1),
    num_inference_steps=st.integers(1, 2**31 - 1),
    guidance_scale=st.floats(0, 30, width=32),
    lora_scale=st.floats(0, 2, width=32),
    height=st.just(64),
    lora=st.text(),
    timeout=st.floats(0.5, 3600, width=32),
    priority=st.just(-1),
)


@given(st.lists(pictures, min_size=1, max_size=4))
def test_a_written_request_is_read_back_by_grpc_and_by_rest(wanted: list[PictureRequest]) -> None:
    request = infer_request("emoji", wanted, "id-1")
    body, json_length = infer_request("emoji", wanted, "id-1").to_rest()
    over_grpc = InferRequest.from_grpc(pb.ModelInferRequest.FromString(request.to_grpc().SerializeToString()))
    over_rest = decode_body(body, str(json_length), "emoji")
    for received in (over_grpc, over_rest):
        assert received.id == "id-1"
        assert [PictureRequest(**row) for row in read_tensors(received, 4)] == wanted


def test_a_written_request_has_no_holes() -> None:
    with pytest.raises(InvalidInput, match=r"^seed: "):
        infer_request("emoji", [PictureRequest("a", seed=1), PictureRequest("b")])
