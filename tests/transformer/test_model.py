"""The request's way through the model: what is translated, what is passed on, what is described."""

import asyncio
import base64
import io
import json
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image
from starlette.responses import Response

from predictor.contract import INPUTS
from predictor.errors import DeadlineExceeded, InvalidInput
from tests.transformer.stages import prepare, reply_to, rows_sent, v2
from transformer.model import EmojiModel
from transformer.reply import OUTPUTS


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


def test_translating_ends_with_the_requests_time(model: EmojiModel, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(texts: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(model._studio._translator, "translate", never)
    with pytest.raises(DeadlineExceeded, match="before the prompts had been translated"):
        prepare(model, v2(["사과"], {"timeout_ms": 50}))


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


def test_the_metadata_names_every_field(model: EmojiModel) -> None:
    described = {field["name"]: field for field in model.get_input_types()}
    assert described.keys() >= {field.name for field in INPUTS}
    assert described["size"] == {"name": "size", "datatype": "INT32", "shape": [-1]}
    assert [field["name"] for field in model.get_output_types()] == [field.name for field in OUTPUTS]
