"""The errors of the weights room: one tree, each with the file, the key and the remedy.

Knows nothing of HTTP, gRPC or exit codes; who catches one of these decides what the caller sees.
"""

from __future__ import annotations

from pathlib import Path

MAX_TEXT = 2000


class WeightsError(Exception):
    """Anything that `weights` refuses.

    Args:
        problem: what is wrong, one sentence without a full stop.
        file: the file or folder at fault.
        key: the tensor, module or JSON field at fault.
        remedy: what the person at the keyboard can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        key: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.key = key
        self.remedy = remedy
        super().__init__(problem)

    def __str__(self) -> str:
        where = [part for part in (self.file, self.key and self.key[:200]) if part]
        sentence = ": ".join([*where, self.problem])
        text = sentence if self.remedy is None else f"{sentence}. {self.remedy}"
        # Keys come from files of strangers, and this goes to terminals and logs.
        return "".join(c if c.isprintable() else "\ufffd" for c in text[:MAX_TEXT])


class InvalidName(WeightsError):
    """A name, alias, label or reference breaks the naming rules."""


class UnknownLora(WeightsError):
    """No such LoRA, version or alias in the store."""


class LoraInUse(WeightsError):
    """A version cannot be removed while an alias points to it."""


class InvalidRoute(WeightsError):
    """A weighted alias whose name, versions or percents are not as they must be."""


class StoreUnavailable(WeightsError):
    """The store cannot be read or written: permissions, a full disk, or another writer holds its lock."""


class CorruptLora(WeightsError):
    """A file is damaged, truncated, foreign, or is not what its manifest promises."""


class IncompatibleLora(WeightsError):
    """A sound LoRA that does not fit the base, or is of a kind that is not supported."""


class UnsafePickle(WeightsError):
    """A pickled file asks for more than tensors, or broke the limits of the confined reader."""


class UnusableBase(WeightsError):
    """The folder given as base model holds no UNet whose signature can be read."""
