"""A store with damaged files or leftovers: it says which are damaged, and serves nothing of them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.weights.loras import make_manifest, make_tensors
from weights.errors import CorruptLora
from weights.store import Store


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "adapter.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "adapter.safetensors").write_bytes(data)


def cut(folder: Path) -> None:
    os.truncate(folder / "adapter.safetensors", 100)


def take_away(folder: Path) -> None:
    (folder / "adapter.safetensors").unlink()


def link_elsewhere(folder: Path) -> None:
    real = folder.parent / "real"
    (folder / "adapter.safetensors").rename(real)
    (folder / "adapter.safetensors").symlink_to(real)


def link_the_folder(folder: Path) -> None:
    folder.rename(folder.parent / "real")
    folder.symlink_to(folder.parent / "real")


def link_the_name(folder: Path) -> None:
    folder.parent.rename(folder.parent.parent / "real")
    folder.parent.symlink_to(folder.parent.parent / "real")


def put_a_pipe(folder: Path) -> None:
    (folder / "adapter.safetensors").unlink()
    os.mkfifo(folder / "adapter.safetensors")


def swap_manifests(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"rank": 4', '"rank": 3'))


def rename_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"version": 1', '"version": 2'))


def lose_the_index(folder: Path) -> None:
    (folder.parent / "index.json").unlink()


def break_the_index(folder: Path) -> None:
    (folder.parent / "index.json").write_text('{"versions": [1], "newest": 1, "aliases": {"stable": 2}}')


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        cut,
        take_away,
        link_elsewhere,
        link_the_folder,
        link_the_name,
        put_a_pipe,
        swap_manifests,
        rename_manifest,
        lose_the_index,
        break_the_index,
    ],
)
def test_damage_is_told(store: Store, damage: Callable[[Path], None]) -> None:
    store.add(make_tensors(), make_manifest())
    damage(store.root / "notoemoji" / "1")
    with pytest.raises(CorruptLora) as caught:
        store.load(store.resolve("notoemoji"))
    assert caught.value.file is not None
    assert "notoemoji" in caught.value.file


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"versions": [2], "newest": 1, "aliases": {}}',
        '{"versions": [0], "newest": 1, "aliases": {}}',
        '{"versions": [true], "newest": 1, "aliases": {}}',
        '{"versions": ["1"], "newest": 1, "aliases": {}}',
        '{"versions": [1], "newest": 1, "aliases": {"../x": 1}}',
        '{"versions": [1], "newest": 1, "aliases": {}, "more": 1}',
    ],
)
def test_a_damaged_index_stops_readers_and_writers(store: Store, text: str) -> None:
    store.add(make_tensors(), make_manifest())
    (store.root / "notoemoji" / "index.json").write_text(text)
    for command in (store.versions, lambda: store.add(make_tensors(), make_manifest())):
        with pytest.raises(CorruptLora, match="index"):
            command()
    assert (store.root / "notoemoji" / "1").exists()


def test_a_damaged_version_can_be_removed(store: Store) -> None:
    store.add(make_tensors(), make_manifest())
    (store.root / "notoemoji" / "1" / "manifest.json").write_text("{")
    store.remove("notoemoji", 1)
    assert store.references() == []


def test_leftovers_of_a_killed_writer_go_with_the_next_write(store: Store) -> None:
    store.add(make_tensors(), make_manifest())
    (store.root / ".tmp-1").mkdir()
    (store.root / ".tmp-1" / "adapter.safetensors").write_bytes(b"half")
    (store.root / ".tmp-2").write_bytes(b"half")
    shutil.copytree(store.root / "notoemoji" / "1", store.root / "notoemoji" / "2")
    assert store.references() == [("notoemoji", 1)]
    store.add(make_tensors(5), make_manifest())
    assert sorted(path.name for path in store.root.iterdir()) == [".lock", "notoemoji"]
    assert store.load(store.resolve("notoemoji@2")).keys() == make_tensors(5).keys()
    assert sorted(path.name for path in (store.root / "notoemoji").iterdir()) == ["1", "2", "index.json"]
