"""BentoML with adaptive batching: a batchable API over a list, grouped by settings inside.

`bentoml serve benchmarks.peers.bentoml_peer:Emoji`. One worker and one thread, since one batch at a time uses
the whole device.
"""

import bentoml

from benchmarks.peers.job import Job, Picture
from benchmarks.peers.settings import Settings

SETTINGS = Settings.from_environment()
TIMEOUT_S = 3600  # of a request and of its place in the queue: a benchmark wants every picture


@bentoml.service(workers=1, threads=1, traffic={"timeout": TIMEOUT_S})
class Emoji:
    """`POST /draw` with {"jobs": [a Job]}."""

    def __init__(self) -> None:
        from benchmarks.peers.pipeline import Pipeline  # torch only in the worker

        self._pipeline = Pipeline(SETTINGS)

    @bentoml.api(
        batchable=True, max_batch_size=SETTINGS.max_batch_size, max_latency_ms=TIMEOUT_S * 1000, route="/draw"
    )
    def draw(self, jobs: list[Job]) -> list[Picture]:
        """The pictures of one batch."""
        return self._pipeline.draw(jobs)
