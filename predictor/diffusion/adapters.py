"""LoRAs of many rows in one UNet call: which LoRAs there are, which lie on the device, which the rows use.

All are held in host memory; those used last also lie in slabs on the device, and others are copied there when
a row asks for one. The base weights are never touched. Nothing is global but the choice made by `select` for
the calls that follow, so an AdapterPool has one owner: the thread that runs the UNet; `prepare` and `names`
are for any thread. It doesn't know requests or where LoRAs are stored.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from predictor.diffusion.adapter import adaptable_modules, read_adapter
from predictor.diffusion.slab import Page, Slab

Choice = tuple[tuple[str, float], ...]  # a row's adapters with their weights; empty: the bare base
MAX_RESIDENT = 100


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """A LoRA that may be added: its pages [rank, width] for each slab that it reaches, on the CPU."""

    name: str
    pages: Mapping[Slab, torch.Tensor]


class AdapterPool:
    """The adapters of one UNet, by name; they come and go while it runs."""

    def __init__(self, unet: nn.Module, max_resident: int = MAX_RESIDENT) -> None:
        """At most `max_resident` adapters lie on the device, or as many as one call needs."""
        self._modules = adaptable_modules(unet)
        self._max_resident = max_resident
        self._slabs: tuple[Slab, ...] = ()
        self._slabs_lock = threading.Lock()
        self._adapters: dict[str, Prepared] = {}
        self._resident: OrderedDict[str, dict[Slab, list[int]]] = OrderedDict()  # used longest ago first
        self._selected: tuple[tuple[Choice, ...], int | None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters in the pool, in the order they came."""
        return tuple(self._adapters)

    @property
    def resident(self) -> tuple[str, ...]:
        """Those that lie on the device, the one used longest ago first."""
        return tuple(self._resident)

    @property
    def layout(self) -> tuple[tuple[int, Hashable], ...]:
        """Of the matrices that the next UNet calls will read, after `select`: equal where these calls read
        the same addresses, whatever is there.
        """
        layouts = ((place, slab.layout) for place, slab in enumerate(self._slabs))
        return tuple((place, layout) for place, layout in layouts if layout is not None)

    def prepare(self, name: str, tensors: Mapping[str, torch.Tensor]) -> Prepared:
        """Checks and packs an adapter in canonical layout, see `read_adapter`; the pool stays as it is.

        Raises IncompatibleLora, naming key and shapes.
        """
        adapter = read_adapter(name, tensors, self._modules)
        with self._slabs_lock:
            covered = {path for slab in self._slabs for path in slab.paths}
            new = {path: self._modules[path] for path in adapter.pairs if path not in covered}
            if new:
                self._slabs += (Slab(new),)
        packed = {}
        for slab in self._slabs:
            pairs = {path: adapter.pairs[path] for path in slab.paths if path in adapter.pairs}
            rank = max((len(a) for a, _ in pairs.values()), default=0)
            if rank:
                packed[slab] = slab.pack(pairs, rank)
        return Prepared(name, packed)

    def add(self, prepared: Prepared) -> None:
        """Adds an adapter. Raises ValueError if the name is taken: versions don't change."""
        if prepared.name in self._adapters:
            raise ValueError(f"LoRA {prepared.name} is already loaded")
        for slab in prepared.pages:
            slab.attach()
        if len(self._resident) < self._max_resident:
            self._load(prepared)
        self._adapters[prepared.name] = prepared

    def remove(self, name: str) -> None:
        """Drops an adapter. Raises KeyError."""
        del self._adapters[name]
        self._evict(name)
        self._forget_selection()

    def pages(self, choice: Choice) -> int:
        """The pages that a row needs: the ranks of its adapters. Raises KeyError for an unknown one."""
        return sum(
            max(map(len, self._adapters[name].pages.values()), default=0) for name, weight in choice if weight
        )

    def select(self, choices: Sequence[Choice], pages: int | None = None) -> None:
        """Sets the adapters and weights of every row of the next UNet calls.

        With `pages` each row has a product of its own, of so many pages, whatever the others have: at least
        `self.pages` of its choice. Without, rows share products and are padded to the one that needs most:
        cheapest where rows of one choice stand side by side. Raises KeyError for an unknown adapter.
        """
        wanted = tuple(choices), pages
        if wanted == self._selected:
            return
        rows = [[(name, weight) for name, weight in row if weight] for row in choices]
        # Runs of rows with one choice are cut to groups of one length, each with one product.
        length = 1 if pages is not None else math.gcd(*(len(list(run)) for _, run in groupby(rows)))
        groups = rows[:: max(1, length)]
        self._selected = None  # until all is done
        self._make_resident(dict.fromkeys(name for group in groups for name, _ in group))
        for slab in self._slabs:
            slab.choose([self._pages(slab, group) for group in groups], pages or 0)
        self._selected = wanted

    def _pages(self, slab: Slab, choice: Iterable[tuple[str, float]]) -> list[Page]:
        return [(number, weight) for name, weight in choice for number in self._resident[name].get(slab, ())]

    def _make_resident(self, names: Mapping[str, None]) -> None:
        """Copies adapters to the device; those used longest ago make room, but none of these."""
        for name in names:
            if name in self._resident:
                self._resident.move_to_end(name)
        for name in names:
            if name not in self._resident:
                prepared = self._adapters[name]
                while len(self._resident) >= self._max_resident:
                    oldest = next(iter(self._resident))
                    if oldest in names:
                        break
                    self._evict(oldest)
                self._load(prepared)

    def _load(self, prepared: Prepared) -> None:
        loaded: dict[Slab, list[int]] = {}
        try:
            for slab, pages in prepared.pages.items():
                loaded[slab] = slab.load(pages)
        except RuntimeError:  # such as no memory on the device
            for slab, numbers in loaded.items():
                slab.release(numbers)
            raise
        self._resident[prepared.name] = loaded

    def _evict(self, name: str) -> None:
        for slab, numbers in self._resident.pop(name, {}).items():
            slab.release(numbers)

    def _forget_selection(self) -> None:
        self._selected = None
        for slab in self._slabs:
            slab.choose(())
