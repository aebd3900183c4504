"""The looks a server offers: what every reference to a LoRA of the store means.

Knows names, versions and shares, no tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from predictor.contract import NO_LORA, Mix, read_mix
from predictor.errors import UnknownModel
from predictor.looks.sticky import choose
from weights.routes import Routes

EMOJI = "emoji"
"""The model with the default look."""

USUAL_LOOK = "notoemoji"


class UnusableLook(ValueError):
    """The store, the routes and the settings don't fit together; the message says how."""


@dataclass(frozen=True, slots=True)
class Looks:
    """`references` maps "notoemoji", "notoemoji@1" and "notoemoji@stable" to "notoemoji@1"."""

    references: Mapping[str, str]
    default: str | None
    """What the model `emoji` stands for without a route, one of the references; None: the plain base."""
    routes: Routes = field(default_factory=dict)
    """Weighted aliases; one with the name of a reference takes its place."""

    @property
    def models(self) -> list[str]:
        """The names of all models."""
        return list(dict.fromkeys([EMOJI, *self.references, *self.routes]))

    def mix(self, text: str, key: str) -> Mix:
        """The exact versions that a text means, see `read_mix`; weights add up where two names mean the same.

        Raises:
            InvalidInput: the text is no such thing.
            UnknownModel: there is no such LoRA, version or route.
        """
        weights: dict[str, float] = {}
        for reference, weight in read_mix(text):
            version = self.resolve(reference, key)
            weights[version] = round(weights.get(version, 0.0) + weight, 4)
        return tuple(weights.items())

    def resolve(self, reference: str, key: str) -> str:
        """The exact version that a reference means.

        Args:
            reference: a name, name@version, name@alias or the name of a route.
            key: decides where the reference has a route, for the same version each time.

        Raises:
            UnknownModel: there is no such LoRA, version or route.
        """
        if reference in self.routes:
            return choose(reference, self.routes[reference], key)
        try:
            return self.references[reference]
        except KeyError:
            known = ", ".join([*self.references, *self.routes, NO_LORA])
            raise UnknownModel(f"lora: there is no {reference[:80]!r}; known: {known[:1000]}") from None

    def reference(self, model: str) -> str:
        """What a model stands for, to be resolved."""
        return model if model != EMOJI or EMOJI in self.routes else self.default or NO_LORA

    def route(self, model: str) -> Mapping[str, int]:
        """The versions that draw for a model with their percents, if it has a route."""
        return self.routes.get(self.reference(model), {})

    def versions(self, model: str) -> list[str]:
        """All version numbers of a model's LoRA, oldest first; none for the plain base."""
        name = ((self.default or NO_LORA) if model == EMOJI else model).partition("@")[0]
        exact = {version for version in self.references.values() if version.startswith(f"{name}@")}
        return sorted((version.rpartition("@")[2] for version in exact), key=int)

    def with_routes(self, routes: Routes) -> "Looks":
        """The same looks with other routes.

        Raises:
            UnusableLook: a route names a version that isn't there.
        """
        for name, shares in routes.items():
            missing = sorted(shares.keys() - set(self.references.values()))
            if missing:
                raise UnusableLook(f"route {name!r}: {', '.join(missing)} is not served here")
        return replace(self, routes=routes)


def find_looks(references: Mapping[str, str], wanted: str | None) -> Looks:
    """The looks of a store.

    Args:
        references: with the exact versions that they mean.
        wanted: the default look as a reference; "none": the plain base; None: the usual look if there is one.

    Raises:
        UnusableLook: the wanted look isn't there, or a LoRA's name is taken.
    """
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
