"""The commands in docs/ are run as they stand there, in order; one that is not run says why before it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.docs import Block, blocks
from tests.cluster.modes import only_knative
from tests.cluster.report import Section

PAGES = ("kubernetes", "weights", "autoscaling", "troubleshooting")
SECONDS = 1200


def run_order() -> list[Block]:
    """The pages one after the other; the last block of the first takes away what all of them use."""
    first, *others = (blocks(page) for page in PAGES)
    return [b for b in [*first[:-1], *(b for page in others for b in page), first[-1]] if b.reason is None]


def test_blocks_are_found() -> None:
    run = run_order()
    assert len(run) >= 12
    assert {block.language for block in run} <= {"bash", "python", "text"}
    assert "kubectl apply -k" in run[1].code
    assert "kubectl delete -k" in run[-1].code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands run: like the checkout, but what they write is thrown away."""
    for path in ROOT.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.cluster
@only_knative
@pytest.mark.skipif(
    "EMOJI_LOCAL" not in os.environ,
    reason="the pages use and remove the namespace `emoji`: only where `make test-cluster` runs the cluster",
)
def test_docs(cluster: Cluster, folder: Path, evidence: Section) -> None:
    """Every command of docs/ that is not marked otherwise, as it stands there"""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "KNATIVE_URL": "http://" + cluster.ingress_address("Knative"),
    }
    for block in run_order():
        command = {
            "bash": ["bash", "-euo", "pipefail", "-c", block.code],
            "python": [sys.executable, "-c", block.code],
        }.get(block.language)
        if command is None:
            continue
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        title = block.code.strip().splitlines()[0][:100]
        evidence.fact(f"{block.page}: {title}", f"{time.monotonic() - began:.0f} s")
        assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
        for name in re.findall(r"-o ([\w-]+\.png)|open\(\"([\w-]+\.png)", block.code):
            file = folder / (name[0] or name[1])
            evidence.picture(f"{block.page}: {file.name}", file.read_bytes())
            with Image.open(file) as picture:
                assert picture.format == "PNG"
