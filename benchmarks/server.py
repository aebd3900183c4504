"""A server under measurement: a process that takes jobs over HTTP once it is ready. It doesn't know which."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.client import ERRORS, Client
from benchmarks.dialect import DIALECTS
from benchmarks.process import Process


@dataclass(frozen=True, slots=True)
class Command:
    """How a server is started: `{port}` in its arguments is the port, and so is $BENCH_PORT."""

    name: str
    dialect: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Server(Process):
    """Started on enter, not ready then."""

    def __init__(self, command: Command, port: int, log: Path, cores: Sequence[int]) -> None:
        arguments = [argument.replace("{port}", str(port)) for argument in command.arguments]
        environment = {**command.environment, "BENCH_PORT": str(port)}
        super().__init__(command.name, arguments, environment, log, cores)
        self.dialect = command.dialect
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return super().__enter__()

    def wait_until_ready(self, timeout: float) -> float:
        """Seconds from the start until it takes jobs.

        Raises:
            ProcessFailed: it ended, or took longer than `timeout`.
        """
        ready = DIALECTS[self.dialect].ready
        while time.perf_counter() - self._began < timeout:
            if self.process.poll() is not None:
                raise self.failure("ended")
            with suppress(*ERRORS), Client(self.url, timeout=5) as client:
                if client.get(ready) == 200:
                    return time.perf_counter() - self._began
            time.sleep(0.02)
        raise self.failure(f"was not ready in {timeout:g} s")
