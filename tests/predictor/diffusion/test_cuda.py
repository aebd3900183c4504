"""The diffuser on a CUDA device, a pretended one: what it draws, and where the host waits for it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils._python_dispatch import _disable_current_modes

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.sample import Sample
from tests.predictor.diffusion.drawing import KINDS, finish, make_loras, make_row
from tests.predictor.diffusion.pretended_cuda import PretendedCuda, pretended_cuda

ROWS = [
    make_row(),
    make_row(loras=(("a@1", 1.0),), seed=6),
    make_row(loras=(("b@1", 0.5), ("a@1", 0.5)), guidance=1.0),
    make_row(solver="euler_ancestral", steps=7, prompt="a dog"),
]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedCuda]:
    with pretended_cuda(monkeypatch) as device:
        yield device


def load_there(folder: Path) -> Diffuser:
    diffuser = Diffuser.load(folder, device="cuda")
    for name, tensors in make_loras(diffuser._denoiser._unet).items():
        diffuser.add_adapter(name, tensors)
    return diffuser


@pytest.mark.parametrize("kind", KINDS)
def test_it_draws_as_on_the_cpu(kind, load, tiny_folders, cuda):
    with _disable_current_modes():
        expected = load(kind).decode(finish(load(kind), ROWS))
    diffuser = load_there(tiny_folders[kind])
    drawn = diffuser.decode(finish(diffuser, ROWS))
    assert all(map(np.array_equal, drawn, expected))


def test_the_host_waits_for_the_device_when_it_takes_a_picture_and_never_before(tiny_folders, cuda):
    diffuser = load_there(tiny_folders["emoji"])
    cuda.waits.clear()
    samples = diffuser.begin(ROWS)
    diffuser.step(samples)
    diffuser.remove_adapter("b@1")
    joining = diffuser.begin([make_row(seed=8, prompt="a new one", inner_every=2)])
    diffuser.step([*samples[:2], *joining])
    diffuser.step(joining)
    assert cuda.waits == []
    diffuser.decode(samples[:2])
    assert len(cuda.waits) == 2  # the pixels, and whether they are numbers


def test_a_row_that_is_no_number_any_more_ends_a_step_later_and_alone(tiny_folders, cuda):
    diffuser = load_there(tiny_folders["sd15"])
    samples = diffuser.begin(ROWS[:3])
    samples[1].stack.fill_(float("nan"))
    assert all(isinstance(answer, Sample) for answer in diffuser.step(samples))
    answers = diffuser.step(samples)
    assert [isinstance(answer, ArithmeticError) for answer in answers] == [False, True, False]
