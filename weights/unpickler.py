"""The program of the confined child: one pickled torch file in, its tensors as safetensors out.

    python -I unpickler.py INPUT_FD OUTPUT_FD CONTAINS

Standard output gets one JSON object: {"tensors": n, "isolation": […]}, or {"problem", "key", "unsafe"}.
Needs the standard library, torch and safetensors only, not the rest of the project; knows no LoRA.
Two locks, one behind the other: opcodes and globals are checked before anything is unpickled, and the process
that unpickles can open no file and no socket, and has little time and memory.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import pickletools
import resource
import sys
import zipfile
from typing import Any, BinaryIO

MAX_ENTRIES = 20_000
MAX_PICKLE_BYTES = 8 << 20
MAX_TENSOR_BYTES = 2 << 30
SPARE_BYTES = 1 << 30
CPU_SECONDS = 120

GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
    "torch DoubleStorage",
    "torch LongStorage",
    "torch IntStorage",
    "torch ShortStorage",
    "torch CharStorage",
    "torch ByteStorage",
    "torch BoolStorage",
}
# What torch.save writes for a dictionary of tensors, in pickle protocol 2, and nothing else.
OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("SETITEM", "SETITEMS", "APPEND", "APPENDS"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
}
RECORDS = {
    "data.pkl",
    "version",
    "byteorder",
    ".format_version",
    ".storage_alignment",
    ".data/serialization_id",
}


class Refusal(Exception):  # it is an answer, not a fault of this program
    """The file is not accepted; `unsafe` where it asks for more than tensors."""

    def __init__(self, problem: str, *, key: str | None = None, unsafe: bool = False) -> None:
        super().__init__(problem)
        self.answer = {"problem": problem, "key": key, "unsafe": unsafe}


def leave_network() -> list[str]:
    """Moves this process into an empty network namespace where the kernel permits; says what took hold."""
    done = []
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        new_user, new_net, no_new_privs, parent_death_signal, kill = 0x10000000, 0x40000000, 38, 1, 9
        libc.prctl(parent_death_signal, kill, 0, 0, 0)
        if libc.prctl(no_new_privs, 1, 0, 0, 0) == 0:
            done.append("no new privileges")
        # In a user namespace no capability outside it is left, not even root's. Where that is forbidden, root
        # can do the second.
        for flags in (new_user | new_net, new_net):
            if libc.unshare(flags) == 0:
                done.append("empty network namespace")
                break
    return done


def close_doors(memory: int, output: int) -> list[str]:
    """Limits this process for good: no new descriptor, be it a file or a socket, and the rest bounded.

    Args:
        memory: bytes of address space on top of what is in use.
        output: bytes that a file may grow to.
    """
    # One large mapping of torch's libraries is there already, hence the limit above what is in use.
    used = 0
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": output,
        "RLIMIT_CPU": spent + CPU_SECONDS,
        "RLIMIT_AS": used + memory,
        "RLIMIT_NOFILE": 0,
    }
    for name, limit in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (OSError, ValueError):
            # macOS has no limit of the address space; the one on descriptors holds everywhere.
            if name != "RLIMIT_AS" or sys.platform == "linux":
                raise
    return list(limits)


def check_archive(stream: BinaryIO) -> bytes:
    """The bytes of data.pkl, out of an archive that is laid out as torch.save does it."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        raise Refusal("is not in torch's zip format, or its beginning is damaged")
    try:
        archive = zipfile.ZipFile(stream)
        entries = archive.infolist()
        roots = {entry.filename.partition("/")[0] for entry in entries}
        names = [entry.filename.partition("/")[2] for entry in entries]
        if len(entries) > MAX_ENTRIES or len(roots) != 1 or len(set(names)) != len(names):
            raise Refusal(f"is no archive of torch.save ({len(entries)} entries in {len(roots)} folders)")
        for entry, name in zip(entries, names, strict=True):
            number = name.removeprefix("data/")
            if name not in RECORDS and not (
                name == f"data/{number}" and number.isascii() and number.isdigit()
            ):
                raise Refusal("is no entry of torch.save's archives", key=entry.filename[:200], unsafe=True)
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise Refusal("is compressed or encrypted", key=entry.filename[:200], unsafe=True)
        if sum(entry.file_size for entry in entries) > size:
            raise Refusal("claims to hold more than the file's own size", unsafe=True)
        root = roots.pop()
        pickled = archive.getinfo(f"{root}/data.pkl")
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise Refusal(f"is larger than {MAX_PICKLE_BYTES} bytes", key=pickled.filename, unsafe=True)
        if "byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
            raise Refusal("is not in little-endian byte order", key="byteorder")
        return archive.read(pickled)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, EOFError, ValueError, OSError) as error:
        raise Refusal(f"is truncated or damaged ({error})") from None


