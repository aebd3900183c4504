"""The names that are served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from predictor.approximations import read_approximations
from predictor.backend import EngineBackend
from predictor.contract import Limits, PictureRequest
from predictor.diffusion.diffuser import Diffuser
from predictor.engine.engine import Engine
from predictor.ledger import Ledger
from predictor.looks.live import LiveLooks
from predictor.repository import LookRepository
from weights.store import Store


def test_the_repository_knows_the_names_of_now(serve: Callable[..., Any], store: Store) -> None:
    async def work(backend: EngineBackend) -> None:
        repository = LookRepository(backend, log_prompts=False)
        assert list(repository.get_models()) == [
            "emoji",
            "notoemoji",
            "openmoji",
            "notoemoji@2",
            "openmoji@1",
        ]
        assert repository.get_model("party") is None
        store.set_route("party", {"openmoji@1": 100})
        store.set_alias("stable", store.resolve("openmoji@1"))
        backend._live.refresh()
        assert list(repository.get_models())[-2:] == ["openmoji@stable", "party"]
        for name, found in {
            "party": "party",
            "openmoji@stable": "openmoji@stable",
            "emoji@2": "notoemoji@2",
            "emoji@1": None,
            "emoji@": None,
            "nope": None,
        }.items():
            model = repository.get_model(name)
            assert (model and model.name) == found

    serve(work)


def test_without_loras_there_is_one_model(diffuser: Diffuser, tmp_path: Path) -> None:
    engine = Engine(diffuser, max_batch_size=2, max_queue_rows=4)
    looks = LiveLooks(Store(tmp_path / "none"), None, tmp_path / "routes.json")
    ledger = Ledger(CollectorRegistry())
    approximations = read_approximations(tmp_path, diffuser)
    backend = EngineBackend(diffuser, engine, looks, approximations, Limits(), ledger, request_timeout=1)
    repository = LookRepository(backend, log_prompts=False)
    assert list(repository.get_models()) == ["emoji"]
    assert [repository.get_model(name) for name in ("emoji@1", "emoji@", "notoemoji")] == [None] * 3
    assert backend.exact(PictureRequest("a"), "emoji").lora == "none"
