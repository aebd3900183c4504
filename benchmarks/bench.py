"""One comparison under way: its servers and probes, one of them awake at a time, and what they measured."""

import itertools
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from benchmarks.arrivals import poisson
from benchmarks.dispatchers import train
from benchmarks.jobs import GUIDANCE, Job, Mix, mixes
from benchmarks.load import Load, Plan, Replies
from benchmarks.loras import write_store
from benchmarks.probe import Probe
from benchmarks.process import Process, ProcessFailed
from benchmarks.results import FAILED, Result, Results
from benchmarks.server import Command, Server
from benchmarks.settings import Settings
from benchmarks.sides import commands, environment

PROBES = {
    "engine": "benchmarks.engine",
    "steps": "benchmarks.steps",
    "diffusers-steps": "benchmarks.peers.steps",
}
LOAD = "load"
LORAS = 4  # of the mixes

AnyProcess = TypeVar("AnyProcess", bound=Process)


class Bench:
    """In a `with` block: starts each server and probe when it is first asked for, ends them all."""

    def __init__(self, settings: Settings, results: Results, folder: Path) -> None:
        """`folder` is empty and takes logs and the LoRA stores."""
        self.settings = settings
        self.results = results
        self.folder = folder
        self.store = folder / "loras"
        self.loras = write_store(settings.model_dir / "loras", self.store, LORAS)
        rows = folder / "rows" / "loras"
        self.row_loras = write_store(settings.model_dir / "loras", rows, settings.max_batch_size)
        self.mixes = mixes(self.loras, settings.steps)
        self.commands = commands(settings, self.store)
        # The steps are timed with as many LoRAs as a batch has rows.
        self._environments = {
            "engine": environment(settings, self.store),
            "steps": environment(settings, rows),
            "diffusers-steps": environment(settings, rows),
        }
        # With cores enough the load has one of its own; else it shares them all, as the servers do.
        cores = sorted(os.sched_getaffinity(0))
        self._cores, self._load_cores = (cores[:-1], cores[-1:]) if len(cores) >= 4 else (cores, cores)
        self._running: dict[str, Process] = {}
        self._latest: Process | None = None  # whose turn was the last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as all_of_them:
            for process in self._running.values():
                all_of_them.push(process)

    def start(self, sides: Sequence[str]) -> None:
        """Starts servers together, waits for all of them, warms them up and pauses them."""
        new = [side for side in sides if side not in self._running]
        shortest = Mix("warm up", tuple(self.loras), self.settings.steps[:1], GUIDANCE[:2])
        warm_up = shortest.jobs(self.settings.warm_up, seed=0)
        for side in new:
            self._running[side] = self.launch(self.commands[side]).__enter__()
        for side in new:
            server = self._running[side]
            assert isinstance(server, Server)
            server.wait_until_ready(self.settings.ready_timeout)
        for side in new:
            for other in new:
                self._running[other].pause()
            if side == "bentoml":
                with self.server(side) as server:
                    train(server, self._every_kind(), self.settings.dispatcher_batches)
            self.burst(side, warm_up)

    def launch(self, command: Command) -> Server:
        """A server of its own, to be entered and left by the caller."""
        self._latest = None
        return Server(command, _free_port(), self.folder / f"{command.name}.log", self._cores)

    @contextmanager
    def server(self, side: str) -> Iterator[Server]:
        """A running server while it is its turn."""
        self.start([side])
        with self._awake(self._running[side]) as server:
            assert isinstance(server, Server)
            yield server

    @contextmanager
    def probe(self, name: str) -> Iterator[Probe]:
        """A running probe while it is its turn."""
        if name not in self._running:
            arguments = [sys.executable, "-m", PROBES[name]]
            log = self.folder / f"{name}.log"
            new = Probe(name, arguments, self._environments[name], log, self._cores)
            self._running[name] = new.__enter__()
        with self._awake(self._running[name]) as probe:
            assert isinstance(probe, Probe)
            yield probe

    def burst(self, side: str, jobs: Sequence[Job]) -> Replies:
        """All jobs at once."""
        return self._turn(side, jobs, [0.0] * len(jobs))

    def arrivals(self, side: str, jobs: Sequence[Job], rate: float, seed: int) -> Replies:
        """Jobs that come as a Poisson process, with an eye on the server's health route."""
        return self._turn(side, jobs, poisson(rate, len(jobs), seed), watch_health=True)

    def schedule(self, side: str, jobs: Sequence[Job], due: Sequence[float]) -> Replies:
        """Jobs at given times."""
        return self._turn(side, jobs, due)

    def in_turn(self, side: str, jobs: Sequence[Job]) -> Replies:
        """One job after the other."""
        return self._turn(side, jobs, None)

    def record(self, scenario: str, case: str, side: str, repeat: int, unit: str, **metrics: float) -> None:
        """Keep numbers of one unit."""
        for metric, value in metrics.items():
            self.results.add(Result(scenario, case, side, repeat, metric, value, unit))

    @contextmanager
    def forgiving(self, scenario: str, repeat: int) -> Iterator[None]:
        """What fails in it is noted and left out, and the rest goes on; the process that failed is started
        anew when it is needed again.
        """
        try:
            yield
        except ProcessFailed as error:
            print(f"{scenario}, round {repeat + 1}: {error}", file=sys.stderr, flush=True)
            self.record(FAILED, scenario, error.process.name, repeat, "turns", failed=1)
            for name, process in list(self._running.items()):
                if process is error.process:
                    del self._running[name]
                    process.__exit__(None, None, None)

    def ask(
        self, server: Server, jobs: Sequence[Job], due: Sequence[float] | None = None, **options: Any
    ) -> Replies:
        """Jobs for a server that is awake: when they are due, else one after the other.

        Raises:
            ProcessFailed: a job or a health check failed; a benchmark wants every picture.
        """
        plan = Plan(
            server.url,
            server.dialect,
            jobs,
            [0.0] * len(jobs) if due is None else due,
            self.settings.request_timeout,
            sequential=due is None,
            **options,
        )
        replies = self._load().send(plan)
        if replies.failures:
            failed = f"{len(replies.failures)} times in {len(jobs)} jobs, first: {replies.failures[0]}"
            raise server.failure(f"failed {failed}")
        return replies

    def _load(self) -> Load:
        if LOAD not in self._running:
            arguments = [sys.executable, "-m", "benchmarks.load"]
            new = Load(LOAD, arguments, {}, self.folder / "load.log", self._load_cores)
            self._running[LOAD] = new.__enter__()
        load = self._running[LOAD]
        assert isinstance(load, Load)
        return load

    def _every_kind(self) -> list[Job]:
        kinds = itertools.product(self.settings.steps, GUIDANCE, self.loras)
        return [Job("a red apple", 0, steps, guidance, lora) for steps, guidance, lora in kinds]

    def _turn(self, side: str, jobs: Sequence[Job], due: Sequence[float] | None, **options: Any) -> Replies:
        with self.server(side) as server:
            if self._latest is not server:  # others have had the caches and the memory meanwhile
                self.ask(server, self._every_kind()[:1])
            return self.ask(server, jobs, due, **options)

    @contextmanager
    def _awake(self, process: AnyProcess) -> Iterator[AnyProcess]:
        process.resume()
        try:
            yield process
        finally:
            process.pause()
            self._latest = process


def turns(repeat: int, sides: Sequence[str]) -> list[str]:
    """Every side once, in each repeat another one first."""
    first = repeat % len(sides)
    return [*sides[first:], *sides[:first]]


def plain(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs as a probe takes them."""
    return [asdict(job) for job in jobs]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
