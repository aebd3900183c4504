import copy
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import nn

from predictor.diffusion.adapters import AdapterPool
from weights.errors import IncompatibleLora


class Net(nn.Module):
    """The two kinds of module a LoRA may sit on, and one it may not."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, 5, 1)
        self.wide = nn.Conv2d(3, 5, 3, padding=1)
        self.linear = nn.Linear(5, 4)
        self.time = nn.Linear(2, 4)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x: [N, 3, H, W], t: [N, 2] → [N, H * W, 4]."""
        tokens = (self.point(x) + self.wide(x)).flatten(2).transpose(1, 2)
        return self.linear(tokens) + self.time(t)[:, None]


def make_net() -> Net:
    torch.manual_seed(0)
    return Net().requires_grad_(False)


def make_lora(
    seed: int, rank: int, paths: tuple[str, ...] = ("point", "linear", "time")
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    net, tensors = Net(), {}
    for path in paths:
        d_out, d_in = net.get_submodule(path).weight.shape[:2]
        tensors[f"unet.{path}.lora_A.weight"] = torch.randn(rank, d_in, generator=generator)
        tensors[f"unet.{path}.lora_B.weight"] = torch.randn(d_out, rank, generator=generator)
    return tensors


LORAS = {
    "a@1": make_lora(1, rank=2),
    "b@1": make_lora(2, rank=4, paths=("linear",)),
    "c@2": make_lora(3, rank=1, paths=("point", "time")),
}


def merged(*mix: tuple[str, float], loras: Mapping[str, dict[str, torch.Tensor]] = LORAS) -> Net:
    """The net with W + the sum of weight * B @ A in its weights: what LoRAs mean."""
    net = make_net()
    for name, factor in mix:
        for key, a in loras[name].items():
            if ".lora_A." in key:
                weight = net.get_submodule(key.split(".")[1]).weight
                b = loras[name][key.replace("lora_A", "lora_B")]
                weight += factor * (b @ a).view(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return net


def make_pool() -> tuple[Net, AdapterPool]:
    net = make_net()
    pool = AdapterPool(net)
    for name, tensors in LORAS.items():
        pool.add(pool.prepare(name, tensors))
    return net, pool


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(rows, 3, 2, 3, generator=generator), torch.randn(rows, 2, generator=generator)


mixes = st.dictionaries(st.sampled_from(list(LORAS)), st.sampled_from([0.0, 0.5, 1.0, -1.5])).map(
    lambda mix: tuple(mix.items())
)


@settings(deadline=None)
@given(st.lists(mixes, min_size=1, max_size=6), st.booleans())
def test_each_row_gets_its_own_mix(rows, channels_last):
    net, pool = make_pool()
    x, t = inputs(len(rows))
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    pool.select(rows)
    output = net(x, t)
    for place, mix in enumerate(rows):
        alone = merged(*mix)(x[place : place + 1], t[place : place + 1])
        torch.testing.assert_close(output[place : place + 1], alone, rtol=1e-5, atol=1e-5)


def test_without_a_lora_the_output_is_the_base_models_bit_for_bit():
    net, pool = make_pool()
    x, t = inputs(2)
    pool.select([(), (("a@1", 0.0),)])
    assert torch.equal(net(x, t), make_net()(x, t))


def test_the_weights_stay_as_they_were():
    net, pool = make_pool()
    before = copy.deepcopy(net.state_dict())
    pool.select([(("a@1", 1.0),)])
    net(*inputs(1))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(list(LORAS)), min_size=1, max_size=12))
def test_adapters_come_and_go(names):
    """Each name in turn is added, or removed if it is there; those there work."""
    net = make_net()
    pool = AdapterPool(net)
    x, t = inputs(1)
    present: set[str] = set()
    for name in names:
        if name in present:
            pool.remove(name)
        else:
            pool.add(pool.prepare(name, LORAS[name]))
        present ^= {name}
        assert set(pool.names) == present
        for there in present:
            pool.select([((there, 1.0),)])
            torch.testing.assert_close(net(x, t), merged((there, 1.0))(x, t), rtol=1e-5, atol=1e-5)
    assert len(net.linear._forward_hooks) <= 1  # one hook a module, however often adapters come


def test_a_removed_adapter_is_unknown():
    _, pool = make_pool()
    pool.remove("a@1")
    with pytest.raises(KeyError):
        pool.select([(("a@1", 1.0),)])


