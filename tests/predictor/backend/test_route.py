"""A name for several versions: which of them draws a picture."""

from collections.abc import Callable
from itertools import cycle
from typing import Any

from predictor.backend import EngineBackend
from predictor.contract import PictureRequest
from predictor.looks.live import LiveLooks
from predictor.looks.looks import Looks
from weights.store import Store


def test_a_route_decides_by_key_then_by_seed(serve: Callable[..., Any], store: Store) -> None:
    store.set_route("emoji", {"notoemoji@2": 50, "openmoji@1": 50})

    def looks(backend: EngineBackend, **fields: Any) -> set[str]:
        return {backend.exact(PictureRequest("a", **fields), "emoji").lora for _ in range(30)}

    async def work(backend: EngineBackend) -> None:
        both = {"notoemoji@2", "openmoji@1"}
        assert looks(backend) == looks(backend, sticky_key="") == both
        assert [len(looks(backend, seed=seed)) for seed in range(20)] == [1] * 20
        assert set().union(*(looks(backend, seed=seed) for seed in range(20))) == both
        for key in map(str, range(20)):
            assert len(looks(backend, sticky_key=key)) == 1
            assert looks(backend, sticky_key=key, seed=5) == looks(backend, sticky_key=key, seed=6)
        assert set().union(*(looks(backend, sticky_key=str(key)) for key in range(20))) == both
        assert looks(backend, lora="openmoji") == {"openmoji@1"}
        assert looks(backend, lora="none") == {"none"}

    serve(work)


def test_a_route_that_comes_or_goes_between_two_looks_at_it_loses_no_request(
    serve: Callable[..., Any], store: Store
) -> None:
    without = LiveLooks(store, None, store.root / "routes.json").current
    routed = without.with_routes({"emoji": {"openmoji@1": 100}})

    class Flickering:
        states = cycle((without, routed))

        @property
        def current(self) -> Looks:
            return next(self.states)

    async def work(backend: EngineBackend) -> None:
        live, backend._live = backend._live, Flickering()  # type: ignore[assignment]
        drawn = [backend.exact(PictureRequest("a"), "emoji").lora for _ in range(4)]
        backend._live = live
        assert set(drawn) == {"notoemoji@2", "openmoji@1"}

    serve(work)
