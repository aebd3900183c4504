import json
import shutil
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.checkpoint import UnsupportedCheckpoint, read_checkpoint
from predictor.diffusion.diffuser import Defaults, Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.solvers import SOLVERS
from predictor.errors import InvalidInput, UnknownModel
from tests.permissions import shut
from tests.tiny_models import make_lora

KINDS = ("sd15", "sd2", "emoji")


def make_row(**changes) -> Row:
    row = {
        "prompt": "a cat",
        "negative_prompt": "",
        "seed": 5,
        "steps": 4,
        "guidance": 3.0,
        "loras": (),
        "height": 16,
        "width": 16,
        "solver": "ddim",
    }
    return Row(**{**row, **changes})


def finish(diffuser: Diffuser, rows: list[Row]) -> list[torch.Tensor]:
    """The latents of rows that begin together; each leaves when it is finished."""
    samples = diffuser.begin(rows)
    while running := [sample for sample in samples if not sample.finished]:
        diffuser.step(running)
    return [sample.latents for sample in samples]


def tolerance(kind: str, solver: str) -> float:
    """1e-4 on latents; more where Euler starts at sigma 4096 (zero SNR), too large for float32."""
    return 0.03 if "euler" in solver and kind != "sd15" else 1e-4


class Reference:
    """The plain diffusers pipeline over the same folder."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        self.pipeline.set_progress_bar_config(disable=True)

    def load(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Through load_lora_weights, which wants the 1x1 convolutions' matrices as 4-D."""
        shaped = {}
        for key, tensor in tensors.items():
            module = self.pipeline.unet.get_submodule(key.removeprefix("unet.").rpartition(".lora_")[0])
            is_conv = isinstance(getattr(module, "base_layer", module), torch.nn.Conv2d)
            shaped[key] = tensor[..., None, None] if is_conv else tensor
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # says peft of a second one
            self.pipeline.load_lora_weights(shaped, adapter_name=name.replace("@", "_"))

    def draw(self, diffuser: Diffuser, row: Row, output_type: str = "latent"):
        pipeline = self.pipeline
        if row.loras:
            pipeline.enable_lora()
            names, weights = zip(*row.loras, strict=True)
            pipeline.set_adapters([name.replace("@", "_") for name in names], list(weights))
        elif getattr(pipeline.unet, "peft_config", None):
            pipeline.disable_lora()
        pipeline.scheduler = diffuser._solvers.scheduler(row.solver)
        return pipeline(
            row.prompt,
            negative_prompt=row.negative_prompt,
            num_inference_steps=row.steps,
            guidance_scale=row.guidance,
            height=row.height,
            width=row.width,
            generator=torch.Generator("cpu").manual_seed(row.seed),
            eta=SOLVERS[row.solver].step_arguments.get("eta", 0.0),
            output_type=output_type,
        ).images[0]


@pytest.fixture(scope="module")
def pairs(tiny_folders):
    """kind → (our diffuser with the LoRAs a@1 and b@1, diffusers' pipeline with both)."""

    @cache
    def pair(kind: str) -> tuple[Diffuser, Reference]:
        diffuser, reference = Diffuser.load(tiny_folders[kind]), Reference(tiny_folders[kind])
        loras = {
            "a@1": make_lora(reference.pipeline.unet, rank=2, seed=1),
            "b@1": make_lora(reference.pipeline.unet, rank=3, seed=2),
        }
        for name, tensors in loras.items():
            diffuser.add_adapter(name, tensors)
            reference.load(name, tensors)
        return diffuser, reference

    return pair


# DDIM with noise is 0/0 at zero terminal SNR, in diffusers too.
SERVED = [
    (kind, name)
    for kind in ("sd15", "emoji")
    for name in SOLVERS
    if (kind, name) != ("emoji", "ddim_stochastic")
]