def check_opcodes(pickled: bytes) -> None:
    """Refuses a pickle that asks for anything but tensors in containers; nothing is executed."""
    end = 0
    try:
        for opcode, argument, position in pickletools.genops(pickled):
            end = (position or 0) + 1
            if opcode.name == "GLOBAL" and argument not in GLOBALS:
                called = str(argument).replace(" ", ".")[:200]
                raise Refusal("is a call that no dictionary of tensors needs", key=called, unsafe=True)
            if opcode.name not in OPCODES:
                raise Refusal(
                    "is an instruction that torch.save does not write", key=opcode.name, unsafe=True
                )
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise Refusal(f"is truncated or damaged ({error})", key="data.pkl") from None
    if end != len(pickled):
        raise Refusal("goes on after its end", key="data.pkl", unsafe=True)


def load(stream: BinaryIO, contains: str, size: int) -> dict[str, Any]:
    """The tensors whose key contains `contains`, out of a checked archive of `size` bytes."""
    import torch

    pickled = check_archive(stream)
    stream.seek(0)
    # What torch's own reader sees is what is checked: two readers of one zip file can be made to disagree.
    if torch._C.PyTorchFileReader(stream).get_record("data.pkl") != pickled:
        raise Refusal("is there twice", key="data.pkl", unsafe=True)
    check_opcodes(pickled)
    stream.seek(0)
    loaded = torch.load(stream, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise Refusal(f"holds a {type(loaded).__name__}, not a dictionary of tensors")
    tensors: dict[str, Any] = {}
    total = 0
    for key, value in dict.items(loaded):
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise Refusal(f"is a {type(value).__name__}, not a tensor", key=str(key)[:200])
        if contains in key:
            # A stride of 0 repeats one number without end; written out, it would fill the disk.
            total += value.numel() * value.element_size()
            if value.layout is not torch.strided or value.device.type != "cpu" or total > size:
                problem = f"shape {list(value.shape)} is more than the file can hold"
                raise Refusal(problem, key=key[:200], unsafe=True)
            if total > MAX_TENSOR_BYTES:
                raise Refusal(f"is where the tensors exceed {MAX_TENSOR_BYTES} bytes", key=key[:200])
            tensors[key] = value.detach().contiguous().clone()
    return tensors


def main() -> None:
    """Reads, checks, loads and writes; always answers with JSON unless the process is killed."""
    source, target, contains = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    isolation = leave_network()
    # Imported and used once, so that nothing has to be opened later on.
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    warm = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, warm)
    load(warm, "", 1 << 20)
    save({"a": torch.zeros(1)})
    with open(source, "rb") as stream, open(target, "wb") as result:
        size = os.fstat(source).st_size
        isolation += close_doors(3 * size + SPARE_BYTES, 2 * size + (1 << 20))
        answer: dict[str, Any]
        try:
            tensors = load(stream, contains, size)
            if tensors:
                result.write(save(tensors))
                result.flush()
            answer = {"tensors": len(tensors), "isolation": isolation}
        except Refusal as refusal:
            answer = refusal.answer
        except MemoryError:
            answer = {"problem": "needs more memory than its size justifies", "key": None, "unsafe": True}
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            answer = {"problem": f"cannot be read as tensors ({first[:300]})", "key": None, "unsafe": False}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
