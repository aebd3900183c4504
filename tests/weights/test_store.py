import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.permissions import shut
from tests.weights.loras import make_manifest, make_tensors
from weights import lock
from weights.errors import CorruptLora, InvalidName, LoraInUse, StoreUnavailable, UnknownLora, WeightsError
from weights.manifest import RESERVED
from weights.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "loras")


def snapshot(root: Path) -> dict[str, bytes | None]:
    """Every path below `root` with its bytes."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def test_an_absent_store_is_empty(store: Store) -> None:
    assert store.versions() == []
    assert store.aliases() == {}
    assert not store.root.exists()


def test_versions_are_numbered_and_come_back_as_they_went_in(store: Store) -> None:
    first = store.add(make_tensors(1), make_manifest())
    second = store.add(make_tensors(2), make_manifest())
    other = store.add(make_tensors(3), make_manifest("openmoji"))
    assert [str(version) for version in store.versions()] == ["notoemoji@1", "notoemoji@2", "openmoji@1"]
    assert store.versions() == [first, second, other]
    for seed, version in ((1, first), (2, second), (3, other)):
        loaded = store.load(version)
        wanted = make_tensors(seed)
        assert loaded.keys() == wanted.keys()
        assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)


def test_references(store: Store) -> None:
    store.add(make_tensors(1), make_manifest())
    assert str(store.resolve("notoemoji")) == "notoemoji@1"
    store.add(make_tensors(2), make_manifest())
    assert str(store.resolve("notoemoji")) == "notoemoji@2"
    store.set_alias("stable", store.resolve("notoemoji@1"))
    store.set_alias("canary", store.resolve("notoemoji@2"))
    assert str(store.resolve("notoemoji")) == "notoemoji@1"
    assert str(store.resolve("notoemoji@canary")) == "notoemoji@2"
    assert store.aliases() == {"notoemoji": {"canary": 2, "stable": 1}}
    store.remove_alias("notoemoji", "stable")
    assert str(store.resolve("notoemoji")) == "notoemoji@2"


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "@",
        "x",
        "notoemoji@",
        "notoemoji@2",
        "notoemoji@01",
        "notoemoji@x",
        "notoemoji@1@1",
        "..",
        "../loras",
        "a/b@1",
    ],
)
def test_unknown_references_name_what_there_is(store: Store, reference: str) -> None:
    store.add(make_tensors(), make_manifest())
    with pytest.raises(UnknownLora, match=r"Known: notoemoji|There are: 1"):
        store.resolve(reference)


def test_an_alias_comes_with_its_version(store: Store) -> None:
    store.add(make_tensors(1), make_manifest(), alias="stable")
    store.add(make_tensors(2), make_manifest(), alias="stable")
    assert store.aliases() == {"notoemoji": {"stable": 2}}


def test_removal(store: Store) -> None:
    for seed in range(3):
        store.add(make_tensors(seed), make_manifest())
    store.set_alias("stable", store.resolve("notoemoji@3"))
    with pytest.raises(LoraInUse, match="stable"):
        store.remove("notoemoji", 3)
    store.remove("notoemoji", 1)
    store.remove("notoemoji", 3, force=True)
    assert store.references() == [("notoemoji", 2)]
    assert store.aliases() == {}
    assert not (store.root / "notoemoji" / "3").exists()
    for name, number in (("notoemoji", 1), ("notoemoji", 9), ("x", 1)):
        with pytest.raises(UnknownLora):
            store.remove(name, number)


def test_a_number_is_never_given_twice(store: Store) -> None:
    store.add(make_tensors(1), make_manifest())
    store.remove("notoemoji", 1)
    assert store.versions() == []
    with pytest.raises(UnknownLora):
        store.resolve("notoemoji")
    assert str(store.add(make_tensors(2), make_manifest())) == "notoemoji@2"


def test_a_damaged_version_can_be_removed(store: Store) -> None:
    store.add(make_tensors(), make_manifest())
    (store.root / "notoemoji" / "1" / "manifest.json").write_text("{")
    store.remove("notoemoji", 1)
    assert store.references() == []


@pytest.mark.parametrize(("name", "alias"), [("Noto", None), ("../x", None), ("noto", "1"), ("noto", "../x")])
def test_bad_names_write_nothing(store: Store, name: str, alias: str | None) -> None:
    with pytest.raises(InvalidName):
        store.add(make_tensors(), make_manifest(name), alias=alias)
    assert not store.root.exists()


@pytest.mark.parametrize("name", RESERVED)
def test_a_name_with_a_meaning_of_its_own_is_not_given(store: Store, name: str) -> None:
    with pytest.raises(InvalidName, match="the predictor"):
        store.add(make_tensors(), make_manifest(name))
    assert not store.root.exists()


def test_wrong_commands_change_nothing(store: Store) -> None:
    version = store.add(make_tensors(), make_manifest(), alias="stable")
    before = snapshot(store.root)
    for command in (
        lambda: store.remove("notoemoji", 1),
        lambda: store.remove("notoemoji", 7),
        lambda: store.remove("openmoji", 1),
        lambda: store.remove_alias("notoemoji", "nightly"),
        lambda: store.remove_alias("../x", "nightly"),
        lambda: store.set_alias("a b", version),
        lambda: store.add(make_tensors(), make_manifest(source="two\nlines")),
        lambda: store.add(make_tensors(), make_manifest(), alias="No"),
    ):
        with pytest.raises(WeightsError):
            command()
        assert snapshot(store.root) == before


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


def test_foreign_folders_are_not_looked_at(store: Store) -> None:
    store.add(make_tensors(), make_manifest())
    (store.root / "lost+found").mkdir()
    (store.root / "empty").mkdir()
    (store.root / "README.md").write_text("hello")
    assert store.references() == [("notoemoji", 1)]


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


def test_a_second_writer_waits_and_then_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(make_tensors(), make_manifest())
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)
    with (store.root / ".lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="another writer"):
            store.add(make_tensors(), make_manifest())
        assert store.references() == [("notoemoji", 1)]
    store.add(make_tensors(), make_manifest())


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        Store(tmp_path / "file" / "loras").add(make_tensors(), make_manifest())


@pytest.mark.parametrize(
    ("path", "mode"),
    [(".", 0o000), (".", 0o644), ("notoemoji", 0o000)],
    ids=["closed", "listed only", "name"],
)
def test_a_store_that_may_not_be_read_is_not_called_damaged(store: Store, path: str, mode: int) -> None:
    store.add(make_tensors(), make_manifest())
    with (
        shut(store.root / path, mode),
        pytest.raises(StoreUnavailable, match=r"Permission denied.*permissions"),
    ):
        store.table()


def test_a_file_that_may_not_be_read_is_named_with_the_remedy(store: Store) -> None:
    version = store.add(make_tensors(), make_manifest())
    file = store.root / "notoemoji" / "1" / "adapter.safetensors"
    with shut(file), pytest.raises(CorruptLora, match=r"adapter\.safetensors: cannot be read.*permissions"):
        store.load(version)


READER = """
import os, sys
from pathlib import Path
from weights.store import Store

store = Store(Path(sys.argv[1]))
import safetensors.torch

def watch(event, arguments):
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
        raise SystemExit(f"opened for writing: {arguments}")
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "fcntl.flock"):
        raise SystemExit(f"{event}: {arguments}")

sys.addaudithook(watch)
for version in store.versions():
    store.load(store.resolve(str(version)))
store.resolve("notoemoji@stable")
store.aliases()
store.table()
store.routes()
print("read")
"""


def test_reading_writes_nothing_and_takes_no_lock(store: Store) -> None:
    store.add(make_tensors(), make_manifest(), alias="stable")
    reader = subprocess.run(
        [sys.executable, "-c", READER, str(store.root)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path.cwd(),
    )
    assert reader.stdout == "read\n", reader.stderr


def test_files_can_be_read_by_another_user_of_the_mount(store: Store) -> None:
    umask = os.umask(0o022)
    try:
        store.add(make_tensors(), make_manifest())
    finally:
        os.umask(umask)
    for path in store.root.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
