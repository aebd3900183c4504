"""A backend on a real engine, without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from predictor.approximations import read_approximations
from predictor.backend import EngineBackend
from predictor.contract import Limits
from predictor.diffusion.diffuser import Diffuser
from predictor.engine.engine import Engine
from predictor.ledger import Ledger
from predictor.looks.live import LiveLooks
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
