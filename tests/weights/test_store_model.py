"""The store against a model of it: names, each with its versions, its aliases and its highest number."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.weights.loras import make_manifest, make_tensors
from weights.errors import LoraInUse, UnknownLora
from weights.store import Store

NAMES = st.sampled_from(["noto", "openmoji", "a-1"])
ALIASES = st.sampled_from(["stable", "canary"])
NUMBERS = st.integers(1, 6)


@dataclass
class Entry:
    newest: int = 0
    seeds: dict[int, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.entries: dict[str, Entry] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @property
    def store(self) -> Store:
        """A new object each time: all state is on the disk."""
        return Store(self.root / "loras")

    @rule(name=NAMES, seed=st.integers(0, 99), alias=st.none() | ALIASES)
    def add(self, name: str, seed: int, alias: str | None) -> None:
        entry = self.entries.setdefault(name, Entry())
        version = self.store.add(make_tensors(seed), make_manifest(name), alias=alias)
        entry.newest += 1
        assert version.version == entry.newest
        entry.seeds[entry.newest] = seed
        if alias:
            entry.aliases[alias] = entry.newest

    @rule(name=NAMES, number=NUMBERS, alias=ALIASES)
    def set_alias(self, name: str, number: int, alias: str) -> None:
        entry = self.entries.get(name, Entry())
        if number in entry.seeds:
            self.store.set_alias(alias, self.store.resolve(f"{name}@{number}"))
            entry.aliases[alias] = number
        else:
            with pytest.raises(UnknownLora):
                self.store.resolve(f"{name}@{number}")

    @rule(name=NAMES, alias=ALIASES)
    def remove_alias(self, name: str, alias: str) -> None:
        entry = self.entries.get(name, Entry())
        if alias in entry.aliases:
            self.store.remove_alias(name, alias)
            del entry.aliases[alias]
        else:
            with pytest.raises(UnknownLora):
                self.store.remove_alias(name, alias)

    @rule(name=NAMES, number=NUMBERS, force=st.booleans())
    def remove(self, name: str, number: int, force: bool) -> None:
        entry = self.entries.get(name, Entry())
        if number not in entry.seeds:
            with pytest.raises(UnknownLora):
                self.store.remove(name, number, force=force)
        elif number in entry.aliases.values() and not force:
            with pytest.raises(LoraInUse):
                self.store.remove(name, number)
        else:
            self.store.remove(name, number, force=force)
            del entry.seeds[number]
            entry.aliases = {alias: at for alias, at in entry.aliases.items() if at != number}

    @rule(name=NAMES)
    def resolve(self, name: str) -> None:
        entry = self.entries.get(name, Entry())
        if not entry.seeds:
            with pytest.raises(UnknownLora):
                self.store.resolve(name)
            return
        wanted = entry.aliases.get("stable", max(entry.seeds))
        version = self.store.resolve(name)
        assert version.version == wanted
        loaded = self.store.load(version)
        assert all(
            torch.equal(loaded[key], tensor) for key, tensor in make_tensors(entry.seeds[wanted]).items()
        )

    @invariant()
    def lists_the_same(self) -> None:
        wanted = sorted((name, number) for name, entry in self.entries.items() for number in entry.seeds)
        assert [(version.name, version.version) for version in self.store.versions()] == wanted
        assert self.store.aliases() == {n: e.aliases for n, e in self.entries.items() if e.aliases}
        table = self.store.table()
        assert table == {reference: str(self.store.resolve(reference)) for reference in table}
        assert table.keys() == {
            reference
            for name, entry in self.entries.items()
            if entry.seeds
            for reference in (name, *(f"{name}@{end}" for end in (*entry.seeds, *entry.aliases)))
        }


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestStore = StoreMachine.TestCase
