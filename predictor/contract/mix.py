"""The text form of one or several LoRAs with weights: `notoemoji`, `notoemoji:0.7+openmoji@1:0.3`, `none`.

Knows the form and its limits; which LoRAs there are is not known here.
"""

import re

from predictor.contract.fields import NO_LORA
from predictor.errors import InvalidInput

Mix = tuple[tuple[str, float], ...]
"""LoRAs with the weights of their deltas, each LoRA once; empty: the plain base."""

MIX = "mix"
"""The label of every mix, wherever versions are counted."""

MAX_LORAS = 4
"""In one mix: each adds its rank to the cost of the picture."""

_WEIGHT = re.compile(r"[0-9](\.[0-9]{1,4})?", re.ASCII)


def read_mix(text: str, max_weight: float = 9.9999) -> Mix:
    """The LoRAs that a text names, in its order; one without a weight has 1.

    Args:
        text: not empty.
        max_weight: of each LoRA.

    Raises:
        InvalidInput: the text has not this form, names a LoRA twice, or mixes the plain base in.
    """
    if text == NO_LORA:
        return ()
    parts = text.split("+")
    if len(parts) > MAX_LORAS:
        raise InvalidInput("lora", f"must mix at most {MAX_LORAS} LoRAs, has {len(parts)}")
    mix: dict[str, float] = {}
    for part in parts:
        reference, colon, weight = part.partition(":")
        if not reference or (colon and not _WEIGHT.fullmatch(weight)):
            raise InvalidInput(
                "lora",
                f"must be like name or name:0.7+other:0.3, weights of at most 4 decimals, got {text[:80]!r}",
            )
        if reference in mix:
            raise InvalidInput("lora", f"{reference[:80]!r} is named twice")
        mix[reference] = float(weight) if colon else 1.0
        if mix[reference] > max_weight:
            raise InvalidInput("lora", f"a weight must be from 0 to {max_weight:g}, got {weight}")
    if NO_LORA in mix:
        raise InvalidInput("lora", f"{NO_LORA!r} is the plain base and stands alone")
    return tuple(mix.items())


def write_mix(mix: Mix) -> str:
    """The text of a mix; a single LoRA of weight 1 is its name alone. `read_mix` reads it."""
    if len(mix) == 1 and mix[0][1] == 1:
        return mix[0][0]
    parts = [f"{reference}:{weight:.4f}".rstrip("0").rstrip(".") for reference, weight in mix]
    return "+".join(parts) or NO_LORA


def version_label(text: str) -> str:
    """What pictures of an exact LoRA or mix are counted by: callers choose the text of a mix."""
    versions = [version for version, _ in read_mix(text)]
    return MIX if len(versions) > 1 else next(iter(versions), NO_LORA)
