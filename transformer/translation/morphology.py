"""Kiwi's morphemes folded into words: a noun with its particle, a verb by its dictionary form and ending.

Knows Korean morphology (tags of the Sejong set), no English and no vocabulary.
"""

import re
from dataclasses import dataclass
from typing import Literal

from kiwipiepy import Kiwi, Token

Category = Literal["noun", "predicate", "adverb", "symbol", "break"]
Role = Literal["", "subject", "topic", "object", "adjunct", "with", "of", "like", "and"]
Ending = Literal["", "attributive", "linking", "final"]

_PARTICLES: dict[str, Role] = {"JKS": "subject", "JKO": "object", "JKG": "of", "JC": "and"}
_ADJUNCTS: dict[str, Role] = {
    "처럼": "like", "같이": "like", "와": "and", "과": "and", "랑": "and", "이랑": "and", "하고": "and",
    "로": "with", "으로": "with",
}  # fmt: skip
_TOPICS = ("은", "는", "ᆫ", "도", "만", "야", "이나", "나")
_ENDINGS: dict[str, Ending] = {"EF": "final", "EC": "linking", "ETN": "linking", "ETM": "attributive"}
_NEGATIVE_AUXILIARIES = ("않다", "못하다", "말다")
_WANT = "싶다"
_NEGATIVE_ADVERBS = ("안", "못")
_SOUNDS = ((re.compile("[ㅋㅎ]+"), "ㅋㅋ"), (re.compile("[ㅠㅜ]+"), "ㅠㅠ"))

# Readings that Kiwi's language model gets wrong in short prompts.
_PRE_ANALYSED = {"우는": [("울", "VV"), ("는", "ETM")], "쓴": [("쓰", "VV"), ("ᆫ", "ETM")]}


@dataclass(slots=True)
class Word:
    """One word of the sentence, `text[start:end]` without its particle.

    `lemma` is the dictionary form. `form` is the attributive ending as a letter (`"ㄴ"` in "달린", `"는"`
    in "달리는").
    """

    lemma: str
    category: Category
    tag: str
    start: int
    end: int
    role: Role = ""
    ending: Ending = ""
    form: str = ""
    negated: bool = False
    stem: "Word | None" = None  # the noun in front of "하다", "되다" …

    @property
    def spellings(self) -> tuple[str, ...]:
        """How the vocabulary may spell it, narrowest first: `"달리다:ㄴ"`, `"달다/VV"`, `"달다"`."""
        return f"{self.lemma}:{self.form}", f"{self.lemma}/{self.tag}", self.lemma


class Morphology:
    """Kiwi with its model; loading takes 2 to 3 s, a sentence about half a millisecond."""

    def __init__(self) -> None:
        # Without the dictionary of multi-word proper names: it doubles the loading time and draws no picture.
        self._kiwi = Kiwi(num_workers=1, load_multi_dict=False)
        for typed, morphemes in _PRE_ANALYSED.items():
            self._kiwi.add_pre_analyzed_word(typed, morphemes, 3.0)
        self._kiwi.tokenize("준비")  # the first call builds the tables

    def analyse(self, text: str) -> list[Word]:
        """The words of `text` in order, with a `"break"` for every punctuation mark."""
        words: list[Word] = []
        negate_next = False
        for token in self._kiwi.tokenize(text):
            tag = token.tag.split("-")[0]
            if tag == "MAG" and token.form in _NEGATIVE_ADVERBS:
                negate_next = True
            elif tag == "VX" and words and words[-1].category == "predicate":
                words[-1].negated |= token.lemma in _NEGATIVE_AUXILIARIES
                words[-1].end = token.end
                if token.lemma == _WANT and len(words) > 1 and words[-2].role == "subject":
                    words[
                        -2
                    ].role = "object"  # "피자가 먹고 싶다": what is wanted, with the subject's particle
            elif tag in _ENDINGS or tag == "EP":
                _end(words, token, tag)
            elif tag.startswith("J"):
                _attach_particle(words, token, tag)
            elif tag in ("XSV", "XSA") and words and words[-1].category in ("noun", "adverb"):
                stem = words.pop()
                words.append(
                    Word(f"{stem.lemma}{token.form}다", "predicate", "VV", stem.start, token.end, stem=stem)
                )
            elif tag == "XSN" and words and words[-1].category == "noun":
                words[-1].end = token.end
            else:
                word = _new_word(token, tag)
                if word.category == "predicate":
                    word.negated, negate_next = negate_next, False
                words.append(word)
        return words


def _new_word(token: Token, tag: str) -> Word:
    category: Category = "noun"
    lemma = token.form
    if tag.startswith("V"):
        category, lemma = "predicate", token.lemma
    elif tag in ("MAG", "MAJ", "MM", "IC", "XPN"):
        category = "adverb"
    elif tag in ("SF", "SP", "SS", "SSO", "SSC", "SE", "SB"):
        category = "break"
    elif tag.startswith(("SW", "W_", "UN", "Z_")):
        category = "symbol"
        lemma = next((sound for pattern, sound in _SOUNDS if pattern.fullmatch(lemma)), lemma)
    return Word(lemma, category, tag, token.start, token.end)


def _end(words: list[Word], token: Token, tag: str) -> None:
    if not words:
        return
    words[-1].end = max(words[-1].end, token.end)
    if tag in _ENDINGS:
        words[-1].ending = _ENDINGS[tag]
        words[-1].form = {"ᆫ": "ㄴ", "은": "ㄴ", "ᆯ": "ㄹ", "을": "ㄹ"}.get(token.form, token.form)


def _attach_particle(words: list[Word], token: Token, tag: str) -> None:
    if not words:
        return
    if tag == "JX" and token.form in _TOPICS and words[-1].role == "":
        words[-1].role = "topic"
    elif tag == "JKB":
        words[-1].role = _ADJUNCTS.get(token.form, "adjunct")
    elif tag in _PARTICLES:
        words[-1].role = _PARTICLES[tag]
