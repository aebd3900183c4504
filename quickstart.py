"""What `make run` starts: the predictor and the transformer as two processes, and the first pictures.

It knows their command lines and their public API; it does not know how a picture is drawn.
"""

import argparse
import asyncio
import base64
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

HOST = "127.0.0.1"
SENTENCES = {"english": "a cat with heart eyes", "korean": "우는 여우"}
LOOKS = ("notoemoji", "openmoji")
SEED = 7
GRACE_SECONDS = 10
"""How long requests under way may take at the end."""
STOP_SECONDS = 2.0 * GRACE_SECONDS
"""A process that takes longer to stop is killed."""
LAST_LINES = 15


class QuickstartError(Exception):
    """Something the user has to change; the message says what."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port to listen on, and the variable of `make run` that sets it."""

    number: int
    variable: str


@dataclass(frozen=True, slots=True)
class Child:
    """A running server process, in a process group of its own so that Ctrl-C reaches only the launcher."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], log: Path) -> "Child":
        """Runs `python -m NAME ARGUMENTS`; what it prints goes to `log`."""
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                name,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, process, log)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and whatever it has started; nothing happens when all are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def last_lines(self) -> str:
        """The end of its log, indented."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join(f"    {line}" for line in lines)


def check_ports(ports: Sequence[Port]) -> None:
    """Raises QuickstartError when two ports are the same or one can't be listened on."""
    taken: dict[int, Port] = {}
    for port in ports:
        if not 0 < port.number < 65536:
            raise QuickstartError(f"{port.variable}={port.number} is no port; it must be from 1 to 65535.")
        if (other := taken.setdefault(port.number, port)) is not port:
            raise QuickstartError(
                f"{port.variable} and {other.variable} are both {port.number}; set one to another port."
            )
        with socket.socket() as probe:
            # As the servers do: a port that was just closed would else count as taken for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port.number))
            except OSError as error:
                reason = (
                    "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
                )
                raise QuickstartError(
                    f"Port {port.number} {reason}. Stop what listens there, or choose another one: "
                    f"make run {port.variable}={port.number + 100}"
                ) from error


async def wait_until_ready(child: Child, url: str) -> None:
    """Returns when `url` answers 200. That the process may die meanwhile is the caller's concern."""
    print(f"Starting the {child.name} ", end="", flush=True)
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=2) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    break
            print(".", end="", flush=True)
            await asyncio.sleep(1)
    print(f" ready after {time.monotonic() - began:.0f} s")


async def draw_first_pictures(transformer: str, predictor: str, folder: Path) -> None:
    """Draws every sentence in every look that is served, one request a look, and says where the PNGs are."""
    async with httpx.AsyncClient(base_url=transformer, timeout=600) as client:
        served = (await client.get(f"{predictor}/v2/models")).raise_for_status().json()["models"]
        for look in [look for look in LOOKS if look in served] or ["emoji"]:
            request = {
                "inputs": [
                    {"name": "prompt", "datatype": "BYTES", "shape": [2], "data": list(SENTENCES.values())},
                    {"name": "seed", "datatype": "INT64", "shape": [2], "data": [SEED, SEED]},
                ]
            }
            reply = await client.post(f"/v2/models/{look}/infer", json=request)
            if reply.is_error:
                raise QuickstartError(f"{look}: {reply.status_code} {reply.text}")
            outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
            for (language, sentence), english, picture in zip(
                SENTENCES.items(), outputs["prompt"], outputs["image"], strict=True
            ):
                path = folder / f"{language}-{look}.png"
                path.write_bytes(base64.b64decode(picture, validate=True))
                translated = "" if english == sentence else f" → {english}"
                print(f"  {path}  {sentence}{translated}")


def print_invitation(transformer: str, folder: Path, children: Sequence[Child]) -> None:
    """Says what to try next."""
    body = '{"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["빨간 사과"]}]}'
    logs = " and ".join(str(child.log) for child in children)
    print(
        f"\nTry it:\n\n"
        f"  curl -sS {transformer}/v2/models/notoemoji/infer -H 'Content-Type: application/json' "
        f"-H 'Accept: image/png' \\\n    -d '{body}' -o {folder / 'apple.png'}\n\n"
        f"The API is described at {transformer}/docs, the logs are {logs}.\n"
        "Serving; Ctrl-C stops.",
        flush=True,
    )


