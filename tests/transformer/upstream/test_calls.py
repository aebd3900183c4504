"""What goes to a real predictor and comes back: pixels, refusals, headers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve import InferResponse

from predictor.errors import InvalidInput, QueueFull, UnknownModel, UpstreamError
from tests.transformer.serving import Process, calls
from tests.transformer.small_predictor import paint
from tests.transformer.upstream.reaching import PROTOCOLS, drawing, settings_for, through
from transformer.upstream import FORWARDED_HEADERS, Upstream, forwarded


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pixels_seeds_and_loras_come_back(small_predictor: Process, protocol: str) -> None:
    settings = settings_for(small_predictor, protocol)
    response: InferResponse = through(settings, lambda upstream: upstream.infer(drawing("a cat"), {}))
    np.testing.assert_array_equal(
        response.get_output_by_name("image").as_numpy(), [paint("a cat", 3, "notoemoji@1")]
    )
    assert response.get_output_by_name("seed").as_numpy().tolist() == [3]
    assert list(response.get_output_by_name("lora").as_numpy()) in ([b"notoemoji@1"], ["notoemoji@1"])
    assert (response.id, response.model_version) == ("the-id", "1")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_is_ready_described_or_unknown(small_predictor: Process, protocol: str) -> None:
    async def use(upstream: Upstream) -> None:
        assert await upstream.ready("notoemoji@1")
        metadata = await upstream.metadata("openmoji")
        assert (metadata["name"], metadata["versions"]) == ("openmoji", ["1"])
        assert {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]} in metadata["outputs"]
        for ask in (upstream.ready, upstream.metadata):
            with pytest.raises(UnknownModel, match="nobody"):
                await ask("nobody")

    through(settings_for(small_predictor, protocol), use)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_passed_on_in_its_own_words(small_predictor: Process, protocol: str) -> None:
    async def use(upstream: Upstream) -> None:
        with pytest.raises(InvalidInput, match="num_inference_steps: must be from 1 to 100, got 101"):
            await upstream.infer(drawing("a cat", num_inference_steps=101), {})
        with pytest.raises(QueueFull) as full:
            await upstream.infer(drawing("queue full"), {})
        assert full.value.headers == {"Retry-After": "7"}
        assert str(full.value).count("try again") == 1
        with pytest.raises(UnknownModel, match="nobody"):
            await upstream.infer(drawing("a cat", model="nobody"), {})

    through(settings_for(small_predictor, protocol), use)
    assert len(calls(small_predictor, "queue full")) >= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("prompt", ["crash", "fail"])
def test_what_fails_inside_the_predictor_stays_there(
    small_predictor: Process, protocol: str, prompt: str
) -> None:
    before = len(calls(small_predictor, prompt))
    with pytest.raises(UpstreamError) as failed:
        through(settings_for(small_predictor, protocol), lambda upstream: upstream.infer(drawing(prompt), {}))
    assert str(failed.value) == "the predictor failed"
    assert len(calls(small_predictor, prompt)) == before + 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_listed_headers_reach_the_predictor(small_predictor: Process, protocol: str) -> None:
    given = {"X-Request-Id": "r-1", "cookie": "secret", "authorization": "Bearer é"}
    prompt = f"headers {protocol}"
    through(settings_for(small_predictor, protocol), lambda upstream: upstream.infer(drawing(prompt), given))
    (call,) = calls(small_predictor, prompt)
    assert call["headers"]["x-request-id"] == "r-1"
    assert not call["headers"].keys() & {"cookie", "authorization"}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from((*FORWARDED_HEADERS, "X-Request-ID", "cookie")), st.text()))
def test_forwarded_headers_are_fit_for_grpc(headers: dict[str, str]) -> None:
    for name, value in forwarded(headers).items():
        assert name in FORWARDED_HEADERS
        assert value.isascii()
        assert value.isprintable()
