"""The reply: finished pictures, where each comes from, and the form that was asked for."""

import base64
import io
import json
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from kserve import InferResponse
from kserve.protocol.infer_type import RequestedOutput
from PIL import Image
from starlette.responses import Response

from predictor.contract import EXACTLY
from tests.transformer.stages import prepare, reply_to, v2
from transformer.model import EmojiModel
from transformer.reply import OUTPUTS, Picture, picture_headers


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


def test_an_exact_picture_may_be_asked_whether_it_is(model: EmojiModel) -> None:
    request = v2(["a"])
    request.request_outputs = [RequestedOutput("approximation")]
    (output,) = reply_to(model, prepare(model, request)).outputs
    assert list(map(json.loads, output.as_numpy())) == [{"name": "none"}]


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


@given(st.text(st.characters(codec="utf-8")), st.lists(st.text(st.characters(codec="utf-8"), min_size=1)))
def test_headers_hold_short_texts_in_full(prompt: str, words: list[str]) -> None:
    headers = picture_headers(made(prompt, tuple(words)))
    encoded = {name: headers[name] for name in ("Emoji-Prompt", "Emoji-Unknown-Words")}
    assert all(text.isascii() and len(text) < 1600 for text in encoded.values())
    assert unquote(encoded["Emoji-Prompt"]) == prompt or unquote(encoded["Emoji-Prompt"]).endswith("…")
    told = json.loads(unquote(encoded["Emoji-Unknown-Words"]))
    assert told == words or told == [*words[: len(told) - 1], "…"]


def test_long_texts_in_headers_are_cut() -> None:
    """Nine bytes a syllable: a thousand of them are too much for proxies."""
    headers = picture_headers(made("뷁" * 1000, ("뷁" * 100, "뛟" * 10, "쀍" * 100)))
    assert unquote(headers["Emoji-Prompt"]) == "뷁" * 166 + "…"
    assert json.loads(unquote(headers["Emoji-Unknown-Words"])) == ["뷁" * 100, "뛟" * 10, "…"]
    english = "a red apple, " * 75
    assert unquote(picture_headers(made(english, ()))["Emoji-Prompt"]) == english


def made(prompt: str, unknown_words: tuple[str, ...]) -> Picture:
    return Picture(
        b"", "png", prompt, 1, "openmoji@1", "ko", "glossary", unknown_words, approximation=EXACTLY
    )
