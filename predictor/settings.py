"""What the predictor was told at its start: the only file that reads the command line and the environment.

It extends the flags of KServe's own parser. It knows nothing of requests or models.
"""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kserve import model_server

from predictor.edge import ServerSettings, add_server_flags, positive, read_server_settings, seconds
from weights.store import ROUTES


@dataclass(frozen=True, slots=True)
class Settings:
    """One predictor process. Sizes in pixels, times in seconds."""

    base_dir: Path
    """A StableDiffusionPipeline folder."""
    lora_dir: Path
    """The LoRA store; it need not exist."""
    routes_file: Path
    """The weighted aliases; it need not exist."""
    server: ServerSettings
    device: str = "auto"
    dtype: str = "auto"
    default_look: str | None = None
    """The LoRA behind the model `emoji`; None: `notoemoji` where the store has it, else the plain base."""
    determinism: str = "throughput"
    """fixed-bucket: a picture's bytes are the same whatever is drawn beside it; throughput: nearly so."""
    cuda_graphs: bool = False
    """Steps of the native size are replayed as CUDA graphs."""
    max_batch_size: int = 8
    max_latency: float = math.inf
    """The batch doesn't grow where it would delay a picture beyond this, counted from its arrival."""
    max_queue_rows: int = 64
    max_resident_loras: int = 100
    """On the device; others wait in host memory. One step may need more, and gets them."""
    max_queue_seconds: float = 300.0
    """How much work may wait, by the time it will take."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """Shares of the server's time; a tenant that isn't named has 1."""
    max_rows: int = 8
    max_steps: int = 100
    max_size: int | None = None
    """None: twice the model's native size."""
    max_prompt_chars: int = 1000
    request_timeout: float = 300.0
    hang_timeout: float = 120.0
    """How long a computation may take that is the first of its kind, before the server counts as hung and
    wants to be restarted; others have less, by the time they took before."""
    threads: int | None = None
    """None: as many as torch takes by itself, but no more than the container's CPU limit."""
    log_format: str = "text"
    log_prompts: bool = False