@pytest.mark.parametrize("loras", [(), (("a@1", 0.7),)])
@pytest.mark.parametrize(("kind", "solver"), SERVED)
def test_latents_are_those_of_the_diffusers_pipeline(pairs, kind, solver, loras):
    diffuser, reference = pairs(kind)
    row = make_row(solver=solver, loras=loras, steps=4, negative_prompt="dog")
    [latents] = finish(diffuser, [row])
    torch.testing.assert_close(latents, reference.draw(diffuser, row), rtol=0, atol=tolerance(kind, solver))


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mix_is_that_of_set_adapters(pairs, kind, weights):
    diffuser, reference = pairs(kind)
    # Without guidance, which multiplies what rounding differs by.
    row = make_row(loras=tuple(zip(("a@1", "b@1"), weights, strict=True)), guidance=1.0)
    [latents] = finish(diffuser, [row])
    torch.testing.assert_close(latents, reference.draw(diffuser, row), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_mix_differs_by_from_set_adapters_is_rounding(tiny_folders, kind):
    """In float64 a guided UNet call of a mixed batch differs by 1e-9 at most."""
    diffuser = Diffuser(read_checkpoint(tiny_folders[kind], torch.float64), "cpu")
    reference = Reference(tiny_folders[kind])
    for seed, (name, rank) in enumerate({"a@1": 2, "b@1": 3}.items()):
        tensors = make_lora(diffuser._denoiser._unet, rank=rank, seed=seed)
        diffuser.add_adapter(name, tensors)
        reference.load(name, tensors)
    unet = reference.pipeline.unet.to(torch.float64)
    mixes = [(("a@1", 0.5), ("b@1", 1.5)), (("b@1", 1.0),), (("a@1", 2.0), ("b@1", 0.25))]
    generator = torch.Generator().manual_seed(3)
    kwargs = {"generator": generator, "dtype": torch.float64}
    latents = torch.randn(3, unet.config.in_channels, 8, 8, **kwargs)
    states = torch.randn(3, 2, 12, unet.config.cross_attention_dim, **kwargs)
    times = torch.tensor([999.0, 500.0, 1.0])
    with torch.inference_mode():
        projected = []
        for mix, own in zip(mixes, states, strict=True):
            diffuser._denoiser.adapters.select([mix] * 2)
            projected.append(diffuser._denoiser._blocks.project(own))
        diffuser._denoiser.adapters.select([mix for mix in mixes for _ in range(2)])
        both = [tensor.repeat_interleave(2, dim=0) for tensor in (latents, times)]
        ours = diffuser._denoiser._unet(*both, torch.cat(projected), return_dict=False)[0].unflatten(
            0, (3, 2)
        )
        for place, mix in enumerate(mixes):
            names, weights = zip(*mix, strict=True)
            reference.pipeline.set_adapters([name.replace("@", "_") for name in names], list(weights))
            pair = [tensor[place].expand(2, *tensor.shape[1:]) for tensor in (latents, times)]
            theirs = unet(*pair, states[place], return_dict=False)[0]
            mine, wanted = (
                negative + 3.0 * (prompt - negative) for prompt, negative in (ours[place], theirs)
            )
            torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5, 9.0])
