"""The looks as they are now: what changes in the store counts within seconds, without a restart or a pause.

Reads the store and the routes' file again and again. A version that is new is loaded first and counts then;
one that is gone takes no new requests and is dropped when those under way have ended. What can't be used
leaves the former looks in force. Knows no tensors' shapes, and not how LoRAs are held.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from predictor.contract import NO_LORA
from predictor.edge import log
from predictor.looks.looks import UnusableLook, find_looks
from weights import routes
from weights.errors import WeightsError
from weights.store import Store

POLL_S = 2.0
"""Between two looks at the files. These are few and small, and content tells more than a file's date."""

MAX_WAIT = 32
"""Looks at the files after which a version that could not be loaded is tried again, at the latest."""


class Adapters(Protocol):
    """What loads and drops LoRAs while it draws: the engine."""

    async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Make a LoRA ready for rows. Raises WeightsError if it doesn't fit."""

    async def remove_adapter(self, name: str) -> None:
        """Drop a LoRA once the rows that use it have ended."""


@dataclass(slots=True)
class _Refusal:
    """Of a version that could not be loaded: an upload under way, a damaged file, no memory."""

    reason: str
    tries: int
    wait: int
    """Looks at the files before the next try."""


class LiveLooks:
    """`current` is what the next request gets."""

    def __init__(self, store: Store, wanted: str | None, routes_file: Path) -> None:
        """Read the store, all of whose versions will be loaded; routes that can't be used are left out.

        Args:
            store: may be empty.
            wanted: the default look, see `find_looks`.
            routes_file: need not exist; may be a link that is swapped, as in a ConfigMap's volume.

        Raises:
            WeightsError: the store is damaged.
            UnusableLook: the wanted look isn't there, or a LoRA's name is taken.
        """
        self._store = store
        self._routes_file = routes_file
        self._told = ""
        self.current = find_looks(store.table(), wanted)
        self._wanted = self.current.default or NO_LORA  # also where it was found without being wanted
        self._loaded = frozenset(self.current.references.values())
        self._refused: dict[str, _Refusal] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self.refresh()

    def leave_out(self, version: str, reason: Exception) -> None:
        """Serve without a version that can't be loaded: its LoRA's name then means the newest other one.

        Raises:
            UnusableLook: the default look needs it.
        """
        self._loaded -= {version}
        self.current = find_looks(self._usable(self._store.table(), {}), self._wanted)
        self._refuse(version, reason)
        self.refresh()

    async def watch(self, adapters: Adapters) -> None:
        """Follow the files without end."""
        try:
            while True:
                await asyncio.sleep(POLL_S)
                try:
                    await self.follow(adapters)
                except Exception as error:  # a defect, but no reason to be blind from now on
                    log("the store was not followed this time", level=logging.ERROR, exc_info=error)
        finally:
            for task in self._leaving.values():
                task.cancel()

    async def follow(self, adapters: Adapters) -> None:
        """Take what the files say now, with the versions that came and without those that went."""
        for version in await asyncio.to_thread(self._find_new):
            await self._load(version, adapters)
        if not await asyncio.to_thread(self.refresh):
            return  # what came is kept for when they can be used, else it would be loaded anew each time
        for version in self._loaded - set(self.current.references.values()):
            self._loaded -= {version}
            dropping = self._drop(version, adapters)
            self._leaving[version] = asyncio.create_task(dropping, name=f"drop {version}")

    def refresh(self) -> bool:
        """Take what the files say now of versions that are loaded; False where they can't be used."""
        try:
            found = find_looks(self._usable(self._store.table(), self.current.references), self._wanted)
            found = found.with_routes(routes.read(self._routes_file))
        except (UnusableLook, WeightsError, OSError) as error:
            text = f"the former looks stay in force: {error}"
            if text != self._told:  # once, not every time the files are read
                log(text, level=logging.WARNING)
            self._told = text
            return False
        self._told = ""
        if found != self.current:
            log("looks", {"emoji": found.route("emoji") or found.default, "routes": dict(found.routes)})
            self.current = found
        return True

    def _find_new(self) -> list[str]:
        """The versions that are to be loaded now."""
        try:
            there = set(self._store.table().values())
        except (WeightsError, OSError):
            return []  # `refresh` says so
        self._refused = {version: self._refused[version] for version in self._refused.keys() & there}
        return sorted(there - self._loaded - self._leaving.keys())

    async def _load(self, version: str, adapters: Adapters) -> None:
        refusal = self._refused.get(version)
        if refusal is not None and refusal.wait > 0:
            refusal.wait -= 1
            return
        try:
            tensors = await asyncio.to_thread(lambda: self._store.load(self._store.resolve(version)))
            await adapters.add_adapter(version, tensors)
        except (WeightsError, OSError, RuntimeError) as error:  # the last: such as no memory on the device
            self._refuse(version, error)
        else:
            self._refused.pop(version, None)
            self._loaded |= {version}
            log(f"{version} is served from now on")

    def _refuse(self, version: str, reason: Exception) -> None:
        former = self._refused.get(version)
        tries = former.tries + 1 if former else 1
        if former is None or former.reason != str(reason):
            log(f"{version} is not served: {reason}", level=logging.ERROR)
        self._refused[version] = _Refusal(str(reason), tries, min(2**tries, MAX_WAIT) - 1)

    async def _drop(self, version: str, adapters: Adapters) -> None:
        try:
            await adapters.remove_adapter(version)
            log(f"{version} is served no more")
        finally:
            del self._leaving[version]

    def _usable(self, table: Mapping[str, str], former: Mapping[str, str]) -> dict[str, str]:
        """The references to loaded versions; others keep their former meaning, or have none.

        A bare name falls back to the newest version that is loaded.
        """
        there = self._loaded.intersection(table.values())
        usable = {}
        for reference, exact in table.items():
            if exact in there:
                usable[reference] = exact
            elif former.get(reference) in there:
                usable[reference] = former[reference]
            elif "@" not in reference:
                others = [int(v.rpartition("@")[2]) for v in there if v.startswith(f"{reference}@")]
                if others:
                    usable[reference] = f"{reference}@{max(others)}"
        return usable
