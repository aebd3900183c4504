from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from predictor.diffusion.prompts import PromptEncoder
from tests.tiny_models import make_pipeline


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline()


def make_encoder(pipeline, **options) -> PromptEncoder:
    return PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, **options)


LONG = "abcdefghijklmnop"
TEXTS = ["a cat", "", LONG, "a cat", "dog"]


@pytest.mark.parametrize("use_attention_mask", [False, True])
@torch.inference_mode()
def test_states_are_those_of_the_pipeline(pipeline, monkeypatch, use_attention_mask):
    monkeypatch.setattr(pipeline.text_encoder.config, "use_attention_mask", use_attention_mask, raising=False)
    states = make_encoder(pipeline).encode(TEXTS)
    for text, state in zip(TEXTS, states, strict=True):
        wanted = pipeline.encode_prompt(text, "cpu", 1, False)[0][0]
        torch.testing.assert_close(state, wanted, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_text_is_encoded_once_while_it_is_remembered(pipeline):
    encoder, seen = make_encoder(pipeline, cache_size=2), []
    hook = pipeline.text_encoder.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0])), with_kwargs=False
    )
    try:
        first = encoder.encode(["a", "b", "a"])
        assert encoder.encode(["b", "a"])[1] is first[0]
        encoder.encode(["c"])  # "b", unused for the longest time, makes room
        encoder.encode(["a", "c"])
        assert seen == [2, 1]
        encoder.encode(["b"])
        assert seen == [2, 1, 1]
        assert len(encoder.encode(["a", "b", "c", "d"])) == 4  # more than the cache holds
    finally:
        hook.remove()


def test_tokens_are_counted_without_start_and_end(pipeline):
    encoder = make_encoder(pipeline)
    assert encoder.max_tokens == 10
    assert [encoder.count_tokens(text) for text in ("", "a cat", LONG)] == [0, 4, 16]


@torch.inference_mode()
def test_counting_beside_encoding_disturbs_neither(pipeline):
    encoder = make_encoder(pipeline, cache_size=0)

    def count(_: int) -> int:
        return encoder.count_tokens(LONG)

    with ThreadPoolExecutor(2) as pool:
        counts = pool.map(count, range(200))
        lengths = [len(encoder.encode([LONG])[0]) for _ in range(20)]
        assert set(counts) == {16}
    assert set(lengths) == {12}
