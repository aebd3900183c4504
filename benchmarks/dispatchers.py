"""BentoML's dispatchers, trained before anything is measured.

Each batchable API has one, and learns from its first eleven batches: the last but one is held back until
there are two jobs, the last until there are three, for seconds if they don't come. With an API for each kind
of job a warm-up of a few jobs would leave that to the jobs that are measured.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from benchmarks.client import ERRORS, Client
from benchmarks.dialect import DIALECTS
from benchmarks.jobs import Job
from benchmarks.server import Server

TIMEOUT_S = 600.0


def train(server: Server, kinds: Sequence[Job], batches: Sequence[int]) -> None:
    """Gives the API of each kind batches of such sizes. Their jobs take one step: how long a batch takes, the
    dispatcher goes on learning from those that are measured.

    Args:
        server: BentoML, awake.
        kinds: a job of each.
        batches: jobs at once, one batch after the other.

    Raises:
        ProcessFailed: a job failed.
    """
    dialect = DIALECTS[server.dialect]

    def post(kind: Job) -> int | None:
        with suppress(*ERRORS), Client(server.url, TIMEOUT_S) as client:
            return client.post(dialect.path(kind), dialect.body(replace(kind, steps=1, guidance=1.0)))[0]
        return None

    with ThreadPoolExecutor(max(batches)) as threads:
        for kind in kinds:
            for size in batches:
                if set(threads.map(post, [kind] * size)) != {200}:
                    raise server.failure(f"failed a job of its training: {kind}")
