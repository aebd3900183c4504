"""Weighted aliases: names that stand for several exact versions, each with a share in percent.

    {"emoji": {"notoemoji@1": 90, "openmoji@1": 10}}

is the one document of them all. Knows its JSON form and rules; does not know which versions there are, nor
how one of them is chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from weights.errors import InvalidRoute
from weights.manifest import NAME

Routes = Mapping[str, Mapping[str, int]]
"""Name to exact versions, each with its percent."""

MAX_BYTES = 1 << 20
PLAIN_BASE = "none"
VERSION = re.compile(rf"({NAME.pattern})@[1-9][0-9]{{0,8}}")


def read(file: Path) -> Routes:
    """The routes in a file, none where there is no file. Links are followed: a ConfigMap's file is one.

    Raises:
        InvalidRoute: it is no such document, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return from_json(stream.read(MAX_BYTES + 1), file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidRoute(f"cannot be read ({error.strerror})", file=file) from None


def from_json(data: bytes, file: Path) -> Routes:
    """Parses the stored form; raises InvalidRoute naming `file`."""
    if len(data) > MAX_BYTES:
        raise InvalidRoute(f"has more than {MAX_BYTES} bytes", file=file)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidRoute("is not JSON", file=file) from None
    if not isinstance(document, dict):
        raise InvalidRoute("is no object of names", file=file)
    for name, shares in document.items():
        check(name, shares, file)
    return document


def to_json(routes: Routes) -> bytes:
    """The stored form: UTF-8 JSON, names sorted, final newline."""
    document = {name: dict(routes[name]) for name in sorted(routes)}
    return (json.dumps(document, indent=2) + "\n").encode()


def check(name: str, shares: object, file: Path | None = None) -> None:
    """Whether this may be a route: a name, and percents of exact versions that make 100.

    Raises:
        InvalidRoute: says what is wrong.
    """

    def refuse(problem: str) -> InvalidRoute:
        return InvalidRoute(problem, file=file, key=name, remedy="Say, for one: notoemoji@1=90 openmoji@1=10")

    if not NAME.fullmatch(name):
        raise refuse("is no name for a route")
    if name == PLAIN_BASE:
        raise refuse("is no name for a route: to the predictor it is the plain base")
    if not isinstance(shares, dict):
        raise refuse("is no object of versions with their percents")
    for version, percent in shares.items():
        if not VERSION.fullmatch(version):
            raise refuse(f"{version[:80]!r} is no exact version")
        if type(percent) is not int or not 0 <= percent <= 100:
            raise refuse(f"the share of {version} is no whole percent from 0 to 100")
    total = sum(shares.values())
    if total != 100:
        raise refuse(f"the shares make {total} %, not 100")
