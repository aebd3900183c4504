"""The model and its backend on a real engine, without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve import InferInput, InferRequest
from prometheus_client import CollectorRegistry

from predictor.approximations import read_approximations
from predictor.backend import EngineBackend
from predictor.contract import Limits, PictureRequest
from predictor.diffusion.diffuser import Diffuser
from predictor.engine.engine import Engine
from predictor.errors import DeadlineExceeded, InvalidInput, NotReady, UnknownModel
from predictor.ledger import Ledger
from predictor.looks.live import LiveLooks
from predictor.looks.looks import Looks
from predictor.model import DiffusionModel
from predictor.outcome import Ending, Outcome
from predictor.repository import LookRepository
from tests.predictor.engine.recorder import settle
from tests.tiny_models import make_lora, make_pipeline
from tests.weights.loras import make_manifest, make_tensors
from weights.store import Store


@pytest.fixture(scope="module")
def diffuser(tiny_folders: dict[str, Path]) -> Diffuser:
    diffuser = Diffuser.load(tiny_folders["sd15"])
    for version in ("notoemoji@2", "openmoji@1"):
        diffuser.add_adapter(version, make_lora(make_pipeline("sd15").unet))
    return diffuser


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """notoemoji@2 and openmoji@1."""
    store = Store(tmp_path / "loras")
    for name in ("notoemoji", "notoemoji", "openmoji"):
        store.add(make_tensors(), make_manifest(name))
    store.remove("notoemoji", 1)
    return store


@pytest.fixture
def serve(diffuser: Diffuser, store: Store) -> Callable[..., Any]:
    """Runs a coroutine function on a started backend."""

    def run(
        work: Callable[[EngineBackend], Awaitable[Any]],
        request_timeout: float = 100.0,
        ledger: Ledger | None = None,
    ) -> Any:
        looks = LiveLooks(store, None, store.root / "routes.json")

        async def scenario() -> Any:
            engine = Engine(diffuser, max_batch_size=2, max_queue_rows=4)
            limits = Limits(max_rows=4, max_steps=1000, solvers=diffuser.solvers)
            backend = EngineBackend(
                diffuser,
                engine,
                looks,
                read_approximations(store.root, diffuser),
                limits,
                ledger or Ledger(CollectorRegistry()),
                request_timeout=request_timeout,
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
        open_, other = (backend.row(backend.exact(PictureRequest("a"), "notoemoji")) for _ in range(2))
        assert open_.seed != other.seed
        assert (open_.height, open_.width) == diffuser.native_size
        defaults = (diffuser.defaults.steps, diffuser.defaults.guidance, diffuser.defaults.solver)
        assert (open_.steps, open_.guidance, open_.solver) == defaults
        assert open_.loras == (("notoemoji@2", 1.0),)
        asked = PictureRequest("a", "b", 3, 4, 0.0, 0.5, 8, 12, "none", "ddim")
        closed = backend.row(backend.exact(asked, "notoemoji"))
        assert (closed.prompt, closed.negative_prompt, closed.seed, closed.steps) == ("a", "b", 3, 4)
        assert (closed.guidance, closed.height, closed.width) == (0.0, 8, 12)
        assert (closed.loras, closed.solver) == ((), "ddim")
        with pytest.raises(UnknownModel):
            backend.exact(PictureRequest("a", lora="openmoji@2"), "emoji")

    serve(work)


def test_a_request_that_takes_too_long_ends_and_frees_its_rows(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        with pytest.raises(DeadlineExceeded, match=r"not done within 0\.001 s"):
            await backend.draw([PictureRequest("a", num_inference_steps=100)] * 2, "emoji")
        with pytest.raises(DeadlineExceeded):
            await backend.draw([PictureRequest("a", num_inference_steps=100)] * 4, "emoji")

    serve(work, request_timeout=0.001)


def test_a_caller_may_have_less_time_than_the_request_says(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        picture = PictureRequest("a", num_inference_steps=100, timeout=50.0)
        for left in (0.0, 0.001):
            with pytest.raises(DeadlineExceeded, match=f"within {left:g} s"):
                await backend.draw([picture], "emoji", time_left=left)

    serve(work)


def test_it_tells_how_every_request_ended(serve: Callable[..., Any]) -> None:
    told: list[Outcome] = []

    class Told(Ledger):
        def ended(self, outcome: Outcome) -> None:
            told.append(outcome)
            super().ended(outcome)

    async def work(backend: EngineBackend) -> None:
        def ask(steps: int, model: str, **changes: Any) -> Awaitable[Any]:
            picture = PictureRequest("a", solver="ddim", num_inference_steps=steps, **changes)
            return backend.draw([picture] * 2, model)

        await ask(2, "openmoji")
        with pytest.raises(DeadlineExceeded):
            await ask(900, "emoji", timeout=0.01, lora="notoemoji:0.5+openmoji:0.5")
        leaving = asyncio.ensure_future(ask(900, "notoemoji@2"))
        await settle(lambda: backend._engine.active_rows or leaving.done())
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        with pytest.raises(InvalidInput):
            await backend.draw([PictureRequest("a" * 100)], "openmoji")

    serve(work, ledger=Told(CollectorRegistry()))
    assert [(outcome.model, outcome.ending) for outcome in told] == [
        ("openmoji", Ending.DRAWN),
        ("emoji", Ending.FAILED),
        ("notoemoji@2", Ending.REFUSED),
    ]
    assert [outcome.loras for outcome in told] == [
        ["openmoji@1"] * 2,
        ["notoemoji@2:0.5+openmoji@1:0.5"] * 2,
        ["notoemoji@2"] * 2,
    ]
    assert [course.steps for course in told[0].courses] == [2, 2]
    for outcome in told:
        assert all(course.arrived <= outcome.ended for course in outcome.courses)


def test_a_prompt_is_counted_in_tokens(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        for fields in ({"prompt": "a" * 11}, {"prompt": "a", "negative_prompt": "a" * 11}):
            with pytest.raises(InvalidInput, match="at most 10 tokens for this model, has 11"):
                await backend.draw([PictureRequest(num_inference_steps=1, **fields)], "emoji")

    serve(work)


def test_a_stopped_backend_draws_no_more(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        await backend.stop(0)
        with pytest.raises(NotReady):
            await backend.draw([PictureRequest("a")], "emoji")

    serve(work)


def test_the_model_answers_v1_and_v2_alike(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("notoemoji", backend, log_prompts=False)
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


def test_a_route_decides_by_key_then_by_seed(serve: Callable[..., Any], store: Store) -> None:
    store.set_route("emoji", {"notoemoji@2": 50, "openmoji@1": 50})

    def looks(backend: EngineBackend, **fields: Any) -> set[str]:
        return {backend.exact(PictureRequest("a", **fields), "emoji").lora for _ in range(30)}

    async def work(backend: EngineBackend) -> None:
        both = {"notoemoji@2", "openmoji@1"}
        assert looks(backend) == looks(backend, sticky_key="") == both
        assert [len(looks(backend, seed=seed)) for seed in range(20)] == [1] * 20
        assert set().union(*(looks(backend, seed=seed) for seed in range(20))) == both
        for key in map(str, range(20)):
            assert len(looks(backend, sticky_key=key)) == 1
            assert looks(backend, sticky_key=key, seed=5) == looks(backend, sticky_key=key, seed=6)
        assert set().union(*(looks(backend, sticky_key=str(key)) for key in range(20))) == both
        assert looks(backend, lora="openmoji") == {"openmoji@1"}
        assert looks(backend, lora="none") == {"none"}

    serve(work)


def test_a_route_that_comes_or_goes_between_two_looks_at_it_loses_no_request(
    serve: Callable[..., Any], store: Store
) -> None:
    without = LiveLooks(store, None, store.root / "routes.json").current
    routed = without.with_routes({"emoji": {"openmoji@1": 100}})

    class Flickering:
        states = cycle((without, routed))

        @property
        def current(self) -> Looks:
            return next(self.states)

    async def work(backend: EngineBackend) -> None:
        live, backend._live = backend._live, Flickering()  # type: ignore[assignment]
        drawn = [backend.exact(PictureRequest("a"), "emoji").lora for _ in range(4)]
        backend._live = live
        assert set(drawn) == {"notoemoji@2", "openmoji@1"}

    serve(work)


def test_a_reply_of_several_versions_has_no_version_of_its_own(
    serve: Callable[..., Any], store: Store
) -> None:
    store.set_route("emoji", {"notoemoji@2": 50, "openmoji@1": 50})

    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("emoji", backend, log_prompts=False)
        keys = InferInput("sticky_key", [4], "BYTES", ["user 0", "user 1", "user 2", "user 1"])
        prompt = InferInput("prompt", [4], "BYTES", ["a"] * 4)
        parameters = {"num_inference_steps": 1}
        mixed, _ = await model(InferRequest("emoji", [prompt, keys], "id", parameters=parameters))
        versions = [version.decode() for version in mixed.outputs[2].data]
        assert versions[1] == versions[3]
        assert set(versions) == {"notoemoji@2", "openmoji@1"}
        assert mixed.model_version == ""
        request = InferRequest("emoji", [prompt], "id", parameters=parameters)
        one, _ = await model(request, {"x-sticky-key": "user 1"})
        assert one.outputs[2].data.tolist() == [versions[1].encode()] * 4
        assert one.model_version == versions[1][-1]

    serve(work)


def test_a_key_is_bounded(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("emoji", backend, log_prompts=False)
        with pytest.raises(InvalidInput, match="sticky_key: must have at most 256 characters"):
            await model({"instances": ["a"]}, {"x-sticky-key": "k" * 257})

    serve(work)


def test_the_repository_knows_the_names_of_now(serve: Callable[..., Any], store: Store) -> None:
    async def work(backend: EngineBackend) -> None:
        repository = LookRepository(backend, log_prompts=False)
        assert list(repository.get_models()) == [
            "emoji",
            "notoemoji",
            "openmoji",
            "notoemoji@2",
            "openmoji@1",
        ]
        assert repository.get_model("party") is None
        store.set_route("party", {"openmoji@1": 100})
        store.set_alias("stable", store.resolve("openmoji@1"))
        backend._live.refresh()
        assert list(repository.get_models())[-2:] == ["openmoji@stable", "party"]
        for name, found in {
            "party": "party",
            "openmoji@stable": "openmoji@stable",
            "emoji@2": "notoemoji@2",
            "emoji@1": None,
            "emoji@": None,
            "nope": None,
        }.items():
            model = repository.get_model(name)
            assert (model and model.name) == found

    serve(work)


def test_without_loras_there_is_one_model(diffuser: Diffuser, tmp_path: Path) -> None:
    engine = Engine(diffuser, max_batch_size=2, max_queue_rows=4)
    looks = LiveLooks(Store(tmp_path / "none"), None, tmp_path / "routes.json")
    ledger = Ledger(CollectorRegistry())
    approximations = read_approximations(tmp_path, diffuser)
    backend = EngineBackend(diffuser, engine, looks, approximations, Limits(), ledger, request_timeout=1)
    repository = LookRepository(backend, log_prompts=False)
    assert list(repository.get_models()) == ["emoji"]
    assert [repository.get_model(name) for name in ("emoji@1", "emoji@", "notoemoji")] == [None] * 3
    assert backend.exact(PictureRequest("a"), "emoji").lora == "none"
