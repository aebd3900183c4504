"""Which LoRAs are on the device: the pool against a model of it."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from predictor.diffusion.adapters import AdapterPool
from tests.predictor.diffusion.small_net import inputs, make_lora, make_net, merged


class Pools(RuleBasedStateMachine):
    """A pool with room for 3 on the device, against a dictionary of LoRAs and a list of who was used when."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()
        self.pool = AdapterPool(self.net, max_resident=3)
        self.loras: dict[str, dict[str, torch.Tensor]] = {}
        self.used: list[str] = []  # on the device; longest ago first

    @rule(
        name=st.sampled_from("abcdef"),
        rank=st.integers(1, 20),
        paths=st.sets(st.sampled_from(["point", "linear", "time"]), min_size=1),
        seed=st.integers(0, 9),
    )
    def add(self, name: str, rank: int, paths: set[str], seed: int) -> None:
        tensors = make_lora(seed, rank, tuple(sorted(paths)))
        prepared = self.pool.prepare(name, tensors)
        if name in self.loras:
            with pytest.raises(ValueError, match="already loaded"):
                self.pool.add(prepared)
            return
        self.pool.add(prepared)
        self.loras[name] = tensors
        if len(self.used) < 3:
            self.used.append(name)

    @precondition(lambda self: self.loras)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.loras)))
        self.pool.remove(name)
        del self.loras[name]
        self.used = [other for other in self.used if other != name]

    @precondition(lambda self: self.loras)
    @rule(data=st.data())
    def draw(self, data: st.DataObject) -> None:
        names, weights = st.sampled_from(sorted(self.loras)), st.sampled_from([0.0, 0.5, 2.0])
        mixes = st.lists(st.dictionaries(names, weights, max_size=4), min_size=1, max_size=5)
        rows = [tuple(mix.items()) for mix in data.draw(mixes)]
        self.pool.select(rows)
        x, t = inputs(len(rows))
        output = self.net(x, t)
        for place, row in enumerate(rows):
            alone = merged(*row, loras=self.loras)(x[place : place + 1], t[place : place + 1])
            torch.testing.assert_close(output[place : place + 1], alone, rtol=1e-4, atol=1e-4)
        wanted = {name for row in rows for name, weight in row if weight}
        absent = len(wanted - set(self.used))
        rest = [name for name in self.used if name not in wanted]
        kept = rest[max(0, len(self.used) + absent - max(3, len(wanted))) :] if absent else rest
        assert set(self.pool.resident) == wanted | set(kept)
        assert list(self.pool.resident[: len(kept)]) == kept
        self.used = list(self.pool.resident)

    @rule(name=st.sampled_from("abcdef"))
    def ask_for_one_that_is_not_there(self, name: str) -> None:
        if name not in self.loras:
            with pytest.raises(KeyError):
                self.pool.select([((name, 1.0),)])

    @invariant()
    def pages_belong_to_one_lora_each(self) -> None:
        assert set(self.pool.names) == set(self.loras)
        assert list(self.pool.resident) == self.used
        for slab in self.pool._slabs:
            taken = [number for pages in self.pool._resident.values() for number in pages.get(slab, ())]
            everyone = sorted([*taken, *slab._free])
            assert everyone == list(range(1, slab.capacity + 1))
            assert slab.used == len(taken)
            assert not slab._pages[0].any()


Pools.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=20)

TestPools = Pools.TestCase
