"""A store of small LoRAs, and looks that follow it."""

from pathlib import Path

import pytest

from predictor.looks.live import LiveLooks
from tests.weights.loras import make_manifest, make_tensors
from weights.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """notoemoji@1, notoemoji@2 and openmoji@1."""
    store = Store(tmp_path / "loras")
    for name in ("openmoji", "notoemoji", "notoemoji"):
        store.add(make_tensors(), make_manifest(name))
    return store


@pytest.fixture
def looks(store: Store) -> LiveLooks:
    return LiveLooks(store, None, store.root / "routes.json")
