"""Real servers in processes of their own, on free ports, and what the small predictor among them has seen."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 600


@dataclass(frozen=True)
class Process:
    """A server that runs."""

    http_port: int
    grpc_port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to clients."""
    for port in range(18200, 18300):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise RuntimeError("no free port")


_given: set[int] = set()


@contextmanager
def serving(
    module: str, *flags: str, log: Path, wait_for: str = "/v2/health/live", **environment: str
) -> Iterator[Process]:
    """Run `python -m module` with two free ports until the block ends."""
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", module, "--http_port", str(http_port), "--grpc_port", str(grpc_port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *flags],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    server = Process(http_port, grpc_port, process, log)
    try:
        _wait(server, wait_for)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Process, path: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if httpx.get(server.url + path, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass  # it does not listen yet
        time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{server.log.read_text()}")


def calls(predictor: Process, prompt: str) -> list[dict[str, Any]]:
    """What the small predictor was asked to draw for a first prompt; `end` is None while it draws."""
    seen = httpx.get(f"{predictor.url}/calls", trust_env=False, timeout=30).json()
    return [call for call in seen if call["rows"][0]["prompt"] == prompt]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
