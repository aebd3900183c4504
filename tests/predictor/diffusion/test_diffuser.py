"""The diffuser as the engine and the server see it: rows in any company, prompts, LoRAs, refusals."""

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from predictor.diffusion.diffuser import Defaults, Diffuser
from predictor.diffusion.solvers import SOLVERS
from predictor.errors import InvalidInput, UnknownModel
from tests.predictor.diffusion.drawing import KINDS, alone, finish, make_row, tolerance
from tests.tiny_models import make_lora


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixed_batch_gives_what_each_row_gives_alone(load, kind):
    diffuser = load(kind)
    both = (("b@1", 1.0), ("a@1", 0.5))
    rows = [
        make_row(),
        make_row(prompt="red dog", seed=6, steps=7, solver="dpmpp_2m", loras=(("a@1", 1.0),)),
        make_row(prompt="red dog", seed=6, steps=7, solver="unipc", loras=(("a@1", 0.2),)),
        make_row(prompt="owl", negative_prompt="cat", steps=3, guidance=1.0, loras=both, solver="euler"),
        make_row(prompt="owl", guidance=9.0, solver="deis", steps=2),
        make_row(prompt="", seed=2**40, solver="euler_ancestral", loras=(("b@1", 1.0),), guidance=0.0),
        make_row(solver="pndm", steps=5),
    ]
    for row, together in zip(rows, finish(diffuser, rows), strict=True):
        torch.testing.assert_close(
            together.latents, alone(diffuser, row).latents, rtol=0, atol=tolerance(kind, row.solver)
        )


def test_rows_may_join_a_batch_at_any_step(load):
    diffuser = load("sd15")
    rows = [make_row(seed=seed, steps=4, solver="dpmpp_2m") for seed in range(3)]
    samples = []
    for row in rows:
        samples += diffuser.begin([row])
        diffuser.step([sample for sample in samples if not sample.finished])
    while running := [sample for sample in samples if not sample.finished]:
        diffuser.step(running)
    for row, sample in zip(rows, samples, strict=True):
        torch.testing.assert_close(sample.latents, alone(diffuser, row).latents, rtol=0, atol=1e-4)


def test_a_row_without_guidance_costs_one_row_of_the_unet(load):
    diffuser = load("sd15")
    seen = []
    hook = diffuser._denoiser._unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        finish(diffuser, [make_row(steps=1, guidance=guidance) for guidance in (0.0, 1.0, 1.1)])
    finally:
        hook.remove()
    assert seen == [4]


def test_prompts_may_be_encoded_ahead(load):
    diffuser = load("sd15")
    rows = [make_row(prompt="dawn"), make_row(prompt="dusk", guidance=1.0, negative_prompt="day")]
    assert [diffuser.is_encoded(row) for row in rows] == [False, False]
    diffuser.encode(rows)
    assert [diffuser.is_encoded(row) for row in rows] == [True, True]
    seen = []
    hook = diffuser._prompts._text_encoder.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        diffuser.begin(rows)
    finally:
        hook.remove()
    assert seen == []
    assert not diffuser.is_encoded(make_row(prompt="dusk", negative_prompt="day"))  # now it is needed


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_projected_once_whoever_begins_beside_them(load, kind):
    diffuser = load(kind)
    rows = [
        make_row(loras=(("a@1", 1.0),)),
        make_row(loras=(("b@1", 0.5),), guidance=1.0),
        make_row(negative_prompt="dog"),
    ]
    apart = [diffuser.begin([row])[0] for row in rows]
    diffuser._denoiser._projections.clear()
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        for path, module in diffuser._denoiser._unet.named_modules():
            if path.endswith(("attn2.to_k", "attn2.to_v")):
                patch.setattr(module, "forward", lambda x, of=module.forward: calls.append(x) or of(x))
        together = diffuser.begin(rows)
        assert calls
        calls.clear()
        diffuser.step(together)
        assert not calls
    for one, other in zip(apart, together, strict=True):
        assert torch.equal(one.prompt_states, other.prompt_states)
        assert (one.negative_states is None) == (one.row.guidance == 1)
        if one.negative_states is not None:
            assert torch.equal(one.negative_states, other.negative_states)


def test_bfloat16_draws_nearly_the_same(load, tiny_folders):
    exact = load("sd15")
    rough = Diffuser.load(tiny_folders["sd15"], dtype="bfloat16")
    row = make_row(guidance=1.0)
    sample, wanted = alone(rough, row), alone(exact, row)
    assert sample.latents.dtype == torch.float32
    assert (sample.latents - wanted.latents).abs().mean() < 0.05 * wanted.latents.abs().mean()
    assert rough.decode([sample])[0].dtype == np.uint8


def test_a_lora_may_leave(load):
    diffuser = load("sd2")
    diffuser.add_adapter("c@1", make_lora(diffuser._denoiser._unet, seed=7))
    assert diffuser.adapters == ("a@1", "b@1", "c@1")
    diffuser.remove_adapter("c@1")
    with pytest.raises(UnknownModel, match="c@1"):
        diffuser.check(make_row(loras=(("c@1", 1.0),)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"solver": "magic"}, "solver"),
        ({"steps": 0}, "num_inference_steps"),
        ({"steps": 1001}, "num_inference_steps"),
        ({"height": 18}, "height"),
        ({"width": 0}, "width"),
    ],
)
def test_a_row_out_of_range_is_refused_with_the_fields_name(load, changes, field):
    diffuser = load("sd15")
    diffuser.check(make_row())
    with pytest.raises(InvalidInput) as caught:
        diffuser.check(make_row(**changes))
    assert caught.value.field == field


def test_steps_a_solver_cannot_take_are_the_callers_fault(load):
    diffuser = load("emoji")
    refused = []
    for steps in range(2, 12):
        try:
            diffuser.begin([make_row(solver="ddim_stochastic", steps=steps)])
        except InvalidInput as error:
            refused.append((steps, error.message))
    assert refused  # 0/0 at zero SNR, or not, as the rounding falls
    assert all(f"ddim_stochastic can't take {steps} steps" in message for steps, message in refused)


def test_what_the_server_asks_about(load, tiny_folders):
    diffuser = load("sd15")
    tokenizer = CLIPTokenizer.from_pretrained(tiny_folders["sd15"] / "tokenizer")
    assert diffuser.native_size == (16, 16)
    assert diffuser.size_multiple == 4
    assert diffuser.max_prompt_tokens == 10
    assert diffuser.max_steps == 1000
    assert diffuser.solvers == tuple(SOLVERS)
    assert diffuser.defaults == Defaults(steps=30, guidance=7.5, solver="pndm")
    assert diffuser.count_tokens("") == 0
    assert diffuser.count_tokens("a cat") == len(tokenizer("a cat").input_ids) - 2
