"""The rooms and their borders: who may import whom, what stays light, and that an import does nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("weights", "predictor", "transformer", "rollout")
LINT = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_rules_hold() -> None:
    done = subprocess.run(LINT, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("importer", "line", "contract"),
    [
        ("weights", "import predictor.errors", "weights <- predictor <- transformer"),
        ("predictor", "import transformer.pictures", "weights <- predictor <- transformer"),
        ("rollout", "import predictor.contract", "Kubernetes objects only"),
        ("transformer", "import predictor.engine.engine", "not its engine"),
        ("transformer", "import weights.store", "without torch"),
        ("transformer", "import torch", "without torch"),
        ("predictor/contract", "import torch", "no torch and no weights"),
        ("predictor/diffusion", "import predictor.engine.terms", "The model knows no engine"),
        ("predictor/engine", "import predictor.contract", "know no wire format"),
        ("predictor/contract", "import weights.errors", "no torch and no weights"),
    ],
)
def test_a_forbidden_import_breaks_a_rule(tmp_path: Path, importer: str, line: str, contract: str) -> None:
    for room in ROOMS:
        shutil.copytree(
            ROOT / room,
            tmp_path / room,
            ignore=lambda folder, names: [
                name for name in names if not (name.endswith(".py") or (Path(folder) / name).is_dir())
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / importer / "intruder.py").write_text(line + "\n", encoding="utf-8")
    done = subprocess.run(LINT, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), done.stdout


def test_the_transformer_runs_without_torch_and_diffusers() -> None:
    code = """
import importlib, json, pkgutil, sys
import predictor.contract, predictor.edge, predictor.errors, transformer
for module in pkgutil.walk_packages(transformer.__path__, "transformer."):
    if module.name not in ("transformer.translation.seq2seq", "transformer.__main__"):
        importlib.import_module(module.name)
print(json.dumps([name for name in ("torch", "diffusers", "transformers", "weights") if name in sys.modules]))
"""
    assert json.loads(python(code)) == []


def test_an_import_does_nothing() -> None:
    """No thread, no output, no warning, no look at argv: by any module of any room."""
    code = f"""
import importlib, pkgutil, sys, threading, warnings
sys.argv = ["test", "--no-such-flag"]
# What the libraries do on import is theirs: load them first, with their notes on stderr.
import diffusers, grpc, kserve.model_server, torch, transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
warnings.simplefilter("error")
before = set(threading.enumerate())
for room in map(importlib.import_module, {ROOMS}):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
assert set(threading.enumerate()) == before
"""
    assert python(code) == ""
