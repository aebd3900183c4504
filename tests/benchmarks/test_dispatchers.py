"""How BentoML's dispatchers are trained, against a server that notes what it is asked."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatchers import train
from benchmarks.jobs import Job
from benchmarks.process import ProcessFailed
from benchmarks.server import Command, Server
from tests.benchmarks.http_server import Handler, serving

KINDS = [Job("a red apple", 0, steps, 2.0, "notoemoji@1") for steps in (8, 50)]


class Dispatchers(Handler):
    """Answers a path's third request, and those after it, once there are two of them."""

    def post(self, content: Any) -> None:
        with self.server.lock:
            self.server.asked.append((self.path, content["jobs"][0]["steps"]))
            number = Counter(path for path, _ in self.server.asked)[self.path]
        if number > 2:
            self.server.pair.wait(60)
        self.answer(self.server.status)


@pytest.fixture
def http() -> Iterator[ThreadingHTTPServer]:
    state = {"lock": threading.Lock(), "asked": [], "pair": threading.Barrier(2), "status": 200}
    with serving(Dispatchers, **state) as server:
        yield server


@pytest.fixture
def bentoml(tmp_path: Path, http: ThreadingHTTPServer) -> Server:
    log = tmp_path / "bentoml.log"
    log.write_text("what it says\n")
    return Server(Command("bentoml", "bentoml", []), http.server_port, log, [])


def test_each_kind_gets_its_batches_with_short_jobs(bentoml: Server, http: ThreadingHTTPServer) -> None:
    train(bentoml, KINDS, (1, 1, 2))
    assert http.asked == [("/draw/8/2/notoemoji@1", 1)] * 4 + [("/draw/50/2/notoemoji@1", 1)] * 4


def test_a_job_that_fails_ends_the_training(bentoml: Server, http: ThreadingHTTPServer) -> None:
    http.status = 500
    with pytest.raises(ProcessFailed, match="what it says") as failed:
        train(bentoml, KINDS, (1, 1, 2))
    assert failed.value.process is bentoml
    assert len(http.asked) == 1
