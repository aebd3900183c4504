"""Every row of a batch gets its own LoRAs; they come and go."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.adapters import AdapterPool
from tests.predictor.diffusion.small_net import LORAS, inputs, make_lora, make_net, make_pool, merged

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
