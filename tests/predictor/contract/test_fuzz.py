"""Whatever is sent is served or refused: nothing else is raised."""

from contextlib import suppress
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from kserve import InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.contract import (
    INPUTS,
    Field,
    Limits,
    binary_outputs,
    check_pictures,
    decode_body,
    parse_json,
    read_instances,
    read_tensors,
    requested_outputs,
)
from predictor.errors import InvalidInput
from tests.predictor.contract.bodies import tensor

LIMITS = Limits(solvers=("ddim", "euler"))

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
