import os
import signal
from pathlib import Path

import pytest
import torch

from tests.weights.attacks import MARKER, PAIR, PICKLES
from weights import pickles, unpickler
from weights.errors import CorruptLora, UnsafePickle
from weights.pickles import read_pickle


def test_tensors_come_back_from_the_child(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_lora_weights.bin"
    torch.save({**PAIR, "conv_in.weight": torch.zeros(3)}, file)
    loaded = read_pickle(file, contains="lora_")
    assert loaded.keys() == PAIR.keys()
    assert all(torch.equal(loaded[key], PAIR[key]) for key in PAIR)


@pytest.mark.parametrize(
    ("name", "kind"), [("os-system", UnsafePickle), ("huge-shape", CorruptLora), ("truncated", CorruptLora)]
)
def test_refusals_name_file_and_remedy(tmp_path: Path, name: str, kind: type[Exception]) -> None:
    Path(MARKER).unlink(missing_ok=True)
    make, problem = PICKLES[name]
    file = tmp_path / "pytorch_lora_weights.bin"
    file.write_bytes(make())
    with pytest.raises(kind, match=problem) as caught:
        read_pickle(file)
    assert caught.value.file == str(file)  # type: ignore[attr-defined]
    assert caught.value.remedy  # type: ignore[attr-defined]
    assert not Path(MARKER).exists()


def test_what_is_no_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(b"x" * 100)
    monkeypatch.setattr(pickles, "MAX_BYTES", 99)
    for name in ("pipe", "folder", "endless", "large", "absent"):
        with pytest.raises(CorruptLora, match=r"regular file|No such file"):
            read_pickle(tmp_path / name)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import time; time.sleep(600)", "took more than"),
        ("import os; os.kill(os.getpid(), 24)", "more time or memory"),
        ("import os; os.kill(os.getpid(), 11)", f"exit status {-signal.SIGSEGV}"),
        ("raise SystemExit(3)", "exit status 3"),
        ("", "no answer"),
        ("print('x' * 100_000)", "no answer"),
        ("print('[]')", "no answer"),
        ("print('{\"tensors\": 1}'); import os, sys; os.write(int(sys.argv[2]), b'junk')", "no safetensors"),
    ],
    ids=["sleeps", "cpu", "crashes", "fails", "silent", "floods", "lies", "junk"],
)
def test_a_child_that_misbehaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, problem: str
) -> None:
    """In place of the reader stands what an exploit could make of it."""
    (tmp_path / "child.py").write_text(program)
    (tmp_path / "file.bin").write_bytes(b"x")
    monkeypatch.setattr(unpickler, "__file__", str(tmp_path / "child.py"))
    if "sleep" in program:
        monkeypatch.setattr(pickles, "WALL_SECONDS", 0.5)
    with pytest.raises(UnsafePickle, match=problem) as caught:
        read_pickle(tmp_path / "file.bin")
    assert caught.value.file == str(tmp_path / "file.bin")


def test_the_child_gets_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    (tmp_path / "child.py").write_text(
        "import json, os; print(json.dumps({'problem': ' '.join(os.environ), 'unsafe': True}))"
    )
    (tmp_path / "file.bin").write_bytes(b"x")
    monkeypatch.setattr(unpickler, "__file__", str(tmp_path / "child.py"))
    with pytest.raises(UnsafePickle) as caught:
        read_pickle(tmp_path / "file.bin")
    assert "OMP_NUM_THREADS" in caught.value.problem
    assert "HF_TOKEN" not in caught.value.problem
