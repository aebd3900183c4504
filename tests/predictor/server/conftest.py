"""One predictor for all of these tests: a process, real sockets, a tiny model of the true architecture."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.predictor.server.asking import LONG, MEASURED
from tests.predictor.serving import Predictor, running, write_store
from weights.base import read_base


@pytest.fixture(scope="package")
def model_dir(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_folders["emoji"], root / "base")
    generation = {"num_inference_steps": 2, "guidance_scale": 2.0, "solver": "ddim"}
    (root / "base" / "generation.json").write_text(json.dumps(generation), encoding="utf-8")
    approximations = {
        "few_steps": {"num_inference_steps": 3, "solver": "euler"},
        "base": read_base(root / "base").sha256,
        "quality": {"block-cache:2": MEASURED},
    }
    (root / "base" / "approximations.json").write_text(json.dumps(approximations), encoding="utf-8")
    write_store(root / "loras", root / "base")
    return root


@pytest.fixture(scope="package")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    log = tmp_path_factory.mktemp("log") / "predictor.log"
    flags = ["--max_batch_size", "2", "--max_queue_rows", "4", "--max_rows", "4", "--max_steps", str(LONG)]
    flags += ["--max_body_bytes", "20000", "--log_format", "json", "--request_timeout", "86400"]
    with running(log, "--model_dir", str(model_dir), *flags) as predictor:
        yield predictor
