"""The fenced blocks of the pages in docs/: commands for the tests to run as they stand there."""

import re
from dataclasses import dataclass

from tests.cluster.cluster import ROOT

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    code: str
    reason: str | None
    """Why it is not run."""


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = [Block(page, m["language"], m["code"], m["reason"]) for m in BLOCK.finditer(text)]
    assert text.count("\n```") == 2 * len(found), page
    assert text.count("<!--") == sum(block.reason is not None for block in found), (
        f"{page}: a mark is misspelt"
    )
    return found
