"""The make targets and the locks they install: complete, hashed, alike, and free of addresses."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LOCKS = {path.stem: path for path in (ROOT / "requirements").glob("*.txt")}
PEERS = {path.stem: path for path in (ROOT / "benchmarks" / "peers").glob("*.txt")}
IMAGES = {"sbom": ROOT / "images/sbom.txt", "storage": ROOT / "cluster/storage/requirements.txt"}
CUDA = re.compile(r"^(nvidia-|cuda-|triton$|torch$)")
INDEX = "file:///some/index"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def pins(lock: str) -> dict[str, set[str]]:
    """Versions by package; a package may have one for each range of Pythons."""
    versions: dict[str, set[str]] = {}
    for line in (LOCKS | PEERS | IMAGES)[lock].read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\"))
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            versions.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return versions


def test_help_lists_every_target() -> None:
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE)) - {"forget-torch"}
    assert {"run", "test", "check", "lock", "eval", "eval-ko", "train", "glyphs", "clean"} <= targets
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", make("help").stdout, re.MULTILINE))
    assert listed == targets


def test_every_lock_is_made_by_make_lock(venv: Path) -> None:
    written = set(re.findall(r" -o (\S+)", make("-n", "lock", f"VENV={venv}").stdout))
    locks = [*LOCKS.values(), *PEERS.values(), *IMAGES.values()]
    assert written == {str(path.relative_to(ROOT)) for path in locks}


def test_locks_are_there() -> None:
    assert LOCKS.keys() == {"build", "dev", "predictor", "seq2seq", "torch", "transformer"}
    assert PEERS.keys() == {"bentoml", "diffusers", "kserve", "litserve"}


@pytest.mark.parametrize("lock", LOCKS | PEERS | IMAGES)
def test_a_lock_pins_by_hash_and_names_no_address(lock: str) -> None:
    text = (LOCKS | PEERS | IMAGES)[lock].read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=sha256:", "    "), re.MULTILINE)
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= len(pins(lock)) >= 1
    assert all("--hash=sha256:" in entry for entry in entries)


def test_locks_agree() -> None:
    complete = pins("dev")
    for lock in LOCKS.keys() - {"dev", "torch"}:
        versions = pins(lock)
        assert all(versions[name] <= complete[name] for name in versions), lock
    for lock in (PEERS | IMAGES).keys() - {"bentoml"}:
        versions = pins(lock)
        assert all(versions[name] <= complete[name] for name in versions.keys() & complete.keys()), lock


def test_what_only_torch_needs_is_in_its_lock_alone() -> None:
    assert "torch" in pins("torch")
    assert all(CUDA.match(name) for name in pins("torch"))
    for lock in LOCKS.keys() - {"torch"}:
        assert not [name for name in pins(lock) if CUDA.match(name)], lock


def test_locks_fit_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra, requirements in project["optional-dependencies"].items():
        lock = pins(extra) if extra in LOCKS else pins("dev")
        for requirement in map(Requirement, requirements):
            if requirement.name not in (project["name"], "torch"):
                versions = lock[canonicalize_name(requirement.name)]
                assert all(version in requirement.specifier for version in versions), requirement
    (torch,) = map(Requirement, project["optional-dependencies"]["torch"])
    assert all(version in torch.specifier for version in pins("torch")["torch"])


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A virtual environment as `make run` leaves it, as far as make looks at it."""
    for name in ("pyvenv.cfg", "torch-index", "venv.stamp", "torch.stamp", "run.stamp", "dev.stamp"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_second_run_installs_nothing(venv: Path) -> None:
    commands = make("-n", "run", f"VENV={venv}").stdout.splitlines()
    assert len(commands) == 1
    assert "quickstart.py" in commands[0]


def test_an_interrupted_install_is_taken_up_again(venv: Path) -> None:
    (venv / "run.stamp").unlink()
    commands = make("-n", "run", f"VENV={venv}").stdout
    assert "-r requirements/predictor.txt" in commands
    assert "-r requirements/torch.txt" not in commands


def test_everything_but_torch_from_another_index_is_checked_by_hash(tmp_path: Path) -> None:
    commands = make("-n", "test", f"VENV={tmp_path / 'new'}", f"TORCH_INDEX={INDEX}").stdout
    installs = [line for line in commands.splitlines() if " install " in line]
    (torch,) = [line for line in installs if "--require-hashes" not in line]
    assert f"--index-url {INDEX}" in torch
    assert "requirements/torch.txt" in torch.partition("$(sed")[2]  # the version only
    assert "-r requirements/torch.txt" not in commands
    assert all("--no-deps" in line for line in installs)
    assert len(installs) == 4


def test_the_source_of_torch_is_remembered_and_a_new_one_begins_anew(venv: Path) -> None:
    (venv / "torch-index").write_text(INDEX, encoding="utf-8")
    assert "install" not in make("-n", "test", f"VENV={venv}").stdout
    assert "install" not in make("-n", "test", f"VENV={venv}", f"TORCH_INDEX={INDEX}").stdout
    anew = make("-n", "test", f"VENV={venv}", f"TORCH_INDEX={INDEX}/other").stdout
    assert f"rm -rf {venv}" in anew
    assert f"--index-url {INDEX}/other" in anew


def test_every_side_of_the_benchmark_draws_with_the_same_libraries() -> None:
    """A peer's environment has its server; torch and the rest come from the project's."""
    for peer in PEERS:
        assert not {"torch", "diffusers", "transformers", "peft", "numpy"} & pins(peer).keys(), peer


def test_a_peer_is_installed_by_hash_into_an_environment_of_its_own(venv: Path) -> None:
    commands = make("-n", "-B", "bench-peers", f"VENV={venv}", "BENCH_ARGS=--quick").stdout
    for peer in PEERS:
        assert f"-m venv --without-pip build/peers/{peer}\n" in commands
        assert re.search(rf"--require-hashes .*-r benchmarks/peers/{peer}\.txt", commands)
    assert commands.rstrip().endswith("-m benchmarks --quick")


@pytest.mark.parametrize("minor", [10, 14])
def test_a_python_that_is_too_old_or_new_is_refused(tmp_path: Path, minor: int) -> None:
    python = tmp_path / "python"
    pretend = f"import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[1])"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{pretend}' \"$2\"\n", encoding="utf-8")
    python.chmod(0o755)
    done = make("run", f"VENV={tmp_path / 'new'}", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"is 3.{minor}. Try: make run PYTHON=" in done.stderr
    assert not (tmp_path / "new").exists()
