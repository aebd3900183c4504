"""A process under measurement: started on its cores, paused while another one's turn is, weighed, ended.

It doesn't know what the process does.
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[1]
STANDING = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
END_S = 20  # from SIGTERM to SIGKILL


class ProcessFailed(RuntimeError):
    """It ended, or didn't do what it should; the message has the end of its log."""

    def __init__(self, process: "Process", message: str) -> None:
        super().__init__(message)
        self.process = process


class Process:
    """Runs in a `with` block, with all that it starts itself."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        cores: Sequence[int],
    ) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._environment = environment
        self._cores = cores

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                self._arguments,
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stderr=log,
                text=True,
                **self._pipes(log),
            )
        self.process.cpu_affinity(list(self._cores))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes = self._processes()
        self.resume()
        with suppress(psutil.NoSuchProcess):
            self.process.terminate()
        _, left = psutil.wait_procs(processes, timeout=END_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=END_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def pause(self) -> None:
        """Stops all its processes, so that it takes no time from another one."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()
                while process.status() not in STANDING:
                    time.sleep(0.001)

    def resume(self) -> None:
        """Lets it run again."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def memory(self) -> int:
        """Bytes of all its processes: what each has alone, and what the one that shares most shares, be it
        with processes of another side, which map the same libraries.
        """
        alone, shared = 0, [0]
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                found = process.memory_full_info()
                alone += found.uss
                shared.append(found.rss - found.uss)
        return int(alone + max(shared))

    def failure(self, what: str) -> ProcessFailed:
        """An error to raise."""
        end = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        return ProcessFailed(self, f"{self.name} {what}\n{end}")

    def _pipes(self, log: Any) -> dict[str, Any]:
        return {"stdin": subprocess.DEVNULL, "stdout": log}

    def _processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []
