"""The index of one LoRA name: the one file below the name that is ever replaced.

Knows its JSON form and rules; does not know where it lies or who may write it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from weights.errors import CorruptLora
from weights.manifest import ALIAS


@dataclass(frozen=True, slots=True)
class Index:
    """The versions there are, the highest number ever given (0: none yet), and what each alias points to."""

    versions: tuple[int, ...] = ()
    newest: int = 0
    aliases: Mapping[str, int] = field(default_factory=dict)

    @property
    def usual(self) -> int:
        """The version that a bare name means: the alias "stable" where there is one, else the newest."""
        return self.aliases.get("stable", max(self.versions))

    def to_json(self) -> bytes:
        """The stored form: UTF-8 JSON, fixed field order, final newline."""
        document = {
            "versions": sorted(self.versions),
            "newest": self.newest,
            "aliases": dict(sorted(self.aliases.items())),
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, file: Path) -> Index:
        """Parses the stored form; raises CorruptLora naming `file`."""
        try:
            document = json.loads(data)
            index = cls(tuple(document["versions"]), document["newest"], dict(document["aliases"]))
            sound = (
                set(document) == {"versions", "newest", "aliases"}
                and type(index.newest) is int
                and all(type(number) is int and 1 <= number <= index.newest for number in index.versions)
                and all(type(number) is int for number in index.aliases.values())
                and set(index.aliases.values()) <= set(index.versions)
                and all(ALIAS.fullmatch(alias) for alias in index.aliases)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if not sound:
            raise CorruptLora("is not the index of a LoRA", file=file, remedy="Restore it from its source")
        return index
