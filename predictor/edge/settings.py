"""Where and how a server serves: the settings of the edge, and the flags that every server has for them.

Knows KServe's parser, which these flags are added to, but not what is served.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


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
    traces_endpoint: str | None = None
    """The URL that spans are posted to; None: there are none."""


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


def read_server_settings(
    parser: argparse.ArgumentParser, given: argparse.Namespace, environment: Mapping[str, str]
) -> ServerSettings:
    """The server's part of what was given; ends the process where it is wrong.

    Args:
        parser: has the flags of `add_server_flags`.
        given: what it has parsed.
        environment: OpenTelemetry's variables say whether spans are collected and where.
    """
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
        traces_endpoint=_traces_endpoint(parser, environment),
    )


def _traces_endpoint(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> str | None:
    """Where spans go by the variables that OpenTelemetry specifies for every program."""
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (
        base and f"{base.removesuffix('/')}/v1/traces"
    )
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if not endpoint or off or exporter == "none":
        return None
    if exporter != "otlp":
        parser.error(f"OTEL_TRACES_EXPORTER: {exporter} is not there; otlp and none are")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    if protocol != "http/protobuf":
        parser.error(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol} is not spoken; http/protobuf is, on port 4318")
    try:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError
    except ValueError:
        parser.error(f"OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint} is not like http://collector:4318")
    return endpoint


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
