"""The rule that says which emoji an English phrase names, the sentences, and the bar for the glossary."""

import json
from pathlib import Path

import pytest

from transformer.evaluate import BAR, EmojiNamer, Sentence, judge, main, read_sentences
from transformer.translation.translator import Translation

GLYPHS = Path("weights/data/glyphs.json")


@pytest.fixture(scope="module")
def namer(tmp_path_factory: pytest.TempPathFactory) -> EmojiNamer:
    """Knows eleven emoji, so that the scores can be followed by hand."""
    glyphs = tmp_path_factory.mktemp("glyphs") / "glyphs.json"
    names = {
        "🐕": ("dog", ["animal", "pet"]),
        "🐶": ("dog face", ["animal", "pet", "puppy"]),
        "🌭": ("hot dog", ["sausage"]),
        "🐈": ("cat", ["animal", "pet"]),
        "😻": ("smiling cat with heart-eyes", ["animal", "love"]),
        "😎": ("smiling face with sunglasses", ["cool"]),
        "🥕": ("carrot", ["food"]),
        "🐰": ("rabbit face", ["animal", "pet"]),
        "🏠": ("house", ["home"]),
        "⛵": ("boat", ["sea"]),
        "🚤": ("boat", ["sea"]),
    }
    glyphs.write_text(
        json.dumps([{"char": char, "name": name, "keywords": words} for char, (name, words) in names.items()])
    )
    return EmojiNamer(glyphs)


@pytest.mark.parametrize(
    ("english", "named"),
    [
        ("dog", ("🐕",)),  # not the hot dog, whose "hot" is missing
        ("a hot dog", ("🌭",)),
        ("puppy", ("🐶",)),
        ("dog with sunglasses", ("🐕",)),  # the head, not what it wears
        ("cats with heart eyes", ("😻",)),
        ("rabbit eating carrot", ("🐰",)),
        ("carrot", ("🥕",)),
        ("house dog", ("🏠",)),  # two heads: the one that fits fewer emoji misleads
        ("boat", ("⛵", "🚤")),  # a tie, and as such a failure for either
        ("xylophone", ()),
        ("", ()),
    ],
)
def test_the_emoji_that_english_names(namer: EmojiNamer, english: str, named: tuple[str, ...]) -> None:
    assert namer.name(english) == named


@pytest.mark.parametrize(
    ("english", "right"),
    [
        ("blue dog", True),
        ("dog", False),  # the colour is missing
        ("blue cat", False),
        ("", False),
    ],
)
def test_what_counts_as_right(namer: EmojiNamer, english: str, right: bool) -> None:
    sentence = Sentence("파란 강아지", ("🐕", "🐶"), (("blue", "azure"),), "animals", "tune")
    assert judge(sentence, Translation(english, "glossary", "ko"), namer).right is right


def test_the_sentences_ask_for_covered_emoji_and_for_each_only_once() -> None:
    sentences = read_sentences()
    covered = {entry["char"] for entry in json.loads(GLYPHS.read_text(encoding="utf-8"))}
    assert len({sentence.text for sentence in sentences}) == len(sentences) >= 200
    assert all(sentence.emoji and set(sentence.emoji) <= covered for sentence in sentences)
    assert sum(sentence.part == "held-out" for sentence in sentences) >= 60


def test_the_glossary_meets_the_bar_and_the_report_hides_the_held_out_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "reports" / "eval-ko.md"
    assert main(["--report", str(report)]) == 0
    text = report.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    shares = [float(line.rstrip("%").split(", ")[1]) / 100 for line in text.splitlines() if "%" in line]
    assert len(shares) == 3
    assert min(shares) >= BAR - 0.05
    held_out = [sentence.text for sentence in read_sentences() if sentence.part == "held-out"]
    assert not any(f"| {sentence} |" in text for sentence in held_out)
