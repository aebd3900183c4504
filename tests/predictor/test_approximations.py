"""What a model's folder says of its approximations."""

import json
from pathlib import Path
from typing import Any

import pytest

from predictor.approximations import FILE, read_approximations
from predictor.diffusion.checkpoint import UnsupportedCheckpoint
from predictor.diffusion.diffuser import Diffuser
from weights.base import read_base

CACHES = ["block-cache:2", "block-cache:3"]


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A base's folder to write to."""
    (tmp_path / "unet").symlink_to(tiny_folders["sd15"] / "unet")
    return tmp_path


@pytest.fixture(scope="module")
def diffuser(tiny_folders: dict[str, Path]) -> Diffuser:
    return Diffuser.load(tiny_folders["sd15"])


def write(folder: Path, content: Any) -> None:
    (folder / FILE).write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_that_says_nothing_has_block_caches_that_were_not_measured(
    folder: Path, diffuser: Diffuser
) -> None:
    found = read_approximations(folder, diffuser)
    assert list(found) == ["none", *CACHES]
    assert found["none"].label == {"name": "none"}
    assert [found[name].label for name in CACHES] == [
        {"name": name, "quality": "not measured"} for name in CACHES
    ]


def test_what_was_measured_counts_for_this_base_alone(folder: Path, diffuser: Diffuser, caplog: Any) -> None:
    few = {"num_inference_steps": 4, "solver": "unipc"}
    content = {"few_steps": few, "quality": {"few-steps": {"pictures": 3}, "block-cache:3": {"pictures": 4}}}
    write(folder, content | {"base": read_base(folder).sha256})
    found = read_approximations(folder, diffuser)
    assert list(found) == ["none", *CACHES, "few-steps"]
    assert found["few-steps"].label == {"name": "few-steps", **few, "quality": {"pictures": 3}}
    assert [found[name].label["quality"] for name in CACHES] == ["not measured", {"pictures": 4}]
    assert not caplog.records

    write(folder, content | {"base": "0" * 64})
    found = read_approximations(folder, diffuser)
    assert {found[name].label["quality"] for name in (*CACHES, "few-steps")} == {"not measured"}
    assert "another UNet" in caplog.text


def test_fixed_buckets_leave_the_block_caches_out(tiny_folders: dict[str, Path], folder: Path) -> None:
    write(folder, {"few_steps": {"num_inference_steps": 4, "solver": "unipc"}})
    found = read_approximations(folder, Diffuser.load(tiny_folders["sd15"], fixed_rows=2))
    assert list(found) == ["none", "few-steps"]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"quality": []},
        {"few_steps": {}},
        {"few_steps": 4},
        {"few_steps": {"num_inference_steps": 0, "solver": "ddim"}},
        {"few_steps": {"num_inference_steps": "4", "solver": "ddim"}},
        {"few_steps": {"num_inference_steps": 4, "solver": "magic"}},
        {"few_steps": {"num_inference_steps": 4, "solver": []}},
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_by_name(
    folder: Path, diffuser: Diffuser, content: Any
) -> None:
    write(folder, content)
    with pytest.raises(UnsupportedCheckpoint, match=FILE):
        read_approximations(folder, diffuser)
    (folder / FILE).write_text("{", encoding="utf-8")
    with pytest.raises(UnsupportedCheckpoint, match=FILE):
        read_approximations(folder, diffuser)
