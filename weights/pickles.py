"""Tensors out of a pickled torch file, read in a confined child process and handed back as safetensors.

Knows how to start, limit and believe the child (`weights.unpickler`); does not know LoRAs.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from weights import unpickler
from weights.errors import CorruptLora, UnsafePickle, WeightsError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MAX_BYTES = 8 << 30
WALL_SECONDS = 300.0
MAX_ANSWER_BYTES = 1 << 16
DO_NOT_OPEN = "Do not open it elsewhere; ask its author for a safetensors file"
EXPORT_AGAIN = "Download or export it again, best as safetensors"


def read_pickle(file: Path, *, contains: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a file that torch.save wrote, as far as their key contains `contains`; none is no error.

    Raises:
        UnsafePickle: when the file asks for more than tensors, or the child broke a limit.
        CorruptLora: when it is truncated, of another format, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        answer = Path(folder, "answer")
        tensors = Path(folder, "tensors")
        with open(_open(file), "rb") as source, tensors.open("wb") as target, answer.open("wb") as report:
            _run([source.fileno(), target.fileno()], contains, report.fileno(), file)
        told = _answer(answer, file)
        if "problem" in told:
            kind = UnsafePickle if told.get("unsafe") else CorruptLora
            remedy = DO_NOT_OPEN if told.get("unsafe") else EXPORT_AGAIN
            key = told.get("key")
            raise kind(str(told["problem"]), file=file, key=None if key is None else str(key), remedy=remedy)
        log.debug("%s was read with %s", file, told.get("isolation"))
        try:
            return load(tensors.read_bytes()) if tensors.stat().st_size else {}
        except SafetensorError as error:
            raise _crashed(file, f"left no safetensors: {error}") from None


def _open(file: Path) -> int:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CorruptLora(f"cannot be read ({error.strerror})", file=file, remedy="Check the path") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        os.close(descriptor)
        raise CorruptLora(f"is no regular file of at most {MAX_BYTES} bytes", file=file, remedy=EXPORT_AGAIN)
    return descriptor


def _run(descriptors: list[int], contains: str, answer: int, file: Path) -> None:
    # -I keeps PYTHONPATH, the working folder and the user's site out; the environment holds no secret.
    command = [sys.executable, "-I", unpickler.__file__, *map(str, descriptors), contains]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )
    try:
        code = child.wait(WALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise UnsafePickle(f"took more than {WALL_SECONDS:.0f} s", file=file, remedy=DO_NOT_OPEN) from None
    finally:
        child.kill()
        child.wait()
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        raise UnsafePickle("took more time or memory than it was given", file=file, remedy=DO_NOT_OPEN)
    if code != 0:
        raise _crashed(file, f"exit status {code}")


def _answer(answer: Path, file: Path) -> dict[str, object]:
    if answer.stat().st_size <= MAX_ANSWER_BYTES:
        try:
            told = json.loads(answer.read_bytes())
        except ValueError:
            told = None
        if isinstance(told, dict) and ("tensors" in told or "problem" in told):
            return told
    raise _crashed(file, "no answer")


def _crashed(file: Path, how: str) -> WeightsError:
    return UnsafePickle(f"broke the confined reader ({how})", file=file, remedy=DO_NOT_OPEN)
