"""`python -m transformer.translation.build`: joins CLDR's Korean and English names into `emoji_names.tsv`.

Run by a developer when CLDR has a new version, never at run time. It wants the `annotations` folder of the
npm package `cldr-annotations-full` and, for sequences, the `annotationsDerived` folder of
`cldr-annotations-derived-full`.

A row is `korean <tab> english <tab> emoji`. Names keep their emoji. A Korean keyword becomes a row when it
consists of nouns and points at no more than two emoji; it stands for the one whose Korean name holds it,
else for the one with fewer keywords.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kiwipiepy import Kiwi

from transformer.translation.lexicon import EMOJI_NAMES

_SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_MOST_EMOJI_OF_A_KEYWORD = 2


def read_annotations(folder: Path, locale: str) -> dict[str, dict[str, list[str]]]:
    """`{emoji: {"tts": [name], "default": [keyword, …]}}` of one locale."""
    content: dict[str, Any] = json.loads((folder / locale / "annotations.json").read_text(encoding="utf-8"))
    annotations: dict[str, dict[str, list[str]]] = next(iter(content.values()))["annotations"]
    return annotations


def join_names(folder: Path) -> dict[str, tuple[str, str]]:
    """`{emoji: (korean name, english name)}`, without skin tones and names such as "flag: Japan"."""
    english, korean = read_annotations(folder, "en"), read_annotations(folder, "ko")
    names = {}
    for emoji, annotation in korean.items():
        if "tts" not in annotation or "tts" not in english.get(emoji, {}) or _SKIN_TONES & set(emoji):
            continue
        pair = annotation["tts"][0], english[emoji]["tts"][0].replace("’", "'")
        if not any(":" in name or "\t" in name for name in pair):
            names[emoji] = pair
    return names


def choose_keywords(folder: Path, names: dict[str, tuple[str, str]]) -> dict[str, str]:
    """`{korean keyword: emoji}` by the rule in the module's docstring."""
    korean = read_annotations(folder, "ko")
    owners: dict[str, list[str]] = defaultdict(list)
    for emoji in names:
        for keyword in korean[emoji].get("default", []):
            owners[keyword].append(emoji)
    taken = {name for name, _ in names.values()}
    kiwi = Kiwi(num_workers=1)
    chosen = {}
    for keyword, emojis in owners.items():
        if keyword in taken or len(emojis) > _MOST_EMOJI_OF_A_KEYWORD or len(keyword) < 2:
            continue
        if all(token.tag.startswith(("NN", "SL", "XPN", "XSN")) for token in kiwi.tokenize(keyword)):
            chosen[keyword] = min(
                emojis, key=lambda emoji: (keyword not in names[emoji][0], len(korean[emoji]["default"]))
            )
    return chosen


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Join CLDR's Korean and English emoji names.")
    parser.add_argument("--annotations", type=Path, required=True, help="…/cldr-annotations-full/annotations")
    parser.add_argument("--derived", type=Path, help="…/cldr-annotations-derived-full/annotationsDerived")
    parser.add_argument("--output", type=Path, default=EMOJI_NAMES)
    arguments = parser.parse_args(argv)
    names = join_names(arguments.annotations)
    keywords = choose_keywords(arguments.annotations, names)
    if arguments.derived:
        names |= join_names(arguments.derived)
    rows = [f"{korean}\t{english}\t{emoji}" for emoji, (korean, english) in names.items()]
    rows += [f"{keyword}\t{names[emoji][1]}\t" for keyword, emoji in keywords.items()]
    arguments.output.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(names)} names and {len(keywords)} keywords in {arguments.output}")


if __name__ == "__main__":
    main()
