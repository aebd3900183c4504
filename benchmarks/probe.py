"""A process that measures something in itself when asked: a question a line on its stdin, a reply a line.

A process of its own, since OpenMP's threads of two models in one process hinder each other. It doesn't know
what is measured.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.process import Process


class Probe(Process):
    """Started on enter; the first `ask` waits until it has loaded."""

    def ask(self, question: str, **arguments: Any) -> Any:
        """The reply to a question.

        Raises:
            ProcessFailed: it ended instead.
        """
        with suppress(BrokenPipeError):  # it has ended, and replies nothing
            self.process.stdin.write(json.dumps({"question": question, **arguments}) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise self.failure(f"gave no reply to {question!r}")
        return json.loads(line)

    def _pipes(self, log: Any) -> dict[str, Any]:
        return {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def replies() -> Callable[[Any], None]:
    """Inside a probe: takes stdout for replies alone, and gives what writes one."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def reply(content: Any) -> None:
        stream.write(json.dumps(content) + "\n")
        stream.flush()

    return reply


def answer(load: Callable[[], Any]) -> None:
    """Inside a probe: each question is a method of what `load` gives; until stdin ends."""
    reply = replies()
    subject = load()
    for line in sys.stdin:
        given = json.loads(line)
        reply(getattr(subject, given.pop("question"))(**given))