@contextlib.asynccontextmanager
async def stopped_at_the_end(children: Sequence[Child], interrupt: asyncio.Event) -> AsyncIterator[None]:
    """Stops the children, the last started first; kills one that is too slow or at a second interrupt."""
    try:
        yield
    finally:
        interrupt.clear()
        for child in reversed(children):
            child.signal(signal.SIGTERM)
            exited = asyncio.create_task(child.process.wait())
            again = asyncio.create_task(interrupt.wait())
            await asyncio.wait({exited, again}, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            again.cancel()
            if not exited.done():
                print(f"The {child.name} did not stop in time and is killed.", flush=True)
            child.signal(signal.SIGKILL)
            await exited


async def run(arguments: argparse.Namespace) -> int:
    """Starts, shows, serves and stops; returns the exit status. Raises QuickstartError."""
    ports = [
        Port(arguments.http_port, "HTTP_PORT"),
        Port(arguments.grpc_port, "GRPC_PORT"),
        Port(arguments.predictor_http_port, "PREDICTOR_HTTP_PORT"),
        Port(arguments.predictor_grpc_port, "PREDICTOR_GRPC_PORT"),
    ]
    check_ports(ports)
    interrupt = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt.set)
    arguments.out.mkdir(parents=True, exist_ok=True)
    transformer = f"http://{HOST}:{arguments.http_port}"
    predictor = f"http://{HOST}:{arguments.predictor_http_port}"
    children: list[Child] = []

    async def show() -> None:
        await wait_until_ready(children[0], f"{predictor}/v2/models/emoji/ready")
        await wait_until_ready(children[1], f"{transformer}/v2/models/emoji/ready")
        print("Drawing the first pictures:")
        await draw_first_pictures(transformer, predictor, arguments.out)
        print_invitation(transformer, arguments.out, children)

    async with stopped_at_the_end(children, interrupt):
        for name, options in server_arguments(arguments).items():
            children.append(await Child.start(name, options, arguments.out / f"{name}.log"))
        interrupted = asyncio.create_task(interrupt.wait())
        exits = {asyncio.create_task(child.process.wait()): child for child in children}
        showing = asyncio.create_task(show())
        await asyncio.wait({interrupted, showing, *exits}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done() and not showing.exception():
            await asyncio.wait({interrupted, *exits}, return_when=asyncio.FIRST_COMPLETED)
        if interrupted.done():
            print("\nStopping ...", flush=True)
        for exited, child in exits.items():
            if exited.done() and not interrupted.done():
                print(
                    f"\nThe {child.name} ended with status {exited.result()}. The end of {child.log}:\n"
                    f"{child.last_lines()}",
                    file=sys.stderr,
                )
        if showing.done() and (failure := showing.exception()):
            print(f"\nThe first pictures failed: {type(failure).__name__}: {failure}", file=sys.stderr)
        for task in (showing, interrupted, *exits):
            task.cancel()
        clean = interrupted.done() and not interrupted.cancelled()
    print("Stopped.")
    return 0 if clean else 1


def server_arguments(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The command line of each server, in the order in which they start."""
    return {
        "predictor": [
            f"--model_dir={arguments.model_dir}",
            f"--device={arguments.device}",
            f"--http_port={arguments.predictor_http_port}",
            f"--grpc_port={arguments.predictor_grpc_port}",
            f"--grace_period={GRACE_SECONDS}",
        ],
        "transformer": [
            f"--predictor_host={HOST}:{arguments.predictor_grpc_port}",
            f"--http_port={arguments.http_port}",
            f"--grpc_port={arguments.grpc_port}",
            f"--grace_period={GRACE_SECONDS}",
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see `make help`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--model_dir", type=Path, default=Path("weights/embedded"), help="base/ and loras/ to serve"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--http_port", type=int, default=8080, help="REST of the transformer")
    parser.add_argument("--grpc_port", type=int, default=8081, help="gRPC of the transformer")
    parser.add_argument("--predictor_http_port", type=int, default=8090, help="REST of the predictor")
    parser.add_argument("--predictor_grpc_port", type=int, default=8091, help="gRPC of the predictor")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where pictures and logs go")
    try:
        return asyncio.run(run(parser.parse_args(argv)))
    except (QuickstartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
