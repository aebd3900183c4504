"""The words of a plan: what is wanted, and the next step towards it.

A plan is a pure function from a state and a goal to one step. Whoever does a step reads the state anew before
the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
"""An object of the API server, as it came: not to be changed, `copy.deepcopy` first."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A look beside the one that is served, at a share of the traffic."""

    look: str
    percent: int


@dataclass(frozen=True, slots=True)
class Promote:
    """The look of the canary for all the traffic, and no canary."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """No canary; without one, the look before the last promotion."""

    only: str | None = None
    """Only where this is the look that is being rolled out, or was the last; and only to another one."""


Goal = Canary | Promote | Rollback


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `body` carries the resourceVersion that was read, so a write in between makes it fail."""

    verb: Literal["create", "replace", "delete"]
    body: Json
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to write: the controllers are at work. `text` says what is missing."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The goal is reached, and the traffic is where it should be."""

    text: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The goal does not fit the state; nothing is to be written."""

    text: str


Step = Change | Wait | Done | Refuse


Role = Literal["stable", "canary", "old"]


@dataclass(frozen=True, slots=True)
class Version:
    """One look as it is served now: a Knative revision, or an InferenceService in Standard mode."""

    role: Role
    name: str
    look: str | None
    """None: no look is asked for, the predictor takes its default."""
    percent: int
    ready: bool
    ready_pods: int
    pods: tuple[Json, ...]
    problem: str | None
    """Why it isn't ready, in one line."""


def shown(look: str | None) -> str:
    """A look in a sentence."""
    return "the default look" if look is None else look
