""".ci/run: what runs in which order, what it leaves out, what ends it. Its commands only note themselves."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUST = ["make check", "make test"]
IMAGES = ["make image-archives TORCH=cpu", "make test-images PYTEST_ARGS=-x"]
CLUSTER = ["make test-cluster PYTEST_ARGS=-x", "make cluster-down"]
ALL = [*MUST, "make test-manifests PYTEST_ARGS=-x", "images/build.sh prepare", *IMAGES, *CLUSTER]

UP = 'if [ "$1" = test-cluster ]; then mkdir -p .cluster/run; fi'


class Checkout:
    """A folder with the real .ci/run and pretended commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.noted = folder / "noted"
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
        for program in ("images/build.sh", "cluster/preflight.sh"):
            self.pretend(program, "")
        self.pretend("bin/make", UP)
        self.pretend("bin/kube-linter", "")
        self.pretend("bin/timeout", 'while [ "${1#[-0-9]}" != "$1" ]; do shift; done; exec "$@"')

    def pretend(self, program: str, lines: str) -> None:
        """A program that notes itself down and goes on with some lines of shell."""
        script = self.folder / program
        script.parent.mkdir(exist_ok=True)
        name = program.removeprefix("bin/")
        note = "" if name == "timeout" else f'echo {name} "$@" >> {self.noted}'
        script.write_text(f"#!/bin/bash\n{note}\n{lines}\n", encoding="utf-8")
        script.chmod(0o755)

    def run(self, **variables: str) -> tuple[int, str]:
        """The exit status and what was said."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            [self.folder / ".ci/run"],
            env={**os.environ, "KUBECONFIG": "/somebody/else's", **variables, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def ran(self) -> list[str]:
        """What was run, without what only looks."""
        lines = self.noted.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.strip() not in ("make --version", "cluster/preflight.sh")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_runs_everything_where_it_can(checkout: Checkout) -> None:
    checkout.pretend("bin/make", f'{UP}; echo "${{KUBECONFIG:-none}}" > saw-"$1"')
    status, said = checkout.run()
    assert status == 0, said
    assert checkout.ran() == ALL
    assert "SKIPPED" not in said
    assert said.splitlines()[-1].endswith("CI passed: everything")
    assert (checkout.folder / "saw-test-cluster").read_text() == "none\n"


@pytest.mark.parametrize(
    "target", [line.split()[1] for line in ALL if line.startswith("make") and "down" not in line]
)
def test_a_failure_ends_it(checkout: Checkout, target: str) -> None:
    checkout.pretend("bin/make", f'{UP}; test "$1" != {target}')
    status, said = checkout.run()
    assert status != 0
    assert "CI FAILED" in said
    assert "CI passed" not in said
    ran = [line.split()[1] for line in checkout.ran()]
    assert ran[-1] == ("cluster-down" if target == "test-cluster" else target)


def test_without_the_means_for_a_cluster_it_says_what_is_missing(checkout: Checkout) -> None:
    checkout.pretend("cluster/preflight.sh", "echo ' - root: you are somebody' >&2; exit 1")
    status, said = checkout.run()
    assert status == 0
    assert checkout.ran() == ALL[: -len(CLUSTER)]
    assert "SKIPPED: make test-cluster" in said
    assert "root: you are somebody" in said.rpartition("CI passed, WITHOUT")[2]


def test_without_a_builder_there_are_no_images(checkout: Checkout) -> None:
    checkout.pretend("images/build.sh", "echo 'no builder' >&2; exit 1")
    status, said = checkout.run()
    assert status == 0
    assert not set(IMAGES) & set(checkout.ran())
    assert "no builder" in said.rpartition("CI passed, WITHOUT")[2]


def test_without_kube_linter_it_says_what_was_not_checked(checkout: Checkout) -> None:
    (checkout.folder / "bin/kube-linter").unlink()
    status, said = checkout.run()
    assert status == 0
    assert checkout.ran() == ALL
    passed, _, without = said.rpartition("CI passed, WITHOUT")
    assert ("kube-linter" in without and bool(passed)) == (shutil.which("kube-linter") is None)


def test_without_the_time_it_runs_what_it_must(checkout: Checkout) -> None:
    status, said = checkout.run(CI_MINUTES="6")
    assert status == 0
    assert checkout.ran() == MUST
    assert said.count("SKIPPED") == 3


@pytest.mark.parametrize("code", [124, 137])
def test_what_is_cut_off_is_said_and_the_cluster_taken_away(checkout: Checkout, code: int) -> None:
    started = 'case "$*" in *test-cluster*) mkdir -p .cluster/run ;; esac'
    checkout.pretend("bin/timeout", f'{started}; test "$1" = 300 || exit {code}')
    status, said = checkout.run()
    assert status == 0
    assert said.rpartition("CI passed, WITHOUT")[2].count("CUT OFF") == 3
    assert checkout.ran()[-1] == "make cluster-down"


def test_a_cluster_that_was_there_before_stays(checkout: Checkout) -> None:
    (checkout.folder / ".cluster/run").mkdir(parents=True)
    assert checkout.run()[0] == 0
    assert checkout.ran() == ALL[:-1]
