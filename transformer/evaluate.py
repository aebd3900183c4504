"""`python -m transformer.evaluate`: does the English of a Korean sentence name the right emoji?

The sentences in `eval_ko.jsonl` were written before the glossary, as people type them, each with the emoji
that count as right. About a quarter of them is held out: the glossary is not tuned on those, and their
failures are shown only on request.

The rule. Every covered emoji is scored against the English, and the best one must be among the right ones;
when several share the best score, all of them must be. The words of the English count by how few emoji they
fit (inverse document frequency over names and keywords): in full when the word is in the emoji's name, at
0.6 when it is only a keyword, and at half of that behind a "with", "and", "in" … or a later "-ing" verb,
where it is not the head. Each word of the emoji's name that the English lacks takes 0.3 of its own weight
off. So a second noun that fits another emoji better is a failure. Where the sentence asks for a colour, a
feature or a doing, one of the words for it has to be in the English as well.

Knows the names of the emoji (`--glyphs`) and the translator; it draws nothing.
"""

import argparse
import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformer.translation.backends import TRANSLATOR_NAMES, TranslatorName, build_translator
from transformer.translation.translator import Translation, translate_prompts

SENTENCES = Path(__file__).with_name("eval_ko.jsonl")
BAR = 0.9

KEYWORD_CREDIT = 0.6
MODIFIER_CREDIT = 0.5
MISSING_PENALTY = 0.3
_STOP_WORDS = frozenset("a an the of to is are it my your emoji picture".split())
_CONNECTIVES = frozenset("with and in on at for from under over by wearing holding".split())


@dataclass(frozen=True, slots=True)
class Sentence:
    """A Korean sentence, the emoji that count as right, and words of which one must be in the English."""

    text: str
    emoji: tuple[str, ...]
    also: tuple[tuple[str, ...], ...]
    topic: str
    part: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one sentence: `named` is the emoji that its English fits best."""

    sentence: Sentence
    translation: Translation
    named: tuple[str, ...]
    right: bool


def read_sentences(path: Path = SENTENCES) -> list[Sentence]:
    """The evaluation sentences, in the order of the file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Sentence(row["text"], tuple(row["emoji"]), tuple(map(tuple, row["also"])), row["topic"], row["part"])
        for row in rows
    ]


def split_words(text: str) -> list[str]:
    """Lower-case words without the plural's s: `"Heart-Eyes"` gives `["heart", "eye"]`."""
    words = re.findall(r"[a-z0-9+]+", text.lower().replace("'s", ""))
    return [word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word for word in words]


class EmojiNamer:
    """Finds the emoji that an English phrase names, by the rule in the module's docstring."""

    def __init__(self, glyphs: Path) -> None:
        entries = json.loads(glyphs.read_text(encoding="utf-8"))
        self._names = {entry["char"]: set(split_words(entry["name"])) - _STOP_WORDS for entry in entries}
        self._keywords = {entry["char"]: set(split_words(" ".join(entry["keywords"]))) for entry in entries}
        counts = Counter(word for char in self._names for word in self._names[char] | self._keywords[char])
        self._idf = {word: math.log(1 + len(entries) / count) for word, count in counts.items()}

    def name(self, english: str) -> tuple[str, ...]:
        """The emoji with the best score, several when they tie, none when no word fits any."""
        weights = self._weigh(english)
        scores = {char: self._score(char, weights) for char in self._names}
        best = max(scores.values())
        return tuple(char for char, score in scores.items() if score == best) if best > 0 else ()

    def _weigh(self, english: str) -> dict[str, float]:
        weights: dict[str, float] = {}
        credit = 1.0
        for position, word in enumerate(split_words(english)):
            if word in _CONNECTIVES or (position > 0 and word.endswith("ing")):
                credit = MODIFIER_CREDIT
            if word not in _STOP_WORDS | _CONNECTIVES and word in self._idf:
                weights[word] = max(weights.get(word, 0.0), credit * self._idf[word])
        return weights

    def _score(self, char: str, weights: dict[str, float]) -> float:
        name, keywords = self._names[char], self._keywords[char]
        fits = [
            weight * (1.0 if word in name else KEYWORD_CREDIT)
            for word, weight in weights.items()
            if word in name | keywords
        ]
        if not fits:
            return 0.0
        missing = sum(self._idf[word] for word in name - weights.keys())
        return round(sum(fits) - MISSING_PENALTY * missing, 9)


def judge(sentence: Sentence, translation: Translation, namer: EmojiNamer) -> Verdict:
    """Applies the rule to one sentence."""
    named = namer.name(translation.english)
    english = f" {' '.join(split_words(translation.english))} "
    said = all(
        any(f" {' '.join(split_words(words))} " in english for words in alternatives)
        for alternatives in sentence.also
    )
    right = said and bool(named) and set(named) <= set(sentence.emoji)
    return Verdict(sentence, translation, named, right)


def share(verdicts: Sequence[Verdict], part: str | None = None) -> tuple[int, int]:
    """How many are right, of how many, in one part or in all."""
    chosen = [verdict.right for verdict in verdicts if part in (None, verdict.sentence.part)]
    return sum(chosen), len(chosen)


def report(verdicts: Sequence[Verdict], show_held_out: bool) -> str:
    """The figures and the failures, as Markdown."""
    lines = ["# Korean sentences whose English names the right emoji", ""]
    for part in ("tune", "held-out", None):
        right, count = share(verdicts, part)
        lines.append(f"- {part or 'all'}: {right} of {count}, {right / max(count, 1):.1%}")
    lines += ["", "| sentence | English | unknown | names | right |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        if verdict.right or (verdict.sentence.part == "held-out" and not show_held_out):
            continue
        wanted = " ".join(verdict.sentence.emoji)
        wanted += "".join(" +" + "/".join(words) for words in verdict.sentence.also)
        unknown = ", ".join(verdict.translation.unknown)
        lines.append(
            f"| {verdict.sentence.text} | {verdict.translation.english} | {unknown} "
            f"| {' '.join(verdict.named[:4])} | {wanted} |"
        )
    return "\n".join(lines) + "\n"


async def evaluate(translator_name: TranslatorName, model_dir: Path | None, glyphs: Path) -> list[Verdict]:
    """Translates every sentence as the server would (language found by itself) and judges it."""
    sentences = read_sentences()
    translator = build_translator(translator_name, model_dir)
    try:
        translations = await translate_prompts(translator, [sentence.text for sentence in sentences])
    finally:
        translator.close()
    namer = EmojiNamer(glyphs)
    return [
        judge(sentence, translation, namer)
        for sentence, translation in zip(sentences, translations, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 when the bar is met, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m transformer.evaluate", description="Judge the English of Korean sentences."
    )
    parser.add_argument("--translator", choices=TRANSLATOR_NAMES, default="glossary")
    parser.add_argument("--translator_dir", type=Path, help="model folder of the seq2seq translator")
    parser.add_argument("--glyphs", type=Path, default=Path("weights/data/glyphs.json"))
    parser.add_argument("--report", type=Path, help="write the report here as well")
    parser.add_argument(
        "--show_held_out", action="store_true", help="list the failures of the held-out part too"
    )
    arguments = parser.parse_args(argv)
    verdicts = asyncio.run(evaluate(arguments.translator, arguments.translator_dir, arguments.glyphs))
    text = report(verdicts, arguments.show_held_out)
    print(text)
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(text, encoding="utf-8")
    right, count = share(verdicts)
    return 0 if right >= BAR * count else 1


if __name__ == "__main__":
    raise SystemExit(main())