def read_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from a command line without the program's name; ends the process where it is wrong.

    Args:
        argv: the flags; `--help` lists them.
        environment: MODEL_DIR is the default of --model_dir, DEFAULT_LOOK of --default_look; OpenTelemetry's
            variables say where traces go.
    """
    parser = _parser(environment.get("MODEL_DIR", "/mnt/models"), environment.get("DEFAULT_LOOK") or None)
    given = parser.parse_args(argv)
    root = Path(given.model_dir)
    # A folder that is a pipeline itself needs no base/ in it. One that may not be read is told of when it is
    # loaded; `Path.is_file` would raise here.
    base = root if os.path.isfile(root / "model_index.json") else root / "base"
    loras = Path(given.lora_dir or root / "loras")
    if given.workers != 1:
        parser.error("--workers must be 1: one engine uses the whole device; add replicas instead")
    if given.cuda_graphs and given.determinism == "fixed-bucket":
        parser.error("--cuda_graphs fills calls up with other rows, which fixed-bucket must not have")
    if given.max_rows > given.max_queue_rows:
        parser.error("--max_rows must not be more than --max_queue_rows, or such a request could never run")
    return Settings(
        base_dir=Path(given.base_dir or base),
        lora_dir=loras,
        routes_file=Path(given.routes or loras / ROUTES),
        server=read_server_settings(parser, given, environment),
        device=given.device,
        dtype=given.dtype,
        default_look=given.default_look,
        determinism=given.determinism,
        cuda_graphs=given.cuda_graphs,
        max_batch_size=given.max_batch_size,
        max_latency=given.max_latency,
        max_queue_rows=given.max_queue_rows,
        max_resident_loras=given.max_resident_loras,
        max_queue_seconds=given.max_queue_seconds or given.request_timeout,
        tenant_weights=given.tenant_weights,
        max_rows=given.max_rows,
        max_steps=given.max_steps,
        max_size=given.max_size,
        max_prompt_chars=given.max_prompt_chars,
        request_timeout=given.request_timeout,
        hang_timeout=given.hang_timeout,
        threads=given.threads,
        log_format=given.log_format,
        log_prompts=given.log_prompts,
    )


def _parser(model_dir: str, default_look: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m predictor",
        description="Serves Stable Diffusion with LoRA looks by KServe: v1 and v2 REST, v2 gRPC.",
        parents=[model_server.parser],
        allow_abbrev=False,
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_dir",
        default=model_dir,
        metavar="DIR",
        help="folder with base/ and loras/, or a Stable Diffusion folder itself (default: %(default)s)",
    )
    model.add_argument("--base_dir", metavar="DIR", help="a Stable Diffusion folder elsewhere")
    model.add_argument("--lora_dir", metavar="DIR", help="a LoRA store elsewhere")
    model.add_argument(
        "--routes",
        metavar="FILE",
        help="the weighted aliases; read again while serving (default: routes.json in the store)",
    )
    model.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    model.add_argument("--dtype", default="auto", choices=["auto", "float32", "float16", "bfloat16"])
    model.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="torch's CPU threads (default: one a core, but no more than the container's CPU limit)",
    )
    model.add_argument(
        "--default_look",
        default=default_look,
        metavar="LORA",
        help="the LoRA of the model `emoji`: name, name@version or name@alias; none for the plain base "
        "(default: $DEFAULT_LOOK, else notoemoji if the store has it)",
    )

    model.add_argument(
        "--determinism",
        default="throughput",
        choices=["fixed-bucket", "throughput"],
        help="fixed-bucket: a seed gives the same bytes whatever is drawn beside it, at the price of calls "
        "that are always full, with copies where rows are missing (default: %(default)s)",
    )

    model.add_argument(
        "--cuda_graphs",
        action="store_true",
        help="capture the steps of the native size as CUDA graphs before the first request, so that the host "
        "launches one in place of a thousand kernels",
    )

    work = parser.add_argument_group("work and its limits")
    work.add_argument("--max_batch_size", type=positive, default=8, metavar="N", help="rows in one step")
    work.add_argument(
        "--max_latency",
        type=seconds,
        default=math.inf,
        metavar="S",
        help="the batch doesn't grow where that would delay a picture beyond S after its arrival",
    )
    work.add_argument("--max_queue_rows", type=positive, default=64, metavar="N", help="more: 429")
    work.add_argument(
        "--max_resident_loras",
        type=positive,
        default=100,
        metavar="N",
        help="LoRAs in the device's memory; those used longest ago wait in the host's (default: 100)",
    )
    work.add_argument(
        "--max_queue_seconds",
        type=seconds,
        metavar="S",
        help="estimated work that may wait; more: 429 (default: --request_timeout)",
    )
    work.add_argument(
        "--tenant_weights",
        type=_weights,
        default={},
        metavar="NAME=W,…",
        help="shares of the server's time for tenants (header X-Tenant), as acme=3,guests=0.5; others have 1",
    )
    work.add_argument("--max_rows", type=positive, default=8, metavar="N", help="prompts in one request")
    work.add_argument("--max_steps", type=positive, default=100, metavar="N")
    work.add_argument("--max_size", type=positive, metavar="PIXELS", help="default: twice the native size")
    work.add_argument("--max_prompt_chars", type=positive, default=1000, metavar="N")
    work.add_argument("--request_timeout", type=seconds, default=300.0, metavar="S", help="longer: 504")
    work.add_argument(
        "--hang_timeout",
        type=seconds,
        default=120.0,
        metavar="S",
        help="not live when the first step of its size takes longer; later ones have a few seconds",
    )

    add_server_flags(parser)
    return parser


def _weights(text: str) -> dict[str, float]:
    """A flag's shares: name=weight, separated by commas."""
    weights = {}
    for pair in text.split(","):
        name, _, weight = pair.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise argparse.ArgumentTypeError("must be as acme=3,guests=0.5") from None
        if not 0 < weights[name.strip()] < math.inf:
            raise argparse.ArgumentTypeError("a weight must be more than 0")
    return weights
