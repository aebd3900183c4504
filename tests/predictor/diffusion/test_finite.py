"""Rows whose values are no numbers any more: they end alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.predictor.diffusion.drawing import finish, make_row


@pytest.mark.parametrize("behind", [False, True])
@settings(deadline=None, max_examples=8)
@given(data=st.data(), wrong=st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_a_row_that_is_no_number_any_more_ends_at_that_step(load, behind, data, wrong):
    """Or at the next, where the device computes behind; the others never notice."""
    diffuser = load("sd15")
    diffuser.computes_behind = behind
    rows = [make_row(seed=seed, steps=4, guidance=1.0 + seed % 2) for seed in range(3)]
    wanted = [sample.latents for sample in finish(diffuser, rows)]
    when = data.draw(st.lists(st.integers(0, 3 - behind) | st.none(), min_size=3, max_size=3))
    samples = diffuser.begin(rows)
    running = list(range(3))
    try:
        for call in range(4):
            for place in running:
                if when[place] == call:
                    samples[place].stack = samples[place].stack.clone()
                    samples[place].stack[0, 0, 0, 0] = wrong
            results = diffuser.step([samples[place] for place in running])
            ended = [place for place in running if when[place] == call - behind]
            for place, result in zip(running, results, strict=True):
                assert (type(result) is ArithmeticError) == (place in ended)
                assert place in ended or result is samples[place]
            running = [place for place in running if place not in ended]
            if not running:
                return
        for place in running:
            torch.testing.assert_close(samples[place].latents, wanted[place], rtol=0, atol=1e-4)
    finally:
        diffuser.computes_behind = False


def test_latents_that_are_no_numbers_make_no_picture(load):
    diffuser = load("sd15")
    samples = diffuser.begin([make_row(seed=seed) for seed in range(3)])
    whole = diffuser.decode(samples)
    for wrong in (torch.nan, torch.inf):
        samples[1].stack = torch.full_like(samples[1].stack, wrong)
        first, nothing, last = diffuser.decode(samples)
        assert type(nothing) is ArithmeticError
        for picture, wanted in ((first, whole[0]), (last, whole[2])):
            assert abs(picture.astype(int) - wanted.astype(int)).max() <= 1
