import io
import json
import os
import pickletools
import re
import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weights.attacks import MARKER, PAIR, PICKLES, saved
from weights import unpickler

LIMIT = 1 << 20
PICKLED = saved(PAIR)


@pytest.fixture(autouse=True, scope="module")
def nothing_was_run() -> None:
    Path(MARKER).unlink(missing_ok=True)


@pytest.mark.parametrize("name", PICKLES)
def test_attacks_are_refused_before_anything_runs(name: str) -> None:
    make, problem = PICKLES[name]
    data = make()
    with pytest.raises((unpickler.Refusal, RuntimeError, ValueError)) as caught:
        unpickler.load(io.BytesIO(data), "", len(data))
    if isinstance(caught.value, unpickler.Refusal):
        told = f"{caught.value.answer['key']}: {caught.value}"
        assert re.search(problem, told), told
    assert not Path(MARKER).exists()


def test_what_torch_saves_is_read() -> None:
    state = OrderedDict(torch.nn.Linear(3, 2).state_dict())
    state["half"] = torch.randn(4).half()
    state["brain"] = torch.randn(4).bfloat16()
    state["transposed"] = torch.randn(3, 4).T
    state["parameter"] = torch.nn.Parameter(torch.randn(3))
    state["steps"] = torch.tensor(7)
    state["mask"] = torch.tensor([True])
    stream = io.BytesIO()
    torch.save(state, stream)
    loaded = unpickler.load(stream, "", LIMIT)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())
    assert all(tensor.is_contiguous() for tensor in loaded.values())
    assert unpickler.load(stream, "trans", LIMIT).keys() == {"transposed"}


@settings(deadline=None)
@given(st.integers(0, len(PICKLED) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises((unpickler.Refusal, RuntimeError)):
        unpickler.load(io.BytesIO(PICKLED[:length]), "", LIMIT)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_opcodes_of_anything_are_allowed_or_refused(tail: bytes) -> None:
    """No bytes break the scan, and what it lets pass calls nothing but what builds tensors."""
    pickled = b"\x80\x02" + tail + b"."
    try:
        unpickler.check_opcodes(pickled)
    except unpickler.Refusal:
        return
    called = {argument for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}
    assert called <= unpickler.GLOBALS


# `main` as in the child, with its limits, but in place of what reads the file stands an attempt to escape.
ESCAPE = """
import ctypes, importlib.util, json, os, socket, sys

spec = importlib.util.spec_from_file_location("unpickler", sys.argv.pop(1))
unpickler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unpickler)
address = ("127.0.0.1", int(sys.argv.pop(1)))
outcomes = {}

def attempt(name, action):
    try:
        action()
        outcomes[name] = "done"
    except BaseException as error:
        outcomes[name] = type(error).__name__

def connect():
    socket.create_connection(address, 5)

def raise_limit():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

reads = []
def escape(stream, contains, size):
    reads.append(contains)
    if len(reads) == 1:  # before the doors are closed
        return {}
    attempt("internet socket", lambda: socket.socket(socket.AF_INET))
    attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
    attempt("connect", connect)
    attempt("read a file", lambda: open("/etc/hostname").read())
    attempt("write a file", lambda: open("/tmp/weights-attack-was-run", "w"))
    attempt("pipe", os.pipe)
    attempt("memory", lambda: bytearray(4 << 30))
    attempt("large output", lambda: os.pwrite(1, b"x", 8 << 20))
    attempt("raise the limit", raise_limit)
    attempt("socket with the limit raised", connect)
    raise unpickler.Refusal(json.dumps(outcomes))

unpickler.load = escape
unpickler.main()
"""


def test_the_child_can_open_nothing_and_reach_nobody(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        (tmp_path / "source").open("rb") as source,
        (tmp_path / "target").open("wb") as target,
        (tmp_path / "answer").open("wb") as answer,
    ):
        server.settimeout(0)
        port = server.getsockname()[1]
        files = [str(stream.fileno()) for stream in (source, target)]
        subprocess.run(
            [sys.executable, "-I", "-c", ESCAPE, unpickler.__file__, str(port), *files, ""],
            stdout=answer,
            pass_fds=[int(number) for number in files],
            check=True,
        )
        with pytest.raises(BlockingIOError):
            server.accept()
    told = json.loads((tmp_path / "answer").read_text())
    outcomes = json.loads(told["problem"])
    refused = {name for name, outcome in outcomes.items() if outcome != "done"}
    # Raising the limit needs a right that only root has, and that a user namespace takes away.
    assert refused >= set(outcomes) - {"raise the limit"}
    assert outcomes["memory"] == "MemoryError"
    assert not Path(MARKER).exists()


def test_the_network_is_gone_where_the_kernel_permits() -> None:
    program = """
import importlib.util, socket, sys
spec = importlib.util.spec_from_file_location("unpickler", sys.argv[1])
unpickler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unpickler)
socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5).close()
done = unpickler.leave_network()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5)
    print(done, "connected")
except OSError:
    print(done, "cut off")
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-I", "-c", program, unpickler.__file__, port],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"]},
        )
    if "empty network namespace" not in run.stdout:
        pytest.skip("this kernel does not permit network namespaces; the limit on descriptors holds alone")
    assert "cut off" in run.stdout
