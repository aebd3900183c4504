"""What these tests talk to: a model of the transformer, or a small predictor in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.transformer.serving import Process, serving

if TYPE_CHECKING:
    from transformer.model import EmojiModel


@pytest.fixture(scope="session")
def small_predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("predictor") / "log"
    with serving("tests.transformer.small_predictor", log=log, wait_for="/v2/health/ready") as server:
        yield server


@pytest.fixture(scope="session")
def model() -> Iterator[EmojiModel]:
    """A model whose predictor is not there: only `predict` would need it."""
    from prometheus_client import CollectorRegistry

    from tests.transformer.stages import LIMITS
    from transformer.metrics import Metrics
    from transformer.model import EmojiModel
    from transformer.studio import Studio
    from transformer.translation.backends import build_translator

    studio = Studio(LIMITS, build_translator("glossary"), Metrics(CollectorRegistry()))
    asyncio.run(studio.start())
    yield EmojiModel("notoemoji", "notoemoji", studio)
    asyncio.run(studio.stop(0))
