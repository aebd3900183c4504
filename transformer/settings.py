"""What the transformer was told at its start: the only file that reads the command line and the environment.

The flags that KServe's controller gives a transformer (`--model_name`, `--predictor_host`, `--http_port`,
`--workers`) are the SDK's own; this adds the rest, and other defaults. It knows nothing of requests.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kserve import model_server

from predictor.edge import ServerSettings, add_server_flags, positive, read_server_settings, seconds
from transformer.translation.backends import TRANSLATOR_NAMES, TranslatorName

PredictorProtocol = Literal["grpc-v2", "v2"]


@dataclass(frozen=True, slots=True)
class Settings:
    """One transformer process. Times in seconds, sizes of pictures in pixels."""

    predictor_host: str
    """`host` or `host:port`; without a port it is 80, or 443 with TLS, as Knative has it."""
    server: ServerSettings = field(default_factory=ServerSettings)
    model_name: str | None = None
    """A name besides the predictor's own, usually the InferenceService's; it stands for `default_model`."""
    default_model: str = "emoji"
    predictor_protocol: PredictorProtocol = "grpc-v2"
    predictor_use_ssl: bool = False
    predictor_ca_file: Path | None = None
    predictor_timeout: float = 120
    """The most that one request may wait for the predictor; a request may ask for less."""
    predictor_connect_timeout: float = 1.0
    predictor_retries: int = 6
    """Over some six seconds: for that long a killed pod may still be among the endpoints of its Service."""
    translator: TranslatorName = "glossary"
    translator_dir: Path | None = None
    translation_cache_size: int = 10_000
    picture_threads: int = 2
    max_rows: int = 8
    max_prompt_chars: int = 1000
    max_picture_size: int = 2048
    log_format: str = "text"
    log_prompts: bool = False


def read_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from a command line without the program's name; ends the process where it is wrong.

    Args:
        argv: the flags; `--help` lists them.
        environment: REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE is the CA file for TLS to the predictor, as the
            controller sets it; OpenTelemetry's variables say where traces go.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    ca_file = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if not given.predictor_host:
        parser.error("--predictor_host HOST[:PORT] must be given")
    if given.predictor_protocol == "v1":
        parser.error("--predictor_protocol must be grpc-v2 or v2: v1 has no tensors for the pixels")
    if given.predictor_request_timeout_seconds < 1:
        parser.error("--predictor_request_timeout_seconds must be at least 1")
    if not 0 <= given.predictor_request_retries <= 10:
        parser.error("--predictor_request_retries must be from 0 to 10")
    if given.translator == "seq2seq" and given.translator_dir is None:
        parser.error("--translator seq2seq needs --translator_dir")
    return Settings(
        predictor_host=given.predictor_host,
        server=read_server_settings(parser, given, environment),
        model_name=given.model_name,
        default_model=given.default_model,
        predictor_protocol=given.predictor_protocol,
        predictor_use_ssl=given.predictor_use_ssl,
        predictor_ca_file=Path(ca_file) if ca_file else None,
        predictor_timeout=given.predictor_request_timeout_seconds,
        predictor_connect_timeout=given.predictor_connect_timeout_seconds,
        predictor_retries=given.predictor_request_retries,
        translator=given.translator,
        translator_dir=given.translator_dir,
        translation_cache_size=given.translation_cache_size,
        # The controller gives --workers with containerConcurrency. One process does, as its work is waiting,
        # and numpy and Pillow in threads: so many pictures may be encoded at once.
        picture_threads=max(given.workers, given.picture_threads),
        max_rows=given.max_rows,
        max_prompt_chars=given.max_prompt_chars,
        max_picture_size=given.max_picture_size,
        log_format=given.log_format,
        log_prompts=given.log_prompts,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transformer",
        description="Korean or English sentences in, emoji pictures out, in front of the predictor.",
        parents=[model_server.parser],
        allow_abbrev=False,
    )
    parser.set_defaults(
        model_name=None,
        predictor_protocol="grpc-v2",
        predictor_request_timeout_seconds=120,
        predictor_request_retries=6,
    )

    predictor = parser.add_argument_group("predictor (see also --predictor_…, above)")
    predictor.add_argument(
        "--predictor_connect_timeout_seconds", type=seconds, default=1.0, metavar="S", help="of each try"
    )
    predictor.add_argument(
        "--default_model",
        default="emoji",
        metavar="NAME",
        help="the predictor's model behind --model_name and the readiness probe (default: %(default)s)",
    )

    work = parser.add_argument_group("work and its limits")
    work.add_argument("--translator", default="glossary", choices=TRANSLATOR_NAMES)
    work.add_argument("--translator_dir", type=Path, metavar="DIR", help="a Hugging Face folder, for seq2seq")
    work.add_argument("--translation_cache_size", type=positive, default=10_000, metavar="N")
    work.add_argument("--picture_threads", type=positive, default=2, metavar="N")
    work.add_argument("--max_rows", type=positive, default=8, metavar="N", help="prompts in one request")
    work.add_argument("--max_prompt_chars", type=positive, default=1000, metavar="N")
    work.add_argument("--max_picture_size", type=positive, default=2048, metavar="PIXELS")

    add_server_flags(parser)
    return parser
