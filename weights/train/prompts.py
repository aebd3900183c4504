"""What people type for a subject: names, nouns, keywords, "a … emoji", colours and features.

Knows nothing of pictures or of models.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from weights.glyphs.dataset import Glyph, load_glyphs
from weights.glyphs.names import nouns
from weights.train.pictures import Subject

FRAMES = (
    "{}",
    "{}",
    "{}",
    "{}",
    "{}",
    "a {}",
    "a {}",
    "the {}",
    "{} emoji",
    "a {} emoji",
    "an emoji of a {}",
    "emoji of {}",
    "{} icon",
    "a picture of a {}",
    "my {}",
    "cute {}",
    "draw a {}",
    "one {}",
)
STYLES = {"notoemoji": ("noto style", "in noto style"), "openmoji": ("openmoji style", "in openmoji style")}
SMALL_WORDS = {"with", "and", "of", "the", "a", "in", "on", "face"}
COLOUR_WORDS = {"gray": ("gray", "grey")}
FEATURE_PHRASES = {
    "sunglasses": (
        "{} with sunglasses",
        "{} wearing sunglasses",
        "{} in sunglasses",
        "cool {} with sunglasses",
    ),
    "glasses": ("{} with glasses", "{} wearing glasses", "{} with eyeglasses"),
    "heart eyes": ("{} with heart eyes", "{} with heart-eyes", "{} in love", "heart-eyed {}"),
    "star eyes": ("{} with star eyes", "{} with stars in the eyes", "starry eyed {}"),
    "tear": ("crying {}", "{} crying", "sad {} with a tear", "{} with tears", "sad {}"),
    "crown": ("{} with a crown", "{} with crown", "{} wearing a crown", "king {}", "queen {}"),
    "top hat": (
        "{} with a top hat",
        "{} with top hat",
        "{} wearing a top hat",
        "{} with a hat",
        "{} wearing a hat",
    ),
    "graduation cap": (
        "{} with a graduation cap",
        "{} wearing a graduation cap",
        "{} graduating",
        "{} with graduation cap",
    ),
    "bow": ("{} with a bow", "{} wearing a bow", "{} with a ribbon", "{} wearing a ribbon", "{} with bow"),
}


@lru_cache(maxsize=1)
def glyphs_by_name() -> dict[str, Glyph]:
    """The data set by CLDR name."""
    return {glyph.name: glyph for glyph in load_glyphs()}


@lru_cache(maxsize=1)
def keyword_counts() -> Counter[str]:
    """How many glyphs share each keyword: "face" says little, "volcano" says all."""
    return Counter(keyword.lower() for glyph in load_glyphs() for keyword in glyph.keywords)


def keywords(glyph: Glyph, count: int, chance: random.Random) -> list[str]:
    """Up to `count` different keywords of a glyph, telling ones first."""
    pool = [k.lower() for k in glyph.keywords if len(k) < 24]
    chosen: list[str] = []
    while pool and len(chosen) < count:
        word = chance.choices(pool, [1 / keyword_counts()[k] for k in pool])[0]
        pool.remove(word)
        chosen.append(word)
    return chosen


def plain_phrase(glyph: Glyph, chance: random.Random) -> str:
    """One way to say a plain glyph."""
    dice = chance.random()
    if dice < 0.34:
        return glyph.name
    if dice < 0.62:
        return chance.choice(nouns(glyph.name))
    if dice < 0.72:
        words = glyph.name.replace("-", " ").split()
        chance.shuffle(words)
        if len(words) > 2 and chance.random() < 0.5:
            words = [word for word in words if word not in SMALL_WORDS] or words
        return " ".join(words)
    if dice < 0.88:
        word = keywords(glyph, 1, chance) or [glyph.name]
        name = chance.choice((glyph.name, *nouns(glyph.name)))
        return chance.choice((f"{word[0]} {name}", f"{name}, {word[0]}", f"{name} {word[0]}"))
    return chance.choice((" ", ", ")).join(
        keywords(glyph, chance.choice((1, 2, 2, 3)), chance) or [glyph.name]
    )


def sample_prompt(subject: Subject, chance: random.Random, look: str | None = None) -> str:
    """One prompt for a subject; `look` adds that look's style words (only the base is trained with them)."""
    glyph = glyphs_by_name()[subject.glyph]
    if subject.colour is not None:
        colour = chance.choice(COLOUR_WORDS.get(subject.colour, (subject.colour,)))
        noun = chance.choice(nouns(glyph.name))
        phrase = chance.choices((f"{colour} {noun}", f"{noun} in {colour}", f"{noun}, {colour}"), (8, 1, 1))[
            0
        ]
    elif subject.feature is not None:
        phrase = chance.choice(FEATURE_PHRASES[subject.feature]).format(chance.choice(nouns(glyph.name)))
    else:
        phrase = plain_phrase(glyph, chance)
    prompt = chance.choice(FRAMES).format(phrase)
    if prompt.startswith("a ") and prompt[2] in "aeiou":
        prompt = "an " + prompt[2:]
    if chance.random() < 0.15:
        prompt = prompt.capitalize()
    return f"{prompt}, {chance.choice(STYLES[look])}" if look else prompt


def corpus(subjects: Sequence[Subject], chance: random.Random) -> list[str]:
    """Text to train the tokenizer on: everything that prompts are made of."""
    lines = [
        sample_prompt(subject, chance, chance.choice((None, *STYLES)))
        for subject in subjects
        for _ in range(4)
    ]
    for glyph in load_glyphs():
        lines += [glyph.name, " ".join(glyph.keywords), *nouns(glyph.name)] * 3
    return lines
