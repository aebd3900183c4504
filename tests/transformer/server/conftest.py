"""Transformers before the small predictor, one for each way to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.transformer.serving import Process, serving


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


@pytest.fixture(params=["grpc", "rest"])
def either(request: pytest.FixtureRequest) -> Process:
    """A transformer for each way to the predictor."""
    name = {"grpc": "transformer", "rest": "rest_transformer"}[request.param]
    server: Process = request.getfixturevalue(name)
    return server
