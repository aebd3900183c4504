"""The looks a server offers: every reference to a LoRA of the store, resolved once at start-up.

An alias that is moved later counts from the next start. Knows names and versions, no tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from predictor.contract import NO_LORA
from predictor.errors import UnknownModel
from weights.store import Store

EMOJI = "emoji"
"""The model with the default look."""

USUAL_LOOK = "notoemoji"


class UnusableLook(ValueError):
    """The store and the settings don't fit together; the message says how."""


@dataclass(frozen=True, slots=True)
class Looks:
    """`references` maps "notoemoji", "notoemoji@1" and "notoemoji@stable" to "notoemoji@1"."""

    references: Mapping[str, str]
    default: str | None
    """What the model `emoji` stands for, one of the references; None: the plain base."""

    def resolve(self, reference: str) -> str | None:
        """The exact version, or None for "none", the plain base.

        Raises:
            UnknownModel: there is no such LoRA or version.
        """
        if reference == NO_LORA:
            return None
        try:
            return self.references[reference]
        except KeyError:
            known = ", ".join([*self.references, NO_LORA])
            raise UnknownModel(f"lora: there is no {reference[:80]!r}; known: {known[:1000]}") from None

    def versions(self, reference: str | None) -> list[str]:
        """All version numbers of the name in a reference, oldest first; none for the plain base."""
        if reference is None:
            return []
        name = reference.partition("@")[0]
        exact = {version for version in self.references.values() if version.startswith(f"{name}@")}
        return sorted((version.rpartition("@")[2] for version in exact), key=int)


def read_looks(store: Store, wanted: str | None) -> Looks:
    """Resolve all references of a store.

    Args:
        store: may be empty.
        wanted: the default look as a reference; "none": the plain base; None: the usual look if there is one.

    Raises:
        UnusableLook: the wanted look isn't there, or a LoRA's name is taken.
    """
    names = _references(store)
    references = {reference: str(store.resolve(reference)) for reference in names}
    for taken in (EMOJI, NO_LORA):
        if taken in references:
            raise UnusableLook(f"a LoRA can't be named {taken!r}: that name has a meaning of its own here")
    if wanted is None:
        default = USUAL_LOOK if USUAL_LOOK in references else None
    elif wanted == NO_LORA:
        default = None
    elif wanted in references:
        default = wanted
    else:
        raise UnusableLook(f"default look {wanted!r}: the store has {', '.join(references) or 'no LoRA'}")
    return Looks(references, default)


def _references(store: Store) -> Sequence[str]:
    """Names first, then exact versions and aliases."""
    exact = store.references()
    names = sorted({name for name, _ in exact})
    versions = [f"{name}@{number}" for name, number in exact]
    aliases = [f"{name}@{alias}" for name, targets in store.aliases().items() for alias in targets]
    return [*names, *versions, *sorted(aliases)]
