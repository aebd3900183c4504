"""Inner blocks that are used again: against the whole UNet, alone and in any company."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.denoiser import Denoiser
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.finite import Finite
from predictor.diffusion.sample import Sample
from predictor.errors import InvalidInput
from tests.predictor.diffusion.drawing import KINDS, alone, make_row

MIXES = ((), (("a@1", 1.0),), (("b@1", 0.5), ("a@1", 1.0)))


def step(diffuser: Diffuser, samples: list[Sample]) -> None:
    """One step of all, as the engine takes it: those alike in one call."""
    whole = [sample for sample in samples if not sample.outer_only]
    outer = [sample for sample in samples if sample.outer_only]
    for alike in (whole, outer):
        if alike:
            diffuser.step(alike)


@pytest.mark.parametrize("kind", KINDS)
def test_the_outer_layers_over_what_this_very_call_gave_are_the_whole_unet(load, kind):
    diffuser = load(kind)
    denoiser = diffuser._denoiser
    samples = diffuser.begin([make_row(loras=mix, seed=seed) for seed, mix in enumerate(MIXES * 2)])
    call = (
        torch.stack([sample.latents for sample in samples]),
        torch.tensor([900.0, 10.0, 500.0, 400.0, 0.0, 999.0]),
        torch.stack([sample.prompt_states for sample in samples]),
        [sample.row.loras for sample in samples],
    )
    with torch.inference_mode():
        denoiser._outer.watch(True)
        whole = denoiser._compute(*call)
        outer = denoiser._compute_outer(*call, denoiser._outer.take())
    torch.testing.assert_close(outer, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_layers_that_are_computed_at_every_step_are_exact(load, kind):
    diffuser = load(kind)
    exact = alone(diffuser, make_row(steps=6)).latents
    at_every_step, rough = (alone(diffuser, make_row(steps=6, inner_every=every)).latents for every in (1, 2))
    assert torch.equal(at_every_step, exact)
    assert not torch.allclose(rough, exact, atol=1e-4)


rows = st.builds(
    make_row,
    seed=st.integers(0, 3),
    steps=st.integers(1, 6),
    guidance=st.sampled_from([1.0, 3.0]),
    loras=st.sampled_from(MIXES),
    solver=st.sampled_from(["ddim", "unipc", "dpmpp_2m"]),
    inner_every=st.integers(1, 4),
)


@settings(deadline=None, max_examples=25)
@given(data=st.data(), wanted=st.lists(rows, min_size=1, max_size=7))
def test_a_row_gives_what_it_gives_alone_whoever_is_beside_it(load, data, wanted):
    """They join at any step, so their whole and outer steps fall together or apart."""
    diffuser = load("sd15")
    waiting, active, done = list(wanted), [], []
    while waiting or active:
        joining = data.draw(st.integers(0 if active else 1, 3), "join")
        active += diffuser.begin(waiting[:joining]) if waiting[:joining] else []
        waiting = waiting[joining:]
        if active:
            step(diffuser, active)
        done += [sample for sample in active if sample.finished]
        active = [sample for sample in active if not sample.finished]
    for sample in done:
        exact = alone(diffuser, sample.row).latents
        scale = max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(sample.latents, exact, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [2, 3])
def test_inner_layers_are_left_out_of_the_steps_between(load, kind, every):
    """And what they gave is kept for guided rows twice, for others once, for exact ones not at all."""
    diffuser = load(kind)
    computed: set[int] = set()
    [guided] = diffuser.begin([make_row(inner_every=every, steps=7)])
    middle = diffuser._denoiser._unet.mid_block
    hook = middle.register_forward_pre_hook(lambda *_: computed.add(guided.call))
    try:
        while not guided.finished:
            diffuser.step([guided])
    finally:
        hook.remove()
    assert computed == set(range(0, 7, every))
    [unguided, exact] = diffuser.begin([make_row(guidance=1.0, inner_every=every), make_row()])
    diffuser.step([unguided, exact])
    assert (sorted(guided.inner), sorted(unguided.inner), exact.inner) == ([False, True], [False], {})
    assert diffuser._denoiser._outer._inner is None  # nobody else holds it
    kept = unguided.inner[False]
    assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_a_failed_step_may_be_taken_again_in_parts(load, monkeypatch):
    diffuser = load("sd15")
    wanted = [make_row(seed=seed, steps=6, inner_every=2, solver="unipc") for seed in range(3)]
    samples = diffuser.begin(wanted)

    def fails(*arguments):
        raise RuntimeError("as late as it may come")

    while not samples[0].finished:
        with monkeypatch.context() as patch:
            patch.setattr(Finite, "of", fails)
            with pytest.raises(RuntimeError):
                diffuser.step(samples)
        diffuser.step(samples[:1])
        diffuser.step(samples[1:])
    for sample in samples:
        torch.testing.assert_close(sample.latents, alone(diffuser, sample.row).latents, rtol=0, atol=1e-4)


def test_in_half_precision_it_is_nearly_the_same(load, tiny_folders):
    rough = Diffuser.load(tiny_folders["sd15"], dtype="bfloat16")
    row = make_row(steps=6, guidance=1.0, inner_every=2)
    latents, wanted = alone(rough, row).latents, alone(load("sd15"), row).latents
    assert (latents - wanted).abs().mean() < 0.05 * wanted.abs().mean()


def test_fixed_buckets_are_for_exact_rows(load):
    fixed, free = load("sd15", 4), load("sd15")
    assert (fixed.skips_inner_layers, free.skips_inner_layers) == (False, True)
    free.check(make_row(inner_every=2))
    fixed.check(make_row())
    with pytest.raises(InvalidInput, match="approximation"):
        fixed.check(make_row(inner_every=2))


def test_a_unet_of_another_make_is_drawn_exactly_only(tiny_folders):
    config = dict(UNet2DConditionModel.load_config(tiny_folders["sd15"] / "unet"))
    for changes in (
        {"center_input_sample": True},
        {"down_block_types": ("AttnDownBlock2D", "DownBlock2D"), "mid_block_type": "UNetMidBlock2D"},
        {"up_block_types": ("UpBlock2D", "AttnUpBlock2D")},
    ):
        unet = UNet2DConditionModel.from_config({**config, **changes})
        assert not Denoiser(unet, 1, None).skips_inner_layers, changes
