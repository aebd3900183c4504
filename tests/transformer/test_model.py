"""The request's way through the model: what is read, what is translated, what is refused, what comes back."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput
from PIL import Image
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from predictor.contract import INPUTS, infer_response, read_tensors
from predictor.errors import InvalidInput, ServingError, UpstreamError
from transformer.drawing import Drawing, Job, read_drawing
from transformer.metrics import Metrics
from transformer.model import EmojiModel
from transformer.reply import OUTPUTS
from transformer.request import FIELDS, NotAcceptable, accepted_formats
from transformer.settings import Settings
from transformer.studio import Studio
from transformer.translation.backends import build_translator

LIMITS = Settings("nowhere", max_rows=3, max_prompt_chars=40, max_picture_size=256)


@pytest.fixture(scope="module")
def model() -> Iterator[EmojiModel]:
    """A model whose predictor is not there: only `predict` would need it."""
    studio = Studio(LIMITS, build_translator("glossary"), Metrics(CollectorRegistry()))
    asyncio.run(studio.start())
    yield EmojiModel("notoemoji", "notoemoji", studio)
    asyncio.run(studio.stop(0))


def v2(prompts: list[str], parameters: dict[str, Any] | None = None, **tensors: Any) -> InferRequest:
    inputs = [InferInput("prompt", [len(prompts)], "BYTES", prompts)]
    datatypes = {field.name: field.datatype for field in FIELDS}
    inputs += [InferInput(name, [len(values)], datatypes[name], values) for name, values in tensors.items()]
    return InferRequest("notoemoji", inputs, "the-id", parameters=parameters)


def prepare(model: EmojiModel, payload: Any, headers: dict[str, str] | None = None) -> Job:
    return asyncio.run(model.preprocess(payload, headers or {}))


def rows_sent(job: Job) -> list[dict[str, Any]]:
    """What the predictor would read."""
    return read_tensors(job.request, 8)


def status_of(model: EmojiModel, payload: Any) -> int:
    """The status of preprocess; what it accepts, the predictor must be able to read."""
    try:
        job = prepare(model, payload)
    except ServingError as error:
        return error.http_status
    assert all(row["prompt"] for row in rows_sent(job))
    return 200


def reply_to(model: EmojiModel, job: Job, **more: Any) -> Any:
    """The reply when the predictor draws black squares."""
    count = len(job.wishes)
    answer: dict[str, Any] = {
        "images": np.zeros((count, 8, 8, 3), np.uint8),
        "seeds": [row["seed"] for row in rows_sent(job)],
        "loras": ["notoemoji@2"] * count,
        "outputs": ["image", "seed", "lora"],
    }
    response = infer_response(model_name="x", model_version="2", response_id="x", **(answer | more))

    class Predictor:
        async def infer(self, *_: object) -> InferResponse:
            return InferResponse.from_grpc(response.to_grpc())

    async def run() -> Any:
        studio = model._studio
        kept, studio.upstream = studio.upstream, Predictor()  # type: ignore[assignment]
        try:
            drawing: Drawing = await model.predict(job, {})
        finally:
            studio.upstream = kept
        return await model.postprocess(drawing, {})

    return asyncio.run(run())


def test_korean_becomes_english_and_english_stays(model: EmojiModel) -> None:
    job = prepare(model, v2(["빨간 사과", "  A red Apple! "], negative_prompt=["파란 사과", "blue"]))
    rows = rows_sent(job)
    assert rows[0]["prompt"] == "red apple"
    assert rows[1]["prompt"] == "  A red Apple! "
    assert [row["negative_prompt"] for row in rows] == ["blue apple", "blue"]
    assert [words.backend for words in job.english] == ["glossary", "none"]


def test_the_language_may_be_said(model: EmojiModel) -> None:
    job = prepare(model, v2(["사과", "사과"], language=["en", "ko"]))
    assert [row["prompt"] for row in rows_sent(job)] == ["사과", "apple"]


def test_words_that_nobody_knows_are_reported_once_from_both_prompts(model: EmojiModel) -> None:
    job = prepare(model, v2(["뷁뷁 사과"], negative_prompt=["뷁뷁 사과"]))
    assert rows_sent(job)[0]["prompt"] == "apple"
    unknown = job.english[0].unknown_words
    assert len(unknown) == len(set(unknown)) >= 1


def test_a_prompt_of_which_nothing_is_left_is_refused(model: EmojiModel) -> None:
    with pytest.raises(InvalidInput, match="prompt: no word of it could be translated"):
        prepare(model, v2(["뷁"]))


def test_every_row_has_a_seed_and_the_given_ones_are_kept(model: EmojiModel) -> None:
    job = prepare(model, {"instances": ["a", {"prompt": "b", "seed": 2**63 - 1}, "a"]})
    first, second, third = (row["seed"] for row in rows_sent(job))
    assert second == 2**63 - 1
    assert first != third
    assert 0 <= first < 2**53


def test_the_predictors_own_fields_are_passed_on(model: EmojiModel) -> None:
    given = {"num_inference_steps": 30, "guidance_scale": 15, "lora_scale": 0.5, "lora": "openmoji@1:0.7+a"}
    more = {"height": 64, "width": 32, "solver": "euler", "priority": -1}
    (row,) = rows_sent(prepare(model, {"instances": ["a"], "parameters": given | more | {"timeout": 5}}))
    assert {name: row[name] for name in given | more} == given | more
    assert 0 < row["timeout"] <= 5  # what translating has left of it


def test_a_sticky_key_is_passed_on_from_field_or_header(model: EmojiModel) -> None:
    def keys(payload: Any, headers: dict[str, str] | None = None) -> list[Any]:
        return [row.get("sticky_key") for row in rows_sent(prepare(model, payload, headers))]

    header = {"x-sticky-key": "사용자 7"}
    assert keys(v2(["a", "b"])) == [None, None]
    assert keys(v2(["a", "b"]), header) == ["사용자 7"] * 2
    assert keys(v2(["a", "b"], sticky_key=["x", "y"]), header) == ["x", "y"]
    assert keys(v2(["a", "b"], {"sticky_key": "z"})) == ["z", "z"]
    assert keys({"instances": ["a", {"prompt": "b", "sticky_key": "x"}]}, header) == ["사용자 7", "x"]
    with pytest.raises(InvalidInput, match="sticky_key: must have at most 256 characters"):
        prepare(model, v2(["a"]), {"x-sticky-key": "k" * 257})


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


def test_the_reply_says_where_each_picture_comes_from(model: EmojiModel) -> None:
    job = prepare(model, v2(["뷁뷁 사과", "an apple"], seed=[1, 2]))
    reply: InferResponse = reply_to(model, job)
    values = {output.name: output.as_numpy().tolist() for output in reply.outputs}
    assert values.keys() == {field.name for field in OUTPUTS} - {"approximation"}
    assert (reply.id, reply.model_name, reply.model_version) == ("the-id", "notoemoji", "2")
    assert (values["prompt"], values["seed"]) == ([b"apple", b"an apple"], [1, 2])
    assert values["lora"] == [b"notoemoji@2"] * 2
    assert values["language"] == [b"ko", b"en"]
    assert values["translation_backend"] == [b"glossary", b"none"]
    unknown = [json.loads(words) for words in values["unknown_words"]]
    assert unknown[0] == list(job.english[0].unknown_words)
    assert unknown[1] == []
    picture = Image.open(io.BytesIO(base64.b64decode(values["image"][0])))
    assert (picture.format, picture.size) == ("PNG", (8, 8))


LABEL = {"name": "block-cache:2", "quality": {"right_emoji": 0.9}}


def test_an_approximation_is_passed_on_and_its_label_comes_back(model: EmojiModel) -> None:
    given = [{"name": "none"}, LABEL]
    answer = {"approximations": given, "outputs": ["image", "seed", "lora", "approximation"]}
    job = prepare(model, v2(["a", "b"], approximation=["none", "block-cache:2"], seed=[1, 2]))
    assert [row["approximation"] for row in rows_sent(job)] == ["none", "block-cache:2"]
    labels = reply_to(model, job, **answer).get_output_by_name("approximation").as_numpy()
    assert list(map(json.loads, labels)) == given

    wanted = {"approximation": "block-cache:2", "metadata": True}
    job = prepare(model, {"instances": [{"prompt": "a", "approximation": "none"}, "b"], "parameters": wanted})
    exact, approximate = reply_to(model, job, **answer)["predictions"]
    assert "approximation" not in exact
    assert approximate["approximation"] == LABEL
    for prediction, name in ((exact, None), (approximate, "block-cache:2")):
        file = Image.open(io.BytesIO(base64.b64decode(prediction["image"]["b64"])))
        assert file.info.get("approximation") == name

    job = prepare(model, v2(["b"], {"approximation": "block-cache:2"}), {"accept": "image/png"})
    reply: Response = reply_to(model, job, **{**answer, "approximations": [LABEL]})
    assert json.loads(unquote(reply.headers["emoji-approximation"])) == LABEL


def test_an_exact_picture_may_be_asked_whether_it_is(model: EmojiModel) -> None:
    request = v2(["a"])
    request.request_outputs = [RequestedOutput("approximation")]
    (output,) = reply_to(model, prepare(model, request)).outputs
    assert list(map(json.loads, output.as_numpy())) == [{"name": "none"}]


@pytest.mark.parametrize("label", [b"", b"[]", b"{}", b'{"name": 1}', b"\xff"])
def test_a_label_that_is_none_is_the_predictors_fault(model: EmojiModel, label: bytes) -> None:
    job = prepare(model, v2(["a"], {"approximation": "block-cache:2"}))
    response = infer_response(
        model_name="x",
        model_version="2",
        response_id="x",
        images=np.zeros((1, 8, 8, 3), np.uint8),
        seeds=[1],
        loras=["notoemoji@2"],
        outputs=["image", "seed", "lora", "approximation"],
    )
    response.outputs[-1].data = np.array([label], dtype=np.object_)
    with pytest.raises(UpstreamError):
        read_drawing(job, InferResponse.from_grpc(response.to_grpc()))


def test_outputs_may_be_chosen(model: EmojiModel) -> None:
    request = v2(["a"])
    request.request_outputs = [RequestedOutput("seed"), RequestedOutput("prompt")]
    reply = reply_to(model, prepare(model, request))
    assert [output.name for output in reply.outputs] == ["seed", "prompt"]


def test_v1_predictions(model: EmojiModel) -> None:
    job = prepare(model, {"instances": ["빨간 사과"], "parameters": {"format": "webp", "seed": 5}})
    (prediction,) = reply_to(model, job)["predictions"]
    picture = Image.open(io.BytesIO(base64.b64decode(prediction.pop("image")["b64"])))
    assert picture.format == "WEBP"
    assert prediction == {
        "prompt": "red apple",
        "seed": 5,
        "lora": "notoemoji@2",
        "translation": {"language": "ko", "backend": "glossary", "unknown_words": []},
    }


def test_each_row_has_its_own_finish(model: EmojiModel) -> None:
    job = prepare(model, v2(["a", "b"], size=[32, 16], format=["jpeg", "png"], quality=[50]))
    reply = reply_to(model, job)
    files = reply.get_output_by_name("image").as_numpy()
    pictures = [Image.open(io.BytesIO(base64.b64decode(file))) for file in files]
    assert [(picture.format, picture.size) for picture in pictures] == [("JPEG", (32, 32)), ("PNG", (16, 16))]


def test_a_picture_that_was_asked_for_by_its_type(model: EmojiModel) -> None:
    job = prepare(model, v2(["뷁뷁 사과"], {"seed": 9}), {"accept": "image/webp"})
    reply: Response = reply_to(model, job)
    assert reply.media_type == "image/webp"
    assert Image.open(io.BytesIO(bytes(reply.body))).format == "WEBP"
    assert (reply.headers["emoji-prompt"], reply.headers["emoji-seed"]) == ("apple", "9")
    assert reply.headers["emoji-unknown-words"].startswith("%5B%22%EB")


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


@pytest.mark.parametrize(
    "answer",
    [
        {"outputs": ["image", "seed"]},
        {"images": np.zeros((1, 8, 8), np.uint8)},
        {"images": np.zeros((2, 8, 8, 3), np.uint8)},
        {"images": np.zeros((1, 0, 8, 3), np.uint8)},
        {"images": np.zeros((1, 8, 8, 4), np.uint8)},
        {"seeds": [1, 2]},
        {"loras": []},
    ],
)
def test_an_answer_against_the_contract_is_a_bad_gateway(model: EmojiModel, answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="the predictor's answer"):
        reply_to(model, prepare(model, v2(["a"])), **answer)


def test_the_metadata_names_every_field(model: EmojiModel) -> None:
    described = {field["name"]: field for field in model.get_input_types()}
    assert described.keys() >= {field.name for field in INPUTS}
    assert described["size"] == {"name": "size", "datatype": "INT32", "shape": [-1]}
    assert [field["name"] for field in model.get_output_types()] == [field.name for field in OUTPUTS]
