"""The servers that are compared, and how each is started."""

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.jobs import GUIDANCE
from benchmarks.server import Command
from benchmarks.settings import Settings

QUEUE_ROWS = 100_000  # a benchmark wants every picture


def environment(settings: Settings, loras: Path, adapters: str = "set") -> dict[str, str]:
    """What every server and probe is told (benchmarks/peers/settings.py)."""
    return {
        "BENCH_BASE": str(settings.model_dir.resolve() / "base"),
        "BENCH_LORAS": str(loras),
        "BENCH_DEVICE": settings.device,
        "BENCH_DTYPE": settings.dtype,
        "BENCH_THREADS": str(settings.threads),
        "BENCH_MAX_BATCH_SIZE": str(settings.max_batch_size),
        "BENCH_ADAPTERS": adapters,
        "BENCH_STEPS": " ".join(map(str, settings.steps)),
        "BENCH_GUIDANCE": " ".join(map(str, GUIDANCE)),
        "BENCH_PORT": "0",
        "OMP_NUM_THREADS": str(settings.threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        # BentoML's usage reports, and its home beside the logs
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(loras.parent / "bentoml"),
    }


def commands(settings: Settings, loras: Path) -> dict[str, Command]:
    """Every side by name."""
    common = environment(settings, loras)
    return {
        "predictor": Command("predictor", "predictor", _predictor(settings, common), common),
        "diffusers": Command("diffusers", "fastapi", _peer(settings, "diffusers"), common),
        "diffusers-load": Command(
            "diffusers-load",
            "fastapi",
            _peer(settings, "diffusers"),
            environment(settings, loras, adapters="load"),
        ),
        "bentoml": Command("bentoml", "bentoml", _bentoml(settings), common),
        "bentoml-grouped": Command("bentoml-grouped", "bentoml-grouped", _bentoml(settings), common),
        "litserve": Command("litserve", "litserve", _peer(settings, "litserve"), common),
        "kserve": Command("kserve", "kserve", _peer(settings, "kserve"), common),
    }


def _python(settings: Settings, peer: str) -> str:
    """The interpreter of a peer's environment."""
    return str(settings.environments.resolve() / peer / "bin" / "python")


def _peer(settings: Settings, peer: str) -> list[str]:
    return [_python(settings, peer), "-m", f"benchmarks.peers.{peer}_peer"]


def _bentoml(settings: Settings) -> list[str]:
    serve = ("-m", "bentoml", "serve", "benchmarks.peers.bentoml_peer:Emoji")
    return [_python(settings, "bentoml"), *serve, "--host", "127.0.0.1", "--port", "{port}"]


def _predictor(settings: Settings, common: Mapping[str, str]) -> list[str]:
    flags = {
        "base_dir": common["BENCH_BASE"],
        "lora_dir": common["BENCH_LORAS"],
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": settings.threads,
        "http_port": "{port}",
        "enable_grpc": "false",
        "max_batch_size": settings.max_batch_size,
        "max_queue_rows": QUEUE_ROWS,
        "request_timeout": settings.request_timeout,
    }
    return [
        *(sys.executable, "-m", "predictor"),
        *(part for name, value in flags.items() for part in (f"--{name}", str(value))),
    ]
