"""Who may read and write a store: locks, permissions, mounts that are read only."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.permissions import shut
from tests.weights.loras import make_manifest, make_tensors
from weights import lock
from weights.errors import CorruptLora, StoreUnavailable
from weights.store import Store


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
