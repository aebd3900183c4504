"""The model and its backend on a real engine, without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve import InferInput, InferRequest
from prometheus_client import CollectorRegistry

from predictor.backend import EngineBackend
from predictor.contract import Limits, PictureRequest
from predictor.diffuser import Diffuser
from predictor.engine import Engine
from predictor.errors import DeadlineExceeded, InvalidInput, NotReady, UnknownModel
from predictor.looks import Looks
from predictor.metrics import Metrics
from predictor.model import DiffusionModel
from predictor.repository import LookRepository
from tests.tiny_models import make_lora, make_pipeline

LOOKS = Looks({"notoemoji": "notoemoji@2", "notoemoji@2": "notoemoji@2"}, "notoemoji")


@pytest.fixture(scope="module")
def diffuser(tiny_folders: dict[str, Path]) -> Diffuser:
    diffuser = Diffuser.load(tiny_folders["sd15"])
    diffuser.add_adapter("notoemoji@2", make_lora(make_pipeline("sd15").unet))
    return diffuser


@pytest.fixture
def serve(diffuser: Diffuser) -> Callable[..., Any]:
    """Runs a coroutine function on a started backend."""

    def run(
        work: Callable[[EngineBackend], Awaitable[Any]], looks: Looks = LOOKS, request_timeout: float = 100.0
    ) -> Any:
        async def scenario() -> Any:
            engine = Engine(diffuser, max_batch_size=2, max_queue_rows=4)
            limits = Limits(max_rows=4, max_steps=1000, solvers=diffuser.solvers)
            metrics = Metrics(engine, CollectorRegistry())
            backend = EngineBackend(
                diffuser, engine, looks, limits, metrics, request_timeout=request_timeout, hang_timeout=60
            )
            assert not backend.healthy
            await backend.start()
            assert (backend.alive, backend.healthy) == (True, True)
            try:
                return await work(backend)
            finally:
                await backend.stop(0)
                assert not backend.healthy

        return asyncio.run(scenario())

    return run


def test_what_is_left_open_is_filled_in(serve: Callable[..., Any], diffuser: Diffuser) -> None:
    async def work(backend: EngineBackend) -> None:
        open_, other = (backend.row(PictureRequest("a"), "notoemoji@2") for _ in range(2))
        assert open_.seed != other.seed
        assert (open_.height, open_.width) == diffuser.native_size
        defaults = (diffuser.defaults.steps, diffuser.defaults.guidance, diffuser.defaults.solver)
        assert (open_.steps, open_.guidance, open_.solver) == defaults
        assert (open_.lora, open_.lora_scale) == ("notoemoji@2", 1.0)
        closed = backend.row(
            PictureRequest("a", "b", 3, 4, 0.0, 0.5, 8, 12, "none", "ddim"),
            "notoemoji@2",
        )
        assert (closed.prompt, closed.negative_prompt, closed.seed, closed.steps) == ("a", "b", 3, 4)
        assert (closed.guidance, closed.lora_scale, closed.height, closed.width) == (0.0, 0.5, 8, 12)
        assert (closed.lora, closed.solver) == (None, "ddim")
        with pytest.raises(UnknownModel):
            backend.row(PictureRequest("a", lora="openmoji"), None)

    serve(work)


def test_a_request_that_takes_too_long_ends_and_frees_its_rows(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        with pytest.raises(DeadlineExceeded, match=r"not done within 0\.001 s"):
            await backend.draw([PictureRequest("a", num_inference_steps=100)] * 2, None)
        with pytest.raises(DeadlineExceeded):
            await backend.draw([PictureRequest("a", num_inference_steps=100)] * 4, None)

    serve(work, request_timeout=0.001)


def test_a_prompt_is_counted_in_tokens(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        for fields in ({"prompt": "a" * 11}, {"prompt": "a", "negative_prompt": "a" * 11}):
            with pytest.raises(InvalidInput, match="at most 10 tokens for this model, has 11"):
                await backend.draw([PictureRequest(num_inference_steps=1, **fields)], None)

    serve(work)


def test_a_stopped_backend_draws_no_more(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        await backend.stop(0)
        with pytest.raises(NotReady):
            await backend.draw([PictureRequest("a")], None)

    serve(work)


def test_the_model_answers_v1_and_v2_alike(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("notoemoji", "notoemoji@2", ["1", "2"], backend, log_prompts=False)
        assert await model.healthy()
        prompt = InferInput("prompt", [2], "BYTES", ["a", "b"])
        parameters = {"num_inference_steps": 1, "seed": 5}
        reply, _ = await model(InferRequest("notoemoji", [prompt], "id", parameters=parameters))
        image, seed, lora = reply.outputs
        assert (image.shape, image.datatype, image.data.dtype) == ([2, 16, 16, 3], "UINT8", np.uint8)
        assert (seed.shape, seed.data.tolist()) == ([2], [5, 5])
        assert lora.data.tolist() == [b"notoemoji@2"] * 2
        assert (reply.id, reply.model_name, reply.model_version) == ("id", "notoemoji", "2")

        v1, _ = await model({"instances": ["a", "b"], "parameters": parameters})
        assert [(one["seed"], one["lora"]) for one in v1["predictions"]] == [(5, "notoemoji@2")] * 2

    serve(work)


@pytest.mark.parametrize(
    ("looks", "names", "found"),
    [
        (LOOKS, ["emoji", "notoemoji", "notoemoji@2"], {"emoji@2": "notoemoji@2", "emoji@1": None}),
        (Looks({}, None), ["emoji"], {"emoji@1": None, "emoji@": None, "notoemoji": None}),
    ],
)
def test_the_repository_knows_names_and_versions(
    serve: Callable[..., Any], looks: Looks, names: list[str], found: dict[str, str | None]
) -> None:
    async def work(backend: EngineBackend) -> None:
        repository = LookRepository(backend, log_prompts=False)
        assert list(repository.get_models()) == names
        for name, model_name in found.items():
            model = repository.get_model(name)
            assert (model and model.name) == model_name

    serve(work, looks)
