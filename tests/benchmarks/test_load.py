"""The load, against a real HTTP server in another thread."""

import base64
import math
import threading
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from benchmarks.dialect import DIALECTS
from benchmarks.jobs import Job
from benchmarks.load import Plan, Replies, run
from tests.benchmarks.http_server import Handler, serving

PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
PICTURE = {"b64": base64.b64encode(PIXELS.tobytes()).decode(), "shape": [2, 2, 3]}
FAILING_SEED = 13


class Peer(Handler):
    """Answers as the plain diffusers peer does; a certain seed fails."""

    def get(self) -> None:
        self.answer(200, "ok")

    def post(self, content: Any) -> None:
        with self.server.lock:
            self.server.asked.append(content)
            self.server.under_way += 1
            self.server.most = max(self.server.most, self.server.under_way)
        if self.server.together:
            self.server.together.wait()
        with self.server.lock:
            self.server.under_way -= 1
        self.answer(500 if content["seed"] == FAILING_SEED else 200, PICTURE)


def peer(together: int = 0) -> AbstractContextManager[ThreadingHTTPServer]:
    """A server that answers at once, or holds its replies until `together` requests are there."""
    barrier = threading.Barrier(together) if together else None
    return serving(Peer, lock=threading.Lock(), asked=[], under_way=0, most=0, together=barrier)


def jobs(*seeds: int) -> list[Job]:
    return [Job("a red apple", seed, 8, 2.0, "notoemoji@1") for seed in seeds]


def sent(server: ThreadingHTTPServer, seeds: list[int], due: list[float], **options: bool) -> Replies:
    url = f"http://127.0.0.1:{server.server_port}"
    return run(Plan(url, "fastapi", jobs(*seeds), due, 60, **options))


def test_nothing_waits_for_an_earlier_reply() -> None:
    """The server answers only once all four are there."""
    with peer(together=4) as server:
        replies = sent(server, [1, 2, 3, 4], [0.0, 0.01, 0.01, 0.02])
    assert replies.failures == []
    assert [outcome.due for outcome in replies.outcomes] == [0.0, 0.01, 0.01, 0.02]
    assert all(outcome.due <= outcome.sent <= outcome.done for outcome in replies.outcomes)
    assert all(outcome.latency == outcome.done - outcome.due for outcome in replies.outcomes)
    assert replies.seconds == max(outcome.done for outcome in replies.outcomes)


def test_one_after_the_other() -> None:
    with peer() as server:
        replies = sent(server, [1, 2, 3], [0.0] * 3, sequential=True)
        assert server.most == 1
    assert [job["seed"] for job in server.asked] == [1, 2, 3]
    ends = [outcome.done for outcome in replies.outcomes]
    assert all(end <= later.due for end, later in zip(ends, replies.outcomes[1:], strict=False))


def test_a_failure_is_an_outcome_without_an_end() -> None:
    with peer() as server:
        replies = sent(server, [1, FAILING_SEED], [0.0, 0.0])
    assert replies.failures == ["500"]
    assert [math.isinf(outcome.latency) for outcome in replies.outcomes] == [False, True]


def test_a_server_that_is_gone_fails_jobs_and_health_checks() -> None:
    with peer() as server:
        pass
    replies = sent(server, [1, 2], [0.0, 0.2], watch_health=True)
    assert replies.failures[:2] == ["ConnectionRefusedError"] * 2
    assert set(replies.failures[2:]) == {"health check"}
    assert sent(server, [1, 2], [0.0, 0.0], sequential=True).failures == ["ConnectionRefusedError"] * 2


def test_health_is_watched_meanwhile() -> None:
    with peer() as server:
        replies = sent(server, [1, 2], [0.0, 0.2], watch_health=True)
    assert replies.health
    assert all(seconds > 0 for seconds in replies.health)


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("predictor", {"predictions": [{"image": {**PICTURE, "datatype": "UINT8"}, "seed": 1}]}),
        ("kserve", {"predictions": [PICTURE]}),
        ("fastapi", PICTURE),
        ("litserve", PICTURE),
        ("bentoml", [PICTURE]),
        ("bentoml-grouped", [PICTURE]),
    ],
)
def test_every_dialect_reads_its_picture(name: str, reply: object) -> None:
    assert np.array_equal(DIALECTS[name].pixels(reply), PIXELS)


def test_the_predictors_dialect_is_its_contract() -> None:
    from predictor.contract import read_instances

    (job,) = jobs(7)
    (row,) = read_instances(DIALECTS["predictor"].body(job), 8)
    assert row == {
        "prompt": "a red apple",
        "seed": 7,
        "num_inference_steps": 8,
        "guidance_scale": 2.0,
        "lora": "notoemoji@1",
    }
