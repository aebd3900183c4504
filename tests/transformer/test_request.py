"""What a request may ask for: ranges, limits, and the media types that it accepts."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kserve import InferInput, InferRequest

from predictor.errors import InvalidInput, ServingError
from tests.transformer.stages import prepare, rows_sent, v2
from transformer.model import EmojiModel
from transformer.request import FIELDS, NotAcceptable, accepted_formats


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"language": "fr"}, "language: must be one of auto, ko, en"),
        ({"format": "gif"}, "format: must be one of png, webp, jpeg"),
        ({"format": "png", "output_format": "webp"}, "output_format: says something else than format"),
        ({"quality": 0}, "quality: must be from 1 to 100, got 0"),
        ({"quality": 101}, "quality: must be from 1 to 100, got 101"),
        ({"size": 0}, "size: must be from 1 to 256, got 0"),
        ({"size": 257}, "size: must be from 1 to 256, got 257"),
        ({"background": "red"}, "background: must be one of opaque, transparent"),
        ({"background": "transparent", "format": "jpg"}, "background: JPEG has no transparency"),
        ({"metadata": True, "format": "webp"}, "metadata: is written into PNG only"),
        ({"timeout_ms": 0}, "timeout_ms: must be from 1"),
        ({"num_inference_steps": 2**31}, "num_inference_steps: must be from 1"),
        ({"seed": -1}, "seed: must be from 0"),
        ({"lora": "a:0.7+b:x"}, "lora: must be like name or name:0.7+other:0.3"),
        ({"colour": "red"}, "parameters: unknown parameter 'colour'"),
    ],
)
def test_what_is_out_of_range_is_named_with_its_range(
    model: EmojiModel, parameters: dict[str, Any], message: str
) -> None:
    for payload in (v2(["a"], parameters), {"instances": ["a"], "parameters": parameters}):
        with pytest.raises(InvalidInput) as refused:
            prepare(model, payload)
        assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "prompt: must hold from 1 to 3 prompts, holds 0"),
        (["a"] * 4, "prompt: must hold from 1 to 3 prompts, holds 4"),
        (["a" * 41], "prompt: must have at most 40 characters, has 41"),
        (["\t "], "prompt: must not be empty"),
    ],
)
def test_limits_come_before_any_work(model: EmojiModel, prompts: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        prepare(model, v2(prompts))
    assert str(refused.value) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
names = st.sampled_from([field.name for field in FIELDS]) | st.text(max_size=8)
fields = st.dictionaries(
    names, json_values | st.sampled_from(["png", "ko", "transparent", 1, 64]), max_size=4
)
instances = st.lists(
    json_values | fields | fields.map(lambda given: {"prompt": "고양이"} | given), max_size=4
)
tensors = st.lists(
    st.builds(
        lambda name, shape, datatype, data: InferInput(name, shape, datatype, data),
        names,
        st.lists(st.integers(-1, 3), max_size=3),
        st.sampled_from(["BYTES", "INT64", "INT32", "FP32", "BOOL", "FP16", "x"]),
        st.lists(json_values, max_size=3) | st.none(),
    ),
    max_size=3,
)


def status_of(model: EmojiModel, payload: Any) -> int:
    """The status of preprocess; what it accepts, the predictor must be able to read."""
    try:
        job = prepare(model, payload)
    except ServingError as error:
        return error.http_status
    assert all(row["prompt"] for row in rows_sent(job))
    return 200


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({"instances": instances}, optional={"parameters": fields}) | json_values)
def test_no_v1_body_is_an_error_inside(model: EmojiModel, payload: Any) -> None:
    assert status_of(model, payload) in (200, 400)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors, fields)
def test_no_v2_request_is_an_error_inside(
    model: EmojiModel, inputs: list[InferInput], parameters: dict[str, Any]
) -> None:
    prompt = InferInput("prompt", [1], "BYTES", ["웃는 강아지"])
    request = InferRequest("notoemoji", [prompt, *inputs], "1", parameters=parameters)
    assert status_of(model, request) in (200, 400)


def test_a_format_that_was_asked_for_must_be_accepted(model: EmojiModel) -> None:
    accept = {"accept": "image/png, image/webp"}
    assert prepare(model, v2(["a"], {"format": "webp"}), accept).wishes[0].finish.format == "webp"
    assert prepare(model, v2(["a"]), accept).wishes[0].finish.format == "png"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", ()),
        ("*/*", ()),
        ("application/json, image/png", ()),
        ("image/png", ("png",)),
        ("image/*", ("png", "webp", "jpeg")),
        ("IMAGE/JPEG;q=0.5, image/webp", ("webp", "jpeg")),
        ("image/avif, image/webp, */*;q=0.8", ("webp",)),
        ("image/gif, */*", ()),
        ("image/png;q=0, */*", ()),
        ("image/png;q=x, application/json", ()),
    ],
)
def test_the_accept_header(accept: str, chosen: tuple[str, ...]) -> None:
    assert accepted_formats(accept) == chosen


@settings(deadline=None)
@given(st.text())
def test_no_accept_header_is_an_error_inside(accept: str) -> None:
    with suppress(NotAcceptable):
        assert set(accepted_formats(accept)) <= {"png", "webp", "jpeg"}


@pytest.mark.parametrize(
    ("request_", "accept"),
    [
        (v2(["a"]), "image/gif"),
        (v2(["a", "b"]), "image/png"),
        (v2(["a"], {"format": "webp"}), "image/png"),
    ],
)
def test_a_type_that_the_reply_cannot_have(model: EmojiModel, request_: InferRequest, accept: str) -> None:
    with pytest.raises(NotAcceptable, match="Accept: "):
        prepare(model, request_, {"accept": accept})
