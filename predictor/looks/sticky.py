"""Which version of a weighted alias a key gets: the same one each time, on every replica, with no memory.

Weighted rendezvous hashing: each version draws a number for the key, larger the larger its share, and the
largest wins. When one share grows, keys move to that version, and no others move.
"""

import hashlib
import math
from collections.abc import Mapping

_BITS = 52  # so that the numbers below lie within (0, 1), both ends out, in floating point too


def choose(name: str, shares: Mapping[str, int], key: str) -> str:
    """The version for a key.

    Args:
        name: of the alias; a key's luck under one name says nothing of another.
        shares: percents of the versions; at least one is above 0.
        key: any text.
    """
    return max(shares, key=lambda version: (shares[version] / _exponential(name, version, key), version))


def _exponential(*words: str) -> float:
    """An exponentially distributed number that depends on the words alone."""
    text = "\0".join(words).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return -math.log(((int.from_bytes(digest, "little") >> (64 - _BITS)) + 0.5) / 2**_BITS)
