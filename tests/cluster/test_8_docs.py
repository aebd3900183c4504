"""The commands in docs/ are run as they stand there, in order; one that is not run says why before it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cluster.cluster import ROOT, Cluster, run, until
from tests.cluster.docs import Block, blocks
from tests.cluster.load import Load, burst, by_lora, failed
from tests.cluster.looks import CANARY, STABLE
from tests.cluster.modes import only_knative, only_standard
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service

PAGES = ("kubernetes", "rollout", "weights", "autoscaling", "troubleshooting")
SECONDS = 1200


def run_order() -> list[Block]:
    """The pages one after the other; the last block of the first takes away what all of them use."""
    first, *others = (blocks(page) for page in PAGES)
    every = [*first[:-1], *(block for page in others for block in page), first[-1]]
    return [block for block in every if block.reason is None and not block.standard]


def standard_blocks() -> list[Block]:
    """Those of Standard mode alone: a canary by hand, promoted."""
    return [block for page in PAGES for block in blocks(page) if block.standard]


def test_blocks_are_found() -> None:
    order = run_order()
    assert len(order) >= 12
    assert {block.language for block in order} <= {"bash", "python", "text"}
    assert "kubectl apply -k" in order[1].code
    assert "kubectl delete -k" in order[-1].code
    assert [block.page for block in standard_blocks()] == ["rollout"] * 4


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


@pytest.mark.cluster
@only_standard
def test_docs_standard(emoji: Service, evidence: Section) -> None:
    """The commands of docs/rollout.md for Standard mode, by hand to a promotion: 0 failed requests"""
    shares = [{STABLE: 100}, {STABLE: 90, CANARY: 10}, {CANARY: 100}, {CANARY: 100}]
    try:
        with Load(emoji.ingress(), LIGHT, 0.3) as load:
            for block, expected in zip(standard_blocks(), shares, strict=True):
                began = time.monotonic()
                code = block.code.replace("-n emoji", f"-n {emoji.namespace}")
                run("bash", "-euo", "pipefail", "-c", code, timeout=SECONDS)
                title = block.code.strip().splitlines()[0][:100]
                evidence.fact(f"{block.page}: {title}", f"{time.monotonic() - began:.0f} s")
                assert emoji.traffic() == expected
            assert by_lora(burst(emoji.ingress(), LIGHT, 6, 2)) == {CANARY: 6}
        evidence.load("load of 0.3/s meanwhile", load.outcomes)
        assert failed(load.outcomes) == []
    finally:
        emoji.patch({"spec": {"predictor": {"model": {"env": [{"name": "DEFAULT_LOOK", "value": STABLE}]}}}})

    def back() -> bool:
        return {emoji.look_of(pod) for pod in emoji.pods("predictor")} == {STABLE}

    until("all pods have the first look again", back, START_S)
    emoji.wait()
