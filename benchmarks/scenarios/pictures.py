"""Before anything is timed: every side draws the same pictures, within what float arithmetic leaves."""

import json
from collections.abc import Sequence

import numpy as np

from benchmarks.bench import Bench
from benchmarks.client import Client
from benchmarks.dialect import DIALECTS
from benchmarks.jobs import Job

# Of 255: the servers add the same numbers in other orders.
MOST_MEAN, MOST_ANY = 0.5, 24


class UnlikePictures(AssertionError):
    """A side does not draw what the first side draws; timing it would mean nothing."""


def check(bench: Bench) -> None:
    """Compare the pictures of all sides with those of the first one, job by job.

    Raises:
        UnlikePictures: names the side, the job and the differences.
        ProcessFailed: there is no picture.
    """
    first, *others = bench.settings.sides
    jobs = [
        Job("a red apple", 1, bench.settings.steps[-1], guidance, lora)
        for lora, guidance in [(bench.loras[0], 2.0), (bench.loras[-1], 7.5), (None, 1.0)]
    ]
    wanted = _draw(bench, first, jobs)
    if all(np.array_equal(wanted[0], other) for other in wanted[1:]):
        raise UnlikePictures(f"{first} draws one picture for all jobs")
    for side in others:
        for job, want, got in zip(jobs, wanted, _draw(bench, side, jobs), strict=True):
            if got.shape != want.shape:
                raise UnlikePictures(f"{side} draws {got.shape}, {first} {want.shape}: {job}")
            differences = np.abs(got.astype(int) - want.astype(int))
            mean, most = float(differences.mean()), int(differences.max())
            bench.record("pictures", f"{job.lora} {job.guidance:g}", side, 0, "of 255", mean=mean, most=most)
            if mean > MOST_MEAN or most > MOST_ANY:
                raise UnlikePictures(f"{side} differs from {first} by {mean:.3f}, at most {most}: {job}")


def _draw(bench: Bench, side: str, jobs: Sequence[Job]) -> list[np.ndarray]:
    pictures = []
    with bench.server(side) as server, Client(server.url, bench.settings.request_timeout) as client:
        dialect = DIALECTS[server.dialect]
        for job in jobs:
            status, body = client.post(dialect.path(job), dialect.body(job))
            if status != 200:
                raise server.failure(f"answered {status} to {job}")
            pictures.append(dialect.pixels(json.loads(body)))
    return pictures
