"""/bin/copy-weights, run by this machine's shell: what it fills, leaves alone and replaces."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.images.container import ROOT


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """What the image has in /models."""
    folder = tmp_path / "models"
    for file in (
        "base/model_index.json",
        "base/unet/config.json",
        "loras/look/1/adapter",
        "loras/look/index.json",
    ):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{file} of the image", encoding="utf-8")
    return folder


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


def copy(models: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "images/copy_weights.sh", *arguments],
        env={**os.environ, "MODELS": str(models)},
        capture_output=True,
        text=True,
        check=False,
    )


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("mounted", [(), ("base", "loras")])
def test_it_fills_a_volume_or_two(models: Path, volume: Path, mounted: tuple[str, ...]) -> None:
    for folder in mounted:
        (volume / folder).mkdir()
    inodes = {folder: (volume / folder).stat().st_ino for folder in mounted}
    done = copy(models, volume)
    assert done.returncode == 0, done.stderr
    assert files(volume) == files(models)
    assert inodes == {folder: (volume / folder).stat().st_ino for folder in mounted}


def test_a_second_run_copies_nothing(models: Path, volume: Path) -> None:
    copy(models, volume)
    again = copy(models, volume)
    assert again.returncode == 0
    assert "copied" not in again.stdout


def test_versions_that_were_added_to_a_lora_stay(models: Path, volume: Path) -> None:
    copy(models, volume)
    (volume / "loras/look/2").mkdir()
    (volume / "loras/look/2/adapter").write_text("mine", encoding="utf-8")
    (volume / "loras/look/index.json").write_text("with version 2", encoding="utf-8")
    before = files(volume)
    assert copy(models, volume).returncode == 0
    assert files(volume) == before


def test_what_differs_is_named_and_left_and_the_rest_is_copied(models: Path, volume: Path) -> None:
    copy(models, volume)
    (volume / "loras/look/1/adapter").write_text("another", encoding="utf-8")
    shutil.rmtree(volume / "base/unet")
    done = copy(models, volume)
    assert done.returncode == 1
    assert f"{volume}/loras/look: differs" in done.stderr
    assert files(volume) == files(models) | {"loras/look/1/adapter": "another"}
    assert copy(models, "--replace", volume).returncode == 0
    assert files(volume) == files(models)


def test_a_copy_that_was_interrupted_is_made_anew(models: Path, volume: Path) -> None:
    draft = volume / "loras/.copy-look/1"
    draft.mkdir(parents=True)
    (draft / "half").write_text("half", encoding="utf-8")
    assert copy(models, volume).returncode == 0
    assert files(volume) == files(models)


@pytest.mark.parametrize("arguments", [(), ("/nowhere",), ("--replace",), ("/tmp", "/tmp")])
def test_a_wrong_command_line_is_refused(models: Path, arguments: tuple[str, ...]) -> None:
    done = copy(models, *arguments)
    assert done.returncode == 2
    assert "usage: copy-weights" in done.stderr