@pytest.mark.parametrize("kind", KINDS)
def test_guidance_is_that_of_the_pipeline(pairs, kind, guidance):
    diffuser, reference = pairs(kind)
    row = make_row(guidance=guidance, loras=(("a@1", 1.0),), negative_prompt="dog")
    [latents] = finish(diffuser, [row])
    torch.testing.assert_close(latents, reference.draw(diffuser, row), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_the_pipeline(pairs, kind):
    diffuser, reference = pairs(kind)
    row = make_row(height=32, width=24)
    [sample] = diffuser.begin([row])
    while not sample.finished:
        diffuser.step([sample])
    [picture] = diffuser.decode([sample])
    assert picture.shape == (32, 24, 3)
    assert picture.dtype == np.uint8
    theirs = np.asarray(reference.draw(diffuser, row, output_type="pil")).astype(int)
    assert abs(picture.astype(int) - theirs).max() <= 1  # a value may lie on the edge between two
    assert (picture == theirs).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixed_batch_gives_what_each_row_gives_alone(pairs, kind):
    diffuser, _ = pairs(kind)
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
        [alone] = finish(diffuser, [row])
        torch.testing.assert_close(together, alone, rtol=0, atol=tolerance(kind, row.solver))


def test_rows_may_join_a_batch_at_any_step(pairs):
    diffuser, _ = pairs("sd15")
    rows = [make_row(seed=seed, steps=4, solver="dpmpp_2m") for seed in range(3)]
    samples = []
    for row in rows:
        samples += diffuser.begin([row])
        diffuser.step([sample for sample in samples if not sample.finished])
    while running := [sample for sample in samples if not sample.finished]:
        diffuser.step(running)
    for row, sample in zip(rows, samples, strict=True):
        torch.testing.assert_close(sample.latents, finish(diffuser, [row])[0], rtol=0, atol=1e-4)


def test_a_row_without_guidance_costs_one_row_of_the_unet(pairs):
    diffuser, _ = pairs("sd15")
    seen = []
    hook = diffuser._denoiser._unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        finish(diffuser, [make_row(steps=1, guidance=guidance) for guidance in (0.0, 1.0, 1.1)])
    finally:
        hook.remove()
    assert seen == [4]


def test_many_pictures_are_decoded_in_parts(pairs, monkeypatch):
    diffuser, _ = pairs("sd15")
    samples = diffuser.begin([make_row(seed=seed) for seed in range(5)])
    whole = diffuser.decode(samples)
    monkeypatch.setattr("predictor.diffusion.decoder.PIXELS", 2 * 16 * 16)
    seen = []
    hook = diffuser._decoder._vae.decoder.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    try:
        parts = diffuser.decode(samples)
    finally:
        hook.remove()
    assert seen == [2, 2, 1]
    assert all(abs(a.astype(int) - b.astype(int)).max() <= 1 for a, b in zip(whole, parts, strict=True))


def test_latents_that_are_no_numbers_make_no_picture(pairs):
    diffuser, _ = pairs("sd15")
    samples = diffuser.begin([make_row(seed=seed) for seed in range(3)])
    whole = diffuser.decode(samples)
    for wrong in (torch.nan, torch.inf):
        samples[1].stack = torch.full_like(samples[1].stack, wrong)
        first, nothing, last = diffuser.decode(samples)
        assert type(nothing) is ArithmeticError
        for picture, wanted in ((first, whole[0]), (last, whole[2])):
            assert abs(picture.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("behind", [False, True])
@settings(deadline=None, max_examples=8)
@given(data=st.data(), wrong=st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_a_row_that_is_no_number_any_more_ends_at_that_step(pairs, behind, data, wrong):
    """Or at the next, where the device computes behind; the others never notice."""
    diffuser, _ = pairs("sd15")
    diffuser._computes_behind = behind
    rows = [make_row(seed=seed, steps=4, guidance=1.0 + seed % 2) for seed in range(3)]
    wanted = finish(diffuser, rows)
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
        diffuser._computes_behind = False


def test_prompts_may_be_encoded_ahead(pairs):
    diffuser, _ = pairs("sd15")
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


def test_bfloat16_draws_nearly_the_same(pairs, tiny_folders):
    exact, _ = pairs("sd15")
    rough = Diffuser.load(tiny_folders["sd15"], dtype="bfloat16")
    row = make_row(guidance=1.0)
    [latents], [wanted] = finish(rough, [row]), finish(exact, [row])
    assert latents.dtype == torch.float32
    assert (latents - wanted).abs().mean() < 0.05 * wanted.abs().mean()
    [sample] = rough.begin([row])
    assert rough.decode([sample])[0].dtype == np.uint8


def test_a_lora_may_leave(pairs):
    diffuser, _ = pairs("sd2")
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
def test_a_row_out_of_range_is_refused_with_the_fields_name(pairs, changes, field):
    diffuser, _ = pairs("sd15")
    diffuser.check(make_row())
    with pytest.raises(InvalidInput) as caught:
        diffuser.check(make_row(**changes))
    assert caught.value.field == field


def test_steps_a_solver_cannot_take_are_the_callers_fault(pairs):
    diffuser, _ = pairs("emoji")
    refused = []
    for steps in range(2, 12):
        try:
            diffuser.begin([make_row(solver="ddim_stochastic", steps=steps)])
        except InvalidInput as error:
            refused.append((steps, error.message))
    assert refused  # 0/0 at zero SNR, or not, as the rounding falls
    assert all(f"ddim_stochastic can't take {steps} steps" in message for steps, message in refused)


def test_what_the_server_asks_about(pairs):
    diffuser, reference = pairs("sd15")
    assert diffuser.native_size == (16, 16)
    assert diffuser.size_multiple == 4
    assert diffuser.max_prompt_tokens == 10
    assert diffuser.max_steps == 1000
    assert diffuser.solvers == tuple(SOLVERS)
    assert diffuser.defaults == Defaults(steps=30, guidance=7.5, solver="pndm")
    assert diffuser.count_tokens("") == 0
    assert diffuser.count_tokens("a cat") == len(reference.pipeline.tokenizer("a cat").input_ids) - 2


# Folders, changed in one place each


def copy_folder(source: Path, target: Path, **configs: dict) -> Path:
    """A copy whose JSON files are changed: model_index={…}, unet={…}, scheduler={…}, …"""
    shutil.copytree(source, target)
    names = {
        "model_index": "model_index.json",
        "unet": "unet/config.json",
        "vae": "vae/config.json",
        "scheduler": "scheduler/scheduler_config.json",
        "generation": "generation.json",
    }
    for part, changes in configs.items():
        path = target / names[part]
        config = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**config, **changes}))
    return target


def test_generation_json_gives_the_defaults(tiny_folders, tmp_path):
    generation = {"num_inference_steps": 10, "guidance_scale": 2, "solver": "deis"}
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base", generation=generation)
    assert Diffuser.load(folder).defaults == Defaults(steps=10, guidance=2.0, solver="deis")


def test_a_scheduler_that_is_not_served_needs_another_solver(tiny_folders, tmp_path):
    index = {"scheduler": ["diffusers", "HeunDiscreteScheduler"]}
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "heun", model_index=index)
    with pytest.raises(UnsupportedCheckpoint, match=r"HeunDiscreteScheduler is not served.*generation\.json"):
        Diffuser.load(folder)
    (folder / "generation.json").write_text('{"solver": "euler"}')
    assert Diffuser.load(folder).defaults.solver == "euler"


