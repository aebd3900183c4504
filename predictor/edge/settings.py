"""Where and how a server serves: the settings of the edge, and the flags that every server has for them.

Knows KServe's parser, which these flags are added to, but not what is served.
"""

import argparse
import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where to listen, what to read, how to stop. Times in seconds."""

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    enable_grpc: bool = True
    enable_docs: bool = True
    max_body_bytes: int = 1 << 20
    drain_delay: float = 0.0
    """How long to keep accepting after the first signal, already not ready: balancers need time to notice."""
    grace_period: float = 30.0
    """How long requests under way may take after that."""
    timeout_keep_alive: int = 65
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a process that serves to those of KServe's parser."""
    parser.set_defaults(enable_docs_url=True)
    process = parser.add_argument_group("process")
    process.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a pod")
    process.add_argument("--max_body_bytes", type=positive, default=1 << 20, metavar="N", help="more: 413")
    process.add_argument(
        "--drain_delay", type=seconds, default=0.0, metavar="S", help="serve on after SIGTERM"
    )
    process.add_argument(
        "--grace_period", type=seconds, default=30.0, metavar="S", help="for requests under way"
    )
    process.add_argument("--log_format", default="text", choices=["text", "json"])
    process.add_argument("--log_prompts", action="store_true", help="write prompts into the log")


def read_server_settings(parser: argparse.ArgumentParser, given: argparse.Namespace) -> ServerSettings:
    """The server's part of what was given; ends the process where it is wrong."""
    for name in ("ssl_certfile", "ssl_keyfile"):
        file = getattr(given, name)
        if file and not os.access(file, os.R_OK):
            parser.error(f"--{name}: {file} cannot be read")
    return ServerSettings(
        host=given.host,
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        enable_grpc=given.enable_grpc,
        enable_docs=given.enable_docs_url,
        max_body_bytes=given.max_body_bytes,
        drain_delay=given.drain_delay,
        grace_period=given.grace_period,
        timeout_keep_alive=given.timeout_keep_alive,
        ssl_certfile=given.ssl_certfile,
        ssl_keyfile=given.ssl_keyfile,
    )


def positive(text: str) -> int:
    """A flag's whole number, at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def seconds(text: str) -> float:
    """A flag's time, at most a day."""
    value = float(text)
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError("must be from 0 to 86400")
    return value
