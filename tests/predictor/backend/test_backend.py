"""What the backend makes of a request, and how requests end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from predictor.backend import EngineBackend
from predictor.contract import PictureRequest
from predictor.diffusion.diffuser import Diffuser
from predictor.engine.watchdog import Watchdog
from predictor.errors import DeadlineExceeded, InvalidInput, NotReady, UnknownModel
from predictor.ledger import Ledger
from predictor.outcome import Ending, Outcome
from tests.predictor.engine.recorder import settle


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


def test_a_prompt_is_counted_in_tokens(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        for fields in ({"prompt": "a" * 11}, {"prompt": "a", "negative_prompt": "a" * 11}):
            with pytest.raises(InvalidInput, match="at most 10 tokens for this model, has 11"):
                await backend.draw([PictureRequest(num_inference_steps=1, **fields)], "emoji")

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


def test_a_backend_whose_engine_hangs_is_not_ready(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(backend: EngineBackend) -> None:
        assert backend.healthy
        monkeypatch.setattr(Watchdog, "hung", True)
        assert (backend.alive, backend.healthy) == (False, False)
        monkeypatch.undo()

    serve(hang)


def test_a_stopped_backend_draws_no_more(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        await backend.stop(0)
        with pytest.raises(NotReady):
            await backend.draw([PictureRequest("a")], "emoji")

    serve(work)
