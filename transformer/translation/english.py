"""English word order for a Korean sentence that was cut into known pieces.

Korean puts everything before the noun it belongs to, and the verb last. Here adjectives and doings without
an object go before their noun ("smiling dog"), things worn, held or eaten behind it ("cat with crown"), and
a closing verb is told as what its subject is doing ("sleeping cat"). Knows no Korean: of a piece it sees
the part, the English, the role of its particle and the kind of its ending.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest

from transformer.translation.lexicon import Entry, Part
from transformer.translation.morphology import Ending, Role

_FACE = "face"
_SUBJECTS: tuple[Role, ...] = ("subject", "topic", "")
_NOUNS: tuple[Part, ...] = ("noun", "feature", "setting")
_SIDES: tuple[Role, ...] = ("adjunct", "with", "like")


@dataclass(frozen=True, slots=True)
class Piece:
    """A known word or phrase. `entry` is None for an unknown noun and for punctuation.

    A full stop has the ending "final".
    """

    entry: Entry | None
    role: Role = ""
    ending: Ending = ""
    negated: bool = False


@dataclass(slots=True)
class _Phrase:
    """A noun with what is said of it. `link` is the preposition or doing that ties it to another noun."""

    head: str
    role: Role = ""
    part: Part = "noun"
    before: list[Entry] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    link: str = ""

    @property
    def setting(self) -> bool:
        """Whether it stays in the background: a place, of which nothing is told."""
        return self.part == "setting" and not self.after

    def __str__(self) -> str:
        telling = [modifier.alone for modifier in self.before if _FACE in modifier.alone.split()]
        if self.head == _FACE and len(self.before) == 1 and telling:
            words = [telling[0]]
        else:
            told = [modifier.english for modifier in self.before]
            words = [*(word for word in told if not f"{self.head} ".startswith(f"{word} ")), self.head]
        for previous, phrase in pairwise(["", *self.after]):
            both_with = previous.startswith("with ") and phrase.startswith("with ")
            words.append(phrase.replace("with", "and", 1) if both_with else phrase)
        return " ".join(words)


class Sentence:
    """Takes the pieces in Korean order, gives the English (`str`); empty when no piece can be drawn."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._done: list[_Phrase] = []  # of closed clauses
        self._open: list[_Phrase] = []  # of this clause
        self._before: list[Entry] = []  # waiting for the noun they go before
        self._after: list[str] = []  # waiting for the noun they go behind
        self._alone: list[str] = []  # what the modifiers would be without a noun
        self._mood = ""
        self._touching = False  # the latest phrase is the piece just before this one
        self._adjacent = False  # … with nothing but adverbs and counters in between
        for piece, following in zip_longest(pieces, pieces[1:]):
            self._add(piece, following)
        self._close()

    def __str__(self) -> str:
        drawn = [phrase for phrase in self._done if not phrase.setting]
        if not drawn and self._alone:
            return self._alone[-1]
        drawn = drawn or self._done[-1:]
        if not drawn:
            return self._mood
        text = str(drawn[0])
        for previous, phrase in pairwise(drawn):
            text += f" and {phrase}" if previous.role == "and" else f", {phrase}"
        return text

    def _add(self, piece: Piece, following: Piece | None) -> None:
        entry = piece.entry
        if entry is None:
            if piece.ending == "final":
                self._close()
                self._before, self._after = [], []
            self._touching = self._adjacent = False
        elif entry.part in _NOUNS:
            self._add_noun(entry, piece, following)
        else:
            touching, self._touching = self._touching, False
            if entry.part == "place" and touching:
                self._open[-1].role, self._open[-1].link = "adjunct", entry.english
            elif entry.part == "mood":
                self._mood = entry.alone
            elif entry.part == "not":
                self._strike(closing=piece.ending == "final")
            elif not piece.ending:
                self._wait(entry)
            else:
                self._add_predicate(_negate(entry) if piece.negated else entry, piece, following)

    def _add_noun(self, entry: Entry, piece: Piece, following: Piece | None) -> None:
        phrase = _Phrase(entry.english, piece.role, entry.part, self._before, self._after)
        self._before, self._after = [], []
        latest = self._open[-1].role if self._open else None
        if latest == "of" or (latest == "" and self._touching):
            modifier = self._open.pop()
            if modifier.setting:
                self._done.append(modifier)
                phrase.before = modifier.before + phrase.before
            elif modifier.head == _FACE:  # "with an angry face"
                phrase.before = modifier.before + phrase.before
                phrase.after = modifier.after + phrase.after
            elif modifier.part == "feature" and phrase.part == "noun":
                phrase.after.insert(0, f"with {modifier}")
            else:
                phrase.before = [*modifier.before, Entry("before", modifier.head), *phrase.before]
                phrase.after = modifier.after + phrase.after
        self._open.append(phrase)
        self._touching = self._adjacent = True
        if piece.ending:  # the entry was a phrase with a verb in it
            self._touching = False
            self._add_predicate(Entry("drop", ""), piece, following)

    def _add_predicate(self, entry: Entry, piece: Piece, following: Piece | None) -> None:
        # In front of a noun that is left out or unknown there is nothing for the clause to go with.
        left_out = (
            following
            and not following.ending
            and (following.entry is None or following.entry.part in ("light", "drop"))
        )
        if piece.ending == "attributive" and not left_out:
            self._relate(entry)
        else:
            self._tell(entry, closing=piece.ending == "final")
        self._adjacent = False

    def _wait(self, entry: Entry) -> None:
        if entry.part == "after":
            self._after.append(entry.english)
            self._alone.append(entry.alone or entry.english)
        elif entry.part == "before" or entry.english.endswith("ing"):
            self._before.append(entry)

    def _relate(self, entry: Entry) -> None:
        """A clause in front of its noun: what it holds waits for that noun."""
        last = self._open.pop() if self._adjacent and self._open[-1].role not in ("topic", "and") else None
        for phrase in [phrase for phrase in self._open if phrase.link]:
            self._open.remove(phrase)
            self._after.append(f"{phrase.link} {phrase}")
        if last is None or last.setting or last.role == "like":
            if last and last.setting:
                self._done.append(last)
            elif last:
                self._before.append(Entry("before", last.head))
            self._wait(entry)
        elif last.role == "adjunct":
            self._after.append(f"{last.link or 'on'} {last}")
            self._wait(entry)
        elif entry.part == "before":
            self._after.append(f"with {entry.english} {last}")
        else:
            self._after.append(f"{entry.english if entry.part == 'transitive' else 'with'} {last}")

    def _strike(self, closing: bool) -> None:
        """Takes the latest noun back ("not this one, but …"), unless the sentence ends here."""
        if closing:
            self._close()
        elif self._open:
            self._open.pop()
        self._adjacent = False

    def _tell(self, entry: Entry, closing: bool) -> None:
        """A verb that closes a clause or leads on to the next: it tells something of the nouns before."""
        things = [phrase for phrase in self._open if not phrase.setting and phrase.role not in _SIDES]
        subjects = [phrase for phrase in things if phrase.role in _SUBJECTS]
        last = things[-1] if things else None
        if entry.part in ("before", "after"):
            self._describe(entry, subjects, last)
        elif last and last.role in ("object", "") and (entry.part == "transitive" or closing):
            owners = [phrase for phrase in subjects if phrase is not last]
            link = entry.english if entry.part == "transitive" else "with"
            if owners:
                self._open.remove(last)
                owners[-1].after.append(f"{link} {last}")
            elif not closing:
                last.link = link
        elif entry.part == "transitive" and entry.english.endswith("ing"):
            self._describe(entry, subjects, last)
        if closing:
            self._close()

    def _describe(self, entry: Entry, subjects: list[_Phrase], last: _Phrase | None) -> None:
        if last is None:
            self._wait(entry)
        elif entry.part == "after":
            (subjects or [last])[-1].after.append(entry.english)
        elif len(subjects) > 1 and subjects[0].role == "topic" and last.role == "subject":
            self._open.remove(last)
            subjects[0].after.append(f"with {entry.english} {last}")
        else:
            first = self._open.index((subjects or [last])[-1])
            while first > 0 and self._open[first - 1].role == "and":
                first -= 1
            self._open[first].before.append(entry)

    def _close(self) -> None:
        drawn = [phrase for phrase in self._open if not phrase.setting]
        main = next((phrase for phrase in drawn if phrase.role not in _SIDES), None)
        main = main or next((phrase for phrase in drawn if phrase.role == "like"), None)
        if main:
            main.before += self._before
            self._before = []
        self._alone += [modifier.alone or modifier.english for modifier in self._before]
        for phrase in self._open:
            if phrase.role in _SIDES and phrase in drawn and main and phrase is not main:
                main.after.append(f"{phrase.link or ('with' if phrase.role == 'with' else 'on')} {phrase}")
                continue
            if phrase.role in _SIDES and self._alone:
                phrase.part = "setting"
            self._done.append(phrase)
        self._open = []
        self._touching = self._adjacent = False


def _negate(entry: Entry) -> Entry:
    """What is left of a doing that is denied: "without" its object, or nothing."""
    return Entry("transitive", "without") if entry.part == "transitive" else Entry("drop", "")
