"""quickstart.py as a process under test, on free ports."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[1]


class PortOption(NamedTuple):
    variable: str
    default: int


PORTS = (
    PortOption("HTTP_PORT", 8080),
    PortOption("GRPC_PORT", 8081),
    PortOption("PREDICTOR_HTTP_PORT", 8090),
    PortOption("PREDICTOR_GRPC_PORT", 8091),
)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Quickstart:
    """Started on enter; killed on exit, with what it started, if it still runs."""

    def __init__(self, model_dir: Path, folder: Path, ports: dict[str, int] | None = None) -> None:
        self.ports = ports or dict(
            zip((port.variable for port in PORTS), free_ports(len(PORTS)), strict=True)
        )
        self.out = folder / "out"
        self._model_dir = model_dir
        self._printed = folder / "printed.txt"

    def __enter__(self) -> Self:
        with self._printed.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "quickstart.py",
                    f"--model_dir={self._model_dir}",
                    "--device=cpu",
                    f"--out={self.out}",
                    *(f"--{variable.lower()}={port}" for variable, port in self.ports.items()),
                ],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.send_signal(signal.SIGINT)  # the second one: don't wait for a slow child
            self.process.wait(60)

    def printed(self) -> str:
        """Everything it has printed so far."""
        return self._printed.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        """Returns when it has printed `text`; fails when it ends without."""
        deadline = time.monotonic() + 600
        while text not in self.printed():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.2)
