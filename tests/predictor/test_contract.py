import base64
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.contract import (
    EXACTLY,
    INPUTS,
    Field,
    Limits,
    PictureRequest,
    binary_outputs,
    check_pictures,
    decode_body,
    encode_body,
    infer_request,
    infer_response,
    parse_json,
    predictions,
    read_instances,
    read_tensors,
    requested_outputs,
    tenant,
)
from predictor.errors import InvalidInput, QueueFull

LIMITS = Limits(solvers=("ddim", "euler"))


def tensor(name: str, datatype: str, *data: Any, shape: list[int] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(data)] if shape is None else shape,
        "data": list(data),
    }


def read(*inputs: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    body = orjson.dumps({"inputs": inputs, "parameters": parameters})
    return read_tensors(decode_body(body, None, "emoji"), max_rows=4)


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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": " \n"}, "prompt: must not be empty"),
        ({"prompt": "a" * 1001}, "prompt: must have at most 1000 characters, has 1001"),
        ({"negative_prompt": "a" * 1001}, "negative_prompt: must have at most 1000 characters, has 1001"),
        ({"seed": -1}, "seed: must be from 0 to 9223372036854775807, got -1"),
        ({"seed": 2**63}, f"seed: must be from 0 to 9223372036854775807, got {2**63}"),
        ({"num_inference_steps": 0}, "num_inference_steps: must be from 1 to 100, got 0"),
        ({"num_inference_steps": 101}, "num_inference_steps: must be from 1 to 100, got 101"),
        ({"guidance_scale": -0.5}, "guidance_scale: must be from 0 to 30.0, got -0.5"),
        ({"guidance_scale": float("nan")}, "guidance_scale: must be from 0 to 30.0, got nan"),
        ({"lora_scale": 2.5}, "lora_scale: must be from 0 to 2.0, got 2.5"),
        ({"height": 2048}, "height: must be from 8 to 1024, got 2048"),
        ({"width": 100}, "width: must be a multiple of 8, got 100"),
        ({"solver": "magic"}, "solver: must be one of ddim, euler"),
        ({"timeout": 0.0}, "timeout: must be more than 0 and at most 3600 seconds, got 0.0"),
        ({"timeout": float("nan")}, "timeout: must be more than 0 and at most 3600 seconds, got nan"),
        ({"priority": -4}, "priority: must be from -3 to 3, got -4"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_pictures([{"prompt": "a", **row}], LIMITS)
    assert caught.value.message == message


def test_the_ends_of_the_ranges_are_accepted() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "seed": 0, "num_inference_steps": 1, "guidance_scale": 0.0, "height": 8},
        {"prompt": "a" * 1000, "seed": 2**63 - 1, "num_inference_steps": 100, "lora_scale": 2.0, "height": 8},
    ]
    terms: list[dict[str, Any]] = [{"timeout": 0.001, "priority": -3}, {"timeout": 3600.0, "priority": 3}]
    for own in terms:
        assert check_pictures([{**row, **own} for row in rows], LIMITS)[0].timeout == own["timeout"]
    assert check_pictures(rows, LIMITS) == [PictureRequest(**row) for row in rows]


@pytest.mark.parametrize(
    ("field", "values"), [("width", (8, 16)), ("timeout", (1.0, 2.0)), ("priority", (0, 1))]
)
def test_all_pictures_of_a_request_have_one_size_and_the_same_terms(field: str, values: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: must be the same"):
        check_pictures([{"prompt": "a", field: value} for value in values], LIMITS)


def test_a_tenant_is_who_the_header_names() -> None:
    assert (tenant(None), tenant({}), tenant({"x-tenant": " acme "})) == ("", "", "acme")
    for odd in ("é", "a\x00b", "a" * 129):
        with pytest.raises(InvalidInput, match=r"^X-Tenant: must have at most 128 printable ASCII"):
            tenant({"x-tenant": odd})


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


def response(outputs: tuple[str, ...] = ("image", "seed", "lora")) -> InferResponse:
    return infer_response(
        model_name="notoemoji",
        model_version="3",
        response_id="r",
        images=np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3),
        seeds=[1, 2**63 - 1],
        loras=["notoemoji@3", "none"],
        outputs=outputs,
    )


@pytest.mark.parametrize("binary", [(), ("image",), ("image", "seed", "lora")])
def test_a_rest_reply_is_read_by_the_sdk(binary: tuple[str, ...]) -> None:
    body, json_length = encode_body(response(), frozenset(binary))
    assert (json_length is None) == (not binary)
    read_back = InferResponse.from_bytes(body, len(body) if json_length is None else json_length)
    image, seed, lora = read_back.outputs
    np.testing.assert_array_equal(image.as_numpy(), response().outputs[0].data)
    assert image.as_numpy().dtype == np.uint8
    assert seed.as_numpy().tolist() == [1, 2**63 - 1]
    assert lora.data == ["notoemoji@3", "none"]
    assert (read_back.model_name, read_back.id) == ("notoemoji", "r")


def test_a_grpc_reply_is_raw() -> None:
    message = response(("lora", "image")).to_grpc()
    assert [output.name for output in message.outputs] == ["lora", "image"]
    assert message.raw_output_contents[1] == bytes(range(120))
    assert (message.model_version, message.id) == ("3", "r")


def test_predictions_hold_raw_pixels_in_base64() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    first, second = predictions(images, [1, 2], ["a@1", "none"], [EXACTLY] * 2)["predictions"]
    assert (first["seed"], first["lora"], second["lora"]) == (1, "a@1", "none")
    picture: Any = second["image"]
    pixels = np.frombuffer(base64.b64decode(picture["b64"]), picture["datatype"].lower())
    np.testing.assert_array_equal(pixels.reshape(picture["shape"]), images[1])


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


LABEL = {"name": "few-steps", "quality": {"right_emoji": 0.9}}


def test_an_approximation_is_labelled_and_an_exact_picture_is_not() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    exact, approximate = predictions(images, [1, 2], ["a@1", "a@1"], [EXACTLY, LABEL])["predictions"]
    assert "approximation" not in exact
    assert approximate["approximation"] == LABEL
    reply = infer_response(
        model_name="emoji",
        model_version="1",
        response_id="r",
        images=images,
        seeds=[1, 2],
        loras=["a@1"] * 2,
        approximations=[EXACTLY, LABEL],
        outputs=("approximation",),
    )
    assert [orjson.loads(text) for text in reply.outputs[0].data] == [{"name": "none"}, LABEL]


def test_which_approximations_there_are_depends_on_the_server() -> None:
    def check(**fields: Any) -> PictureRequest:
        limits = Limits(solvers=("ddim",), approximations=("none", "block-cache:2", "few-steps"))
        return check_pictures([{"prompt": "a", **fields}], limits)[0]

    assert not check().approximated
    assert not check(approximation="none", num_inference_steps=3).approximated
    assert check(approximation="block-cache:2", num_inference_steps=3, solver="ddim").approximated
    assert check(approximation="few-steps", guidance_scale=2.0).approximated
    for wrong in ("", "block-cache", "block-cache:1", "None"):
        with pytest.raises(InvalidInput, match=r"^approximation: .*none, block-cache:2, few-steps$"):
            check(approximation=wrong)
    for chosen in ({"num_inference_steps": 3}, {"solver": "ddim"}):
        with pytest.raises(InvalidInput, match=r"^approximation: few-steps chooses"):
            check(approximation="few-steps", **chosen)


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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([field.name for field in INPUTS]) | st.text(max_size=5)
tensors = st.fixed_dictionaries(
    {
        "name": names,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "datatype": st.sampled_from(["BYTES", "INT64", "INT32", "FP32", "FP16", "BOOL", ""]) | json_values,
    },
    optional={"data": st.lists(json_values, max_size=4) | json_values, "parameters": json_values},
)
prompts = st.just(tensor("prompt", "BYTES", "a", "b"))
parameters = st.dictionaries(names, json_values, max_size=3)
bodies = st.fixed_dictionaries(
    {"inputs": st.lists(prompts | tensors, max_size=3) | json_values},
    optional={
        "id": json_values,
        "parameters": parameters | json_values,
        "outputs": st.lists(st.fixed_dictionaries({"name": names | json_values}), max_size=2) | json_values,
    },
)


def serve_v2(body: bytes, json_length: str | None) -> None:
    request = decode_body(body, json_length, "emoji")
    check_pictures(read_tensors(request, 4), LIMITS)
    binary_outputs(request, list(requested_outputs(request, [])))


@given(bodies, st.binary(max_size=8), st.none() | st.text(max_size=3) | st.integers(0, 300).map(str))
def test_any_v2_body_is_served_or_refused(body: dict[str, Any], tail: bytes, json_length: str | None) -> None:
    with suppress(InvalidInput):
        serve_v2(orjson.dumps(body) + tail, json_length)


@given(
    st.fixed_dictionaries(
        {"instances": st.lists(st.text(max_size=3) | parameters | json_values, max_size=4) | json_values},
        optional={"parameters": parameters | json_values},
    )
    | json_values
)
def test_any_v1_body_is_served_or_refused(payload: object) -> None:
    with suppress(InvalidInput):
        check_pictures(read_instances(parse_json(orjson.dumps(payload)), 4), LIMITS)


raw_tensors = st.tuples(
    st.sampled_from(INPUTS), st.lists(st.integers(-1, 3), max_size=3), st.binary(max_size=24)
)


@given(st.lists(raw_tensors, max_size=3))
def test_any_raw_grpc_message_is_served_or_refused(parts: list[tuple[Field, list[int], bytes]]) -> None:
    message = pb.ModelInferRequest(
        inputs=[
            {"name": field.name, "datatype": field.datatype, "shape": shape} for field, shape, _ in parts
        ],
        raw_input_contents=[raw for _, _, raw in parts],
    )
    with suppress(InvalidInput):
        check_pictures(read_tensors(InferRequest.from_grpc(message), 4), LIMITS)


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.2, "1"), (1.1, "2"), (1e9, "3600"), (float("inf"), "3600")]
)
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    assert QueueFull(seconds).headers == {"Retry-After": header}