def test_a_selection_does_not_outlive_its_adapter():
    net, pool = make_pool()
    pool.select([(("a@1", 1.0),)])
    pool.remove("a@1")
    assert torch.equal(net(*inputs(1)), make_net()(*inputs(1)))


def test_the_pool_takes_the_models_dtype():
    net = make_net().to(torch.bfloat16)
    pool = AdapterPool(net)
    pool.add(pool.prepare("a@1", LORAS["a@1"]))
    pool.select([(("a@1", 1.0),), ()])
    x, t = (tensor.to(torch.bfloat16) for tensor in inputs(2))
    assert net(x, t).dtype == torch.bfloat16


def test_versions_do_not_change():
    _, pool = make_pool()
    with pytest.raises(ValueError, match="already loaded"):
        pool.add(pool.prepare("a@1", LORAS["b@1"]))


A, B = "unet.linear.lora_A.weight", "unet.linear.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "key", "says"),
    [
        ({"unet.nowhere.lora_A.weight": torch.zeros(2, 5)}, "unet.nowhere.lora_A.weight", "no such"),
        ({"unet.wide.lora_A.weight": torch.zeros(2, 3)}, "unet.wide.lora_A.weight", "no such"),
        ({"unet.linear.lora_mid.weight": torch.zeros(2, 5)}, "unet.linear.lora_mid.weight", "canonical"),
        ({"text_encoder.linear.lora_A.weight": torch.zeros(2, 5)}, "text_encoder.linear", "canonical"),
        ({A: torch.zeros(2, 6), B: torch.zeros(4, 2)}, A, r"[2, 6] where the UNet needs [r, 5]"),
        ({A: torch.zeros(2, 5), B: torch.zeros(5, 2)}, B, r"[5, 2] where the UNet needs [4, r]"),
        ({A: torch.zeros(2, 5, 1, 1), B: torch.zeros(4, 2)}, A, "[2, 5, 1, 1]"),
        ({A: torch.zeros(2, 5), B: torch.zeros(4, 3)}, "unet.linear", "don't match"),
        ({A: torch.zeros(2, 5)}, "unet.linear", "don't match"),
        ({A: torch.full((2, 5), torch.nan), B: torch.zeros(4, 2)}, A, "no numbers"),
        ({A: torch.zeros(2, 5), B: torch.full((4, 2), torch.inf)}, B, "no numbers"),
    ],
)
def test_a_lora_that_does_not_fit_is_named_by_key_and_shapes(tensors, key, says):
    net, pool = make_pool()
    with pytest.raises(IncompatibleLora) as caught:
        pool.prepare("d@1", tensors)
    assert key in str(caught.value)
    assert says in str(caught.value)
    assert "d@1" not in pool.names
    assert torch.equal(net(*inputs(1)), make_net()(*inputs(1)))


def test_values_must_be_numbers_in_the_models_dtype():
    pool = AdapterPool(make_net().half())
    with pytest.raises(IncompatibleLora, match=r"no numbers in torch\.float16"):
        pool.prepare("d@1", {A: torch.full((2, 5), 1e6), B: torch.zeros(4, 2)})


def test_what_is_prepared_counts_when_it_is_added():
    net, pool = make_pool()
    prepared = pool.prepare("wider@1", make_lora(5, rank=3))
    pool.select([(("a@1", 1.0),)])
    x, t = inputs(1)
    before = net(x, t)
    assert "wider@1" not in pool.names
    pool.add(prepared)
    assert torch.equal(net(x, t), before), "the calls under way keep their choice"
    assert "wider@1" in pool.names


def test_rows_of_one_choice_share_a_product():
    _, pool = make_pool()
    [slab, *_] = pool._slabs
    for rows, groups in [("aaaa", 1), ("aabb", 2), ("aaaabb", 3), ("aab", 3), ("abab", 4)]:
        pool.select([((f"{name}@1", 1.0),) for name in rows])
        assert slab._shape is not None
        assert slab._shape[0] == groups, rows


def test_the_room_is_doubled_and_then_stays_where_it_is():
    pool = AdapterPool(make_net())
    places = set()
    for number in range(100):
        pool.add(pool.prepare(f"n@{number}", make_lora(number, rank=4)))
        pool.select([((f"n@{number}", 1.0),), ()])
        [slab] = pool._slabs
        places.add((slab._pages.data_ptr(), slab._chosen.data_ptr()))
    assert len(pool.resident) == 100
    assert len(places) <= 6  # room for 16, 32 … 512 pages


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
