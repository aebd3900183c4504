"""The fenced blocks of the pages in docs/: commands for the tests to run as they stand there."""

import re
from dataclasses import dataclass

from tests.cluster.cluster import ROOT

BLOCK = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>.+?)|(?P<standard>Standard mode)) -->\n)?"
    r"```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    code: str
    reason: str | None
    """Why it is not run."""
    standard: bool
    """Whether it is for Standard mode alone."""


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = [
        Block(page, m["language"], m["code"], m["reason"], m["standard"] is not None)
        for m in BLOCK.finditer(text)
    ]
    assert text.count("\n```") == 2 * len(found), page
    marked = sum(block.reason is not None or block.standard for block in found)
    assert text.count("<!--") == marked, f"{page}: a mark is misspelt"
    return found
