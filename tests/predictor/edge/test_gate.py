"""The gate: clients that go away, bodies that are too long, odd request ids."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from predictor.edge.gate import Gate, request_id

Receive = Callable[[], Awaitable[dict[str, Any]]]


def run_gate(receive: Receive, cut_off: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs a gate around an application that never ends; gives what was sent and how it ended."""

    async def scenario() -> tuple[list[dict[str, Any]], list[str]]:
        sent: list[dict[str, Any]] = []
        ended: list[str] = []
        running = asyncio.Event()

        async def forever(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["body"] == b"ab"
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        task = asyncio.ensure_future(Gate(forever, 10)(scope, receive, send))
        if cut_off:
            await running.wait()
            task.cancel()
        await task
        return sent, ended

    return asyncio.run(scenario())


def chunks(*messages: dict[str, Any], then_wait: bool) -> Receive:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        assert then_wait
        return await asyncio.Event().wait()  # type: ignore[return-value]

    return receive


BODY = ({"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"})


def test_work_ends_when_its_client_goes_away() -> None:
    sent, ended = run_gate(chunks(*BODY, {"type": "http.disconnect"}, then_wait=False))
    assert (sent, ended) == ([], ["cancelled"])


def test_work_does_not_begin_for_a_client_that_went_away_while_sending() -> None:
    sent, ended = run_gate(chunks(BODY[0], {"type": "http.disconnect"}, then_wait=False))
    assert (sent, ended) == ([], [])


@pytest.mark.parametrize(
    "messages",
    [
        # read to its end: the client still listens
        (
            {"type": "http.request", "body": b"x" * 11, "more_body": True},
            {"type": "http.request", "body": b"y"},
        ),
        # so long that the rest is not waited for
        ({"type": "http.request", "body": b"x" * 81, "more_body": True},),
    ],
)
def test_a_body_that_is_too_long_is_refused_before_any_work(messages: tuple[dict[str, Any], ...]) -> None:
    sent, ended = run_gate(chunks(*messages, then_wait=False))
    assert ended == []
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_work_that_is_cut_off_at_the_end_says_so() -> None:
    sent, ended = run_gate(chunks(*BODY, then_wait=True), cut_off=True)
    assert ended == ["cancelled"]
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"]) == {"error": "the server is stopping"}


@pytest.mark.parametrize("given", [None, "", "a b", "a\nb", "é", "x" * 129])
def test_an_odd_request_id_is_replaced(given: str | None) -> None:
    assert request_id(given) != given
    assert request_id(given) != request_id(given)
