"""images/build.sh: which builder it takes and what it tells it. The builders here only note it down."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.images.container import ROOT

BUILDERS = ("docker", "podman", "buildah")


class Builders:
    """Pretended builders, first in the PATH; those not `working` fail like a client without its daemon."""

    def __init__(self, folder: Path, *working: str) -> None:
        self._written = folder / "arguments"
        self._path = folder / "bin"
        self._path.mkdir()
        for name in BUILDERS:
            script = self._path / name
            lines = f'printf "%s\\n" "{name}" "$@" -- >> {self._written}' if name in working else "exit 1"
            script.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
            script.chmod(0o755)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
        path = f"{self._path}:{os.environ['PATH']}"
        return subprocess.run(
            [ROOT / "images/build.sh", *arguments],
            env={**inherited, **variables, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    def builds(self) -> list[list[str]]:
        """The arguments of each build command, the builder's name first."""
        calls = [call.splitlines() for call in self._written.read_text(encoding="utf-8").split("--\n")]
        return [call for call in calls if call[1:2] == ["build"]]


@pytest.mark.parametrize(
    ("working", "taken"), [(BUILDERS, "docker"), (("podman", "buildah"), "podman"), (("buildah",), "buildah")]
)
def test_it_takes_the_first_builder_that_works(tmp_path: Path, working: tuple[str, ...], taken: str) -> None:
    listed = Builders(tmp_path, *working).run("list", REGISTRY="registry.example/me", VERSION="2")
    assert listed.stdout.split() == [
        taken,
        *(f"registry.example/me/emoji-{name}:2" for name in ("predictor", "transformer", "weights")),
    ]


def test_a_builder_can_be_chosen(tmp_path: Path) -> None:
    assert Builders(tmp_path, *BUILDERS).run("list", BUILDER="buildah").stdout.startswith("buildah\n")


def test_without_a_builder_it_says_what_is_needed(tmp_path: Path) -> None:
    done = Builders(tmp_path).run("build")
    assert done.returncode == 1
    assert "needs docker, podman or buildah in working order" in done.stderr


@pytest.mark.parametrize("builder", BUILDERS)
def test_it_builds_all_three_from_the_root(tmp_path: Path, builder: str) -> None:
    builders = Builders(tmp_path, builder)
    done = builders.run("build", VERSION="2", TORCH="cpu", BASE="my-python")
    assert done.returncode == 0, done.stderr
    builds = builders.builds()
    assert [build[build.index("--tag") + 1] for build in builds] == [
        f"dev.local/emoji-{name}:2" for name in ("predictor", "transformer", "weights")
    ]
    for build in builds:
        assert build[-1] == "."
        assert (ROOT / build[build.index("--file") + 1]).is_file()
        assert {"BASE=my-python", "VERSION=2", "TORCH=cpu"} <= set(build)
        assert "--secret" not in build
        assert ("--isolation" in build) == (builder == "buildah")


def test_certificates_and_source_are_passed_on_when_given(tmp_path: Path) -> None:
    builders = Builders(tmp_path, "docker")
    builders.run("build", "weights", CA_BUNDLE="/my/ca.crt", SOURCE="https://git.example/emoji")
    (build,) = builders.builds()
    assert build[build.index("--secret") + 1] == "id=ca,src=/my/ca.crt"
    assert "org.opencontainers.image.source=https://git.example/emoji" in build


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    done = Builders(tmp_path, "docker").run("push")
    assert done.returncode == 1
    assert "usage: images/build.sh" in done.stderr


@pytest.mark.parametrize("name", ["predictor", "transformer", "weights"])
def test_what_a_dockerfile_copies_is_in_the_repository(name: str) -> None:
    text = (ROOT / name / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--from).*$", text, re.MULTILINE)]
    assert copied
    for source in (source for sources in copied for source in sources):
        assert list(ROOT.glob(source)), source
