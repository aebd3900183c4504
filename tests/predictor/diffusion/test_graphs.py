"""Steps replayed as CUDA graphs, of a pretended device that computes what was captured once more."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import _disable_current_modes

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.sample import Sample
from tests.predictor.diffusion.drawing import finish, make_loras, make_row
from tests.predictor.diffusion.pretended_cuda import PretendedCuda, pretended_cuda
from tests.tiny_models import make_lora

MOST = 5
CALLS = (1, 2, 3, 4, 6)  # of so many rows there are graphs then
MIXES = ((), (("a@1", 1.0),), (("b@1", 0.5),), (("b@1", 0.5), ("a@1", 0.5)))


@pytest.fixture(scope="module")
def captured(tiny_folders: dict[str, Path]) -> Iterator[tuple[Diffuser, PretendedCuda]]:
    with pytest.MonkeyPatch.context() as monkeypatch, pretended_cuda(monkeypatch) as device:
        diffuser = Diffuser.load(tiny_folders["emoji"], device="cuda")
        unet = diffuser._denoiser._unet
        for name, tensors in make_loras(unet).items():
            diffuser.add_adapter(name, tensors)
        diffuser.add_adapter("large@1", make_lora(unet, rank=40, seed=3))
        diffuser.capture_graphs(MOST)
        yield diffuser, device


def replays(device: PretendedCuda) -> int:
    return sum(graph.replays for graph in device.graphs)


def test_all_are_captured_beforehand(captured):
    _, device = captured
    assert len(device.graphs) == 3 * len(CALLS)  # without a LoRA, with one of the usual rank, with two


rows = st.builds(
    make_row,
    loras=st.sampled_from(MIXES),
    guidance=st.sampled_from([1.0, 3.0]),
    seed=st.integers(0, 3),
    steps=st.integers(2, 4),
)


@settings(max_examples=8, deadline=None)
@given(batch=st.lists(rows, min_size=1, max_size=3))
def test_a_replay_draws_the_same_whatever_was_drawn_before(captured, load, batch):
    diffuser, device = captured
    before, graphs = replays(device), len(device.graphs)
    drawn = diffuser.decode(finish(diffuser, batch))
    assert replays(device) == before + max(row.steps for row in batch)
    assert len(device.graphs) == graphs
    with _disable_current_modes():
        expected = load("emoji").decode(finish(load("emoji"), batch))
    for picture, wanted in zip(drawn, expected, strict=True):
        assert np.abs(picture.astype(int) - wanted.astype(int)).max() <= 1


def test_the_host_never_waits_for_a_replay(captured):
    diffuser, device = captured
    device.waits.clear()
    samples = diffuser.begin([make_row(loras=mix, seed=9) for mix in MIXES[:3]])
    for _ in range(3):
        assert all(isinstance(answer, Sample) for answer in diffuser.step(samples))
    assert device.waits == []


def test_a_lora_that_comes_later_is_replayed_as_well(captured):
    diffuser, device = captured
    before = replays(device)
    unet = diffuser._denoiser._unet
    diffuser.add_adapter("late@1", make_lora(unet, rank=4, seed=4))
    finish(diffuser, [make_row(loras=(("late@1", 1.0),), steps=3)])
    diffuser.remove_adapter("late@1")
    assert replays(device) == before + 3


@pytest.mark.parametrize(
    "batch",
    [
        [make_row(seed=seed) for seed in range(CALLS[-1])],  # with guidance twice as many in a call
        [make_row(height=32)],
        [make_row(loras=(("large@1", 1.0),))],
        [make_row(inner_every=2)],
    ],
    ids=["too many rows", "another size", "a LoRA of a large rank", "inner layers are kept"],
)
def test_what_no_graph_fits_is_computed_as_it_comes(captured, batch):
    diffuser, device = captured
    before, graphs = replays(device), len(device.graphs)
    assert all(isinstance(answer, Sample) for answer in diffuser.step(diffuser.begin(batch)))
    assert (replays(device), len(device.graphs)) == (before, graphs)
