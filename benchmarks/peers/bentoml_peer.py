"""BentoML with adaptive batching: a batchable API for each kind of job, so that its batches are homogeneous,
and one for jobs of any kind, whose batches are grouped by settings when they are drawn.

`bentoml serve benchmarks.peers.bentoml_peer:Emoji`. One worker and one thread, since one batch at a time uses
the whole device.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import bentoml

from benchmarks.peers.job import Job, Picture
from benchmarks.peers.settings import Settings

SETTINGS = Settings.from_environment()
TIMEOUT_S = 3600  # of a request and of its place in the queue: a benchmark wants every picture


class Drawing:
    """`POST /draw/<steps>/<guidance>/<lora>` with {"jobs": [a Job of that kind]}; `POST /draw` with any."""

    def __init__(self) -> None:
        from benchmarks.peers.pipeline import Pipeline  # torch only in the worker

        # Loaded by the thread that draws, as at the other peers: OpenMP keeps a pool of threads for each one
        # that computes, and two pools on the same cores hinder each other.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pipeline = self._thread.submit(Pipeline, SETTINGS).result()

    def pictures(self, jobs: list[Job]) -> list[Picture]:
        """Those of one batch."""
        return self._thread.submit(self._pipeline.draw, jobs).result()


def api(name: str, route: str) -> Callable[[Drawing, list[Job]], list[Picture]]:
    """An API with a dispatcher of its own."""

    def draw(self: Drawing, jobs: list[Job]) -> list[Picture]:
        """The pictures of one batch."""
        return self.pictures(jobs)

    draw.__name__ = name
    return bentoml.api(
        batchable=True,
        max_batch_size=SETTINGS.max_batch_size,
        max_latency_ms=TIMEOUT_S * 1000,
        route=route,
    )(draw)


APIS = {"draw": api("draw", "/draw")} | {
    f"draw_{number}": api(f"draw_{number}", f"/draw/{steps}/{guidance:g}/{lora}")
    for number, (steps, guidance, lora) in enumerate(SETTINGS.kinds)
}
Emoji = bentoml.service(workers=1, threads=1, traffic={"timeout": TIMEOUT_S})(
    type("Emoji", (Drawing,), dict(APIS))
)
