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
            self.pretend(name, "" if name in working else "exit 1")

    def pretend(self, program: str, lines: str) -> None:
        """A program that notes its arguments down and goes on with some lines of shell."""
        script = self._path / program
        note = f'printf "%s\\n" "{program}" "$@" -- >> {self._written}'
        script.write_text(f"#!/bin/sh\n{note}\n{lines}\n", encoding="utf-8")
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

    def calls(self) -> list[list[str]]:
        """The arguments of each call, the program's name first."""
        return [call.splitlines() for call in self._written.read_text(encoding="utf-8").split("--\n")]

    def builds(self) -> list[list[str]]:
        """The build commands among them."""
        return [call for call in self.calls() if call[1:2] == ["build"]]


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


def test_preparing_leaves_what_is_there(tmp_path: Path) -> None:
    builders = Builders(tmp_path, "podman")
    assert builders.run("prepare").returncode == 0
    assert ["podman", "inspect", "--type", "image", "python:3.11-slim"] in builders.calls()
    assert not {"pull", "import"} & {word for call in builders.calls() for word in call[1:2]}


def test_preparing_pulls_a_base_that_is_missing(tmp_path: Path) -> None:
    builders = Builders(tmp_path, "docker")
    builders.pretend("docker", 'test "$1" != inspect')
    assert builders.run("prepare", BASE="my-python").returncode == 0
    assert builders.calls()[-2] == ["docker", "pull", "--quiet", "my-python"]


def test_preparing_makes_a_base_that_cannot_be_pulled(tmp_path: Path) -> None:
    builders = Builders(tmp_path, "docker")
    builders.pretend("docker", 'test "$1" != inspect && test "$1" != pull')
    builders.pretend("mmdebstrap", "")
    done = builders.run("prepare")
    assert done.returncode == 0, done.stderr
    assert ["docker", "import"] in [call[:2] for call in builders.calls()]


def test_preparing_installs_a_builder_where_none_works(tmp_path: Path) -> None:
    builders = Builders(tmp_path)
    builders.pretend("apt-get", f"test $1 = update || ln -sf /bin/true {tmp_path}/bin/buildah")
    done = builders.run("prepare")
    assert done.returncode == 0, done.stderr
    assert [call[:2] for call in builders.calls() if call[:1] == ["apt-get"]] == [
        ["apt-get", "update"],
        ["apt-get", "install"],
    ]


def test_preparing_fails_where_nothing_can_be_installed(tmp_path: Path) -> None:
    builders = Builders(tmp_path)
    builders.pretend("apt-get", "exit 100")
    done = builders.run("prepare")
    assert done.returncode != 0
    assert "docker" not in done.stdout


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


@pytest.mark.parametrize("builder", BUILDERS)
def test_another_image_is_built_of_a_folder_and_saved(tmp_path: Path, builder: str) -> None:
    builders = Builders(tmp_path, builder)
    file = tmp_path / "saved" / "image.tar"
    done = builders.run(
        "archive", "folder", "dev.local/other:1", str(file), BASE="my-python", CA_BUNDLE="/ca"
    )
    built, saved = [call for call in builders.calls() if {"build", "push", "save"} & set(call[1:2])]
    assert built[built.index("--tag") + 1] == "dev.local/other:1"
    assert {"BASE=my-python", "id=ca,src=/ca"} <= set(built)
    assert built[-1] == "folder"
    assert "dev.local/other:1" in saved
    assert any(str(file) in word for word in saved)
    assert done.stdout.startswith("dev.local/other:1: built")


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
