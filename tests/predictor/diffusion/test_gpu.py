"""The diffuser on a real CUDA device: `make test-gpu`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from tests.predictor.diffusion.drawing import finish, make_loras, make_row

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

ROWS = [
    make_row(),
    make_row(loras=(("a@1", 1.0),), seed=6),
    make_row(loras=(("b@1", 0.5), ("a@1", 0.5)), guidance=1.0),
    make_row(solver="euler_ancestral", steps=7, prompt="a dog"),
]


def load_there(folder: Path, dtype: str) -> Diffuser:
    diffuser = Diffuser.load(folder, device="cuda", dtype=dtype)
    for name, tensors in make_loras(diffuser._denoiser._unet).items():
        diffuser.add_adapter(name, tensors)
    return diffuser


@contextmanager
def refusing_to_wait() -> Iterator[None]:
    """Whatever makes the host wait for the device raises RuntimeError."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pictures(diffuser: Diffuser, rows: list[Row]) -> np.ndarray:
    return np.stack(diffuser.decode(finish(diffuser, rows))).astype(int)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("dtype", "mean"), [("float32", 1.0), ("float16", 3.0), ("bfloat16", 12.0)])
def test_it_draws_as_on_the_cpu(load, tiny_folders, dtype, mean, graphs):
    diffuser = load_there(tiny_folders["sd15"], dtype)
    if graphs:
        diffuser.capture_graphs(2 * len(ROWS))
    expected = pictures(load("sd15"), ROWS)
    for _ in range(3):  # a graph must not remember
        assert np.abs(pictures(diffuser, ROWS) - expected).mean() <= mean


@pytest.mark.parametrize("graphs", [False, True])
def test_no_step_makes_the_host_wait(tiny_folders, graphs):
    diffuser = load_there(tiny_folders["emoji"], "float16")
    if graphs:
        diffuser.capture_graphs(2 * len(ROWS))
    finish(diffuser, ROWS)  # libraries take their memory at the first call
    with refusing_to_wait():
        samples = diffuser.begin([*ROWS[:3], make_row(prompt="a new one")])
        assert all(isinstance(answer, Sample) for answer in diffuser.step(samples))


def test_a_row_that_is_no_number_any_more_ends_a_step_later_and_alone(tiny_folders):
    diffuser = load_there(tiny_folders["sd15"], "float16")
    samples = diffuser.begin(ROWS[:3])
    samples[1].stack.fill_(float("nan"))
    assert all(isinstance(answer, Sample) for answer in diffuser.step(samples))
    answers = diffuser.step(samples)
    assert [isinstance(answer, ArithmeticError) for answer in answers] == [False, True, False]
