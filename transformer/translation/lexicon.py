"""The glossary's words: what a Korean word or phrase is in English and what part it plays there.

Two files. `words.tsv` is written by hand: everyday words, and phrases as the dictionary forms of their
words without particles ("비 오다" covers "비가 와요" and "비 오는"). `emoji_names.tsv` comes from CLDR (see
`build`) and is matched as typed. Knows no grammar: `morphology` finds the words, `english` puts them in
order.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from transformer.translation.morphology import Word

WORDS = Path(__file__).with_name("words.tsv")
EMOJI_NAMES = Path(__file__).with_name("emoji_names.tsv")
_LONGEST_NAME = 6

Part = Literal[
    "noun",  # a thing to draw
    "feature",  # a thing that others wear or have: in front of another noun it is "with glasses"
    "setting",  # a place, a time, a person speaking: named only when nothing else is
    "light",  # no word of its own, a noun to hang a clause on ("것", "때")
    "place",  # a position: `english` is the preposition
    "before",  # goes before its noun: "red", "smiling"
    "after",  # goes behind its noun: "in the rain"
    "transitive",  # goes behind its noun, before its object: "eating", "with"
    "not",  # strikes the thing out: "말고"
    "mood",  # counts only when there is nothing else: "ㅠㅠ"
    "drop",  # known, and says nothing about the picture
]
PARTS: tuple[str, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Entry:
    """`alone` is what a modifier becomes when there is no noun for it: "angry" gives "angry face"."""

    part: Part
    english: str
    alone: str = ""


class Lexicon:
    """Longest match over words. Loads both files; raises `ValueError` with the line for a malformed row."""

    def __init__(self, words: Path = WORDS, emoji_names: Path = EMOJI_NAMES) -> None:
        self._phrases: dict[str, list[tuple[tuple[str, ...], Entry]]] = defaultdict(list)
        self._names: dict[str, Entry] = {}
        self._read_names(emoji_names)
        self._read_words(words)

    def _read_names(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines():
            korean, english, emoji = line.split("\t")
            self._names.setdefault(korean.replace(" ", ""), Entry("noun", english))
            if emoji:
                self._names.setdefault(emoji, Entry("noun", english))

    def _read_words(self, path: Path) -> None:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line or line.startswith("#"):
                continue
            korean, part, *english = line.split("\t")
            if part not in PARTS or len(english) > 2:
                raise ValueError(f"{path.name}, line {number}: not `korean, part, english, alone`: {line!r}")
            entry = Entry(cast(Part, part), *(english or [""]))
            for spelling in korean.split("|"):
                key = tuple(spelling.split())
                self._phrases[key[0]].append((key, entry))
                if entry.part in ("noun", "feature", "setting"):
                    self._names["".join(key)] = entry

    def match(self, text: str, words: Sequence[Word], start: int) -> tuple[Entry | None, int]:
        """The entry for the longest phrase at `words[start]`, and how many words it takes (1 without one).

        `text` is what `words` were found in. A hand-written phrase goes before an emoji name of the same
        length.
        """
        if words[start].category == "break":
            return None, 1
        named, named_length = self._match_name(text, words, start)
        best, best_length = None, 0
        for spelling in words[start].spellings:
            for key, entry in self._phrases.get(spelling, ()):
                length = _match_phrase(key, words, start)
                if length > best_length:
                    best, best_length = entry, length
        if best and best_length >= named_length:
            return best, best_length
        return named, max(named_length, 1)

    def _match_name(self, text: str, words: Sequence[Word], start: int) -> tuple[Entry | None, int]:
        for length in range(min(_LONGEST_NAME, len(words) - start), 0, -1):
            typed = text[words[start].start : words[start + length - 1].end]
            entry = self._names.get(typed.replace(" ", "").replace("\ufe0f", ""))
            if entry:
                return entry, length
        return None, 0


def _match_phrase(key: tuple[str, ...], words: Sequence[Word], start: int) -> int:
    """How many words from `start` on spell `key`, adverbs in between not minded; 0 when they do not."""
    position = start
    for index, spelling in enumerate(key):
        while index > 0 and position < len(words) and words[position].category == "adverb":
            if spelling in words[position].spellings:
                break
            position += 1
        if position >= len(words) or spelling not in words[position].spellings:
            return 0
        position += 1
    return position - start