def test_half_precision_weights_may_be_the_only_ones(tiny_folders, tmp_path):
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "fp16")
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    [latents] = finish(Diffuser.load(folder), [make_row()])
    [wanted] = finish(Diffuser.load(tiny_folders["sd15"]), [make_row()])
    torch.testing.assert_close(latents, wanted)


@pytest.mark.parametrize(
    ("configs", "reason"),
    [
        (
            {"model_index": {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}},
            "two text encoders",
        ),
        ({"model_index": {"_class_name": "FluxPipeline"}}, "FluxPipeline"),
        (
            {"model_index": {"unet": ["diffusers", "UNetSpatioTemporalConditionModel"]}},
            "unet is a UNetSpatio",
        ),
        ({"model_index": {"text_encoder": ["transformers", "T5EncoderModel"]}}, "text_encoder is a T5"),
        ({"model_index": {"vae": [None, None]}}, "names no vae"),
        ({"model_index": {"scheduler": ["diffusers", "NoScheduler"]}}, "no scheduler NoScheduler"),
        ({"unet": {"in_channels": 9}}, "inpainting"),
        ({"unet": {"in_channels": 8}}, "takes an image"),
        ({"unet": {"out_channels": 8}}, "predicts 8 channels"),
        ({"unet": {"num_class_embeds": 10}}, "num_class_embeds"),
        ({"unet": {"encoder_hid_dim_type": "text_image_proj"}}, "encoder_hid_dim_type"),
        ({"unet": {"addition_embed_type": "text_time"}}, "text_time"),
        ({"unet": {"time_cond_proj_dim": 256}}, "time_cond_proj_dim"),
        ({"unet": {"cross_attention_dim": 1024}}, "1024"),
        ({"scheduler": {"prediction_type": "flow_prediction"}}, "flow_prediction"),
        ({"scheduler": {"beta_schedule": "steep"}}, "PNDMScheduler.*steep"),
        ({"scheduler": {"thresholding": True}, "generation": {"solver": "ddim"}}, "thresholding"),
        ({"generation": {"solver": "magic"}}, "magic"),
        ({"generation": {"num_inference_steps": "10"}}, "num_inference_steps"),
        ({"generation": {"guidance_scale": -1}}, "guidance_scale"),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused_with_the_reason(tiny_folders, tmp_path, configs, reason):
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base", **configs)
    with pytest.raises(UnsupportedCheckpoint, match=reason):
        Diffuser.load(folder)


def test_pickled_weights_are_refused_with_the_remedy(tiny_folders, tmp_path):
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(UnsupportedCheckpoint, match="save_pretrained"):
        Diffuser.load(folder)


def test_a_damaged_or_incomplete_file_is_refused_by_name(tiny_folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({key: tensor for key, tensor in tensors.items() if key != "decoder.conv_in.weight"}, path)
    with pytest.raises(UnsupportedCheckpoint, match=r"vae.*decoder\.conv_in\.weight"):
        Diffuser.load(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UnsupportedCheckpoint, match="vae"):
        Diffuser.load(folder)


def test_a_damaged_tokenizer_is_refused_by_name(tiny_folders, tmp_path):
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base")
    for path in (folder / "tokenizer").iterdir():
        path.write_text("[")
    with pytest.raises(UnsupportedCheckpoint, match="tokenizer can't be loaded"):
        Diffuser.load(folder)


def test_a_folder_that_may_not_be_read_is_refused_with_the_reason(tiny_folders, tmp_path):
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base")
    with shut(folder), pytest.raises(UnsupportedCheckpoint, match=r"model_index\.json can't be read.*denied"):
        Diffuser.load(folder)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_or_broken_configuration_is_named(tiny_folders, tmp_path, name):
    folder = copy_folder(tiny_folders["sd15"], tmp_path / "base")
    (folder / name).write_text("[")
    with pytest.raises(UnsupportedCheckpoint, match=name):
        Diffuser.load(folder)
    (folder / name).unlink()
    with pytest.raises(UnsupportedCheckpoint, match=name):
        Diffuser.load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_projected_once_whoever_begins_beside_them(pairs, kind):
    diffuser, _ = pairs(kind)
    rows = [
        make_row(loras=(("a@1", 1.0),)),
        make_row(loras=(("b@1", 0.5),), guidance=1.0),
        make_row(negative_prompt="dog"),
    ]
    alone = [diffuser.begin([row])[0] for row in rows]
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
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.prompt_states, other.prompt_states)
        assert (one.negative_states is None) == (one.row.guidance == 1)
        if one.negative_states is not None:
            assert torch.equal(one.negative_states, other.negative_states)
