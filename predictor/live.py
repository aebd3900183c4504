"""The looks as they are now: moved aliases and new routes count within seconds, without a restart or a pause.

Reads the store and the routes' file again and again; what can't be used leaves the former looks in force.
Knows which versions are loaded, but loads none: a new version waits for the next start.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from predictor.contract import NO_LORA
from predictor.edge import log
from predictor.looks import UnusableLook, find_looks
from weights import routes
from weights.errors import WeightsError
from weights.store import Store

POLL_S = 2.0
"""Between two looks at the files. These are few and small, and content tells more than a file's date."""


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
        self.refresh()

    def leave_out(self, version: str) -> None:
        """Serve without a version that can't be loaded: its LoRA's name then means the newest other one.

        Raises:
            UnusableLook: the default look needs it.
        """
        self._loaded -= {version}
        self.current = find_looks(self._usable(self._store.table(), {}), self._wanted)
        self.refresh()

    async def watch(self) -> None:
        """Refresh without end."""
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Take what the files say now."""
        try:
            table = self._store.table()
            found = find_looks(self._usable(table, self.current.references), self._wanted)
            found = found.with_routes(routes.read(self._routes_file))
        except (UnusableLook, WeightsError, OSError) as error:
            self._tell(f"the former looks stay in force: {error}")
            return
        waiting = sorted(set(table.values()) - self._loaded)
        self._tell(f"not served before the next start: {', '.join(waiting)}" if waiting else "")
        if found != self.current:
            log("looks", {"emoji": found.route("emoji") or found.default, "routes": dict(found.routes)})
            self.current = found

    def _usable(self, table: Mapping[str, str], former: Mapping[str, str]) -> dict[str, str]:
        """The references to loaded versions; others keep their former meaning, or have none.

        A bare name falls back to the newest version that is loaded.
        """
        usable = {}
        for reference, exact in table.items():
            if exact in self._loaded:
                usable[reference] = exact
            elif reference in former:
                usable[reference] = former[reference]
            elif "@" not in reference:
                others = [int(v.rpartition("@")[2]) for v in self._loaded if v.startswith(f"{reference}@")]
                if others:
                    usable[reference] = f"{reference}@{max(others)}"
        return usable

    def _tell(self, text: str) -> None:
        """Warn once, not every time the files are read."""
        if text and text != self._told:
            log(text, level=logging.WARNING)
        self._told = text
