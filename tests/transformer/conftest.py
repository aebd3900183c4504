"""Real servers in processes of their own, on free ports: a small predictor and transformers before it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@pytest.fixture(scope="session")
def small_predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("predictor") / "log"
    with serving("tests.transformer.small_predictor", log=log, wait_for="/v2/health/ready") as server:
        yield server


@pytest.fixture(scope="session")
def start_transformer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """Start a transformer before the predictor at `host`; it ends with the session."""
    with ExitStack() as stack:

        def start(host: str, *flags: str) -> Process:
            log = tmp_path_factory.mktemp("transformer") / "log"
            return stack.enter_context(serving("transformer", "--predictor_host", host, *flags, log=log))

        yield start


@pytest.fixture(scope="session")
def transformer(small_predictor: Process, start_transformer: Callable[..., Process]) -> Process:
    """A transformer that talks gRPC to the small predictor, with the flags that KServe's controller gives."""
    flags = ("--model_name", "kor-serve", "--workers", "4")
    return start_transformer(f"127.0.0.1:{small_predictor.grpc_port}", *flags)


@pytest.fixture(scope="session")
def rest_transformer(small_predictor: Process, start_transformer: Callable[..., Process]) -> Process:
    """A transformer that talks REST to the small predictor."""
    return start_transformer(f"127.0.0.1:{small_predictor.http_port}", "--predictor_protocol", "v2")
