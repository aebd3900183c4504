"""Latents and pictures, against diffusers' own pipeline over the same folder."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from predictor.diffusion.checkpoint import read_checkpoint
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.solvers import SOLVERS
from tests.predictor.diffusion.drawing import KINDS, alone, make_loras, make_row, tolerance


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
def pairs(load, tiny_folders):
    """kind → (our diffuser with the LoRAs a@1 and b@1, diffusers' pipeline with both)."""

    @cache
    def pair(kind: str) -> tuple[Diffuser, Reference]:
        reference = Reference(tiny_folders[kind])
        for name, tensors in make_loras(reference.pipeline.unet).items():
            reference.load(name, tensors)
        return load(kind), reference

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
    latents, expected = alone(diffuser, row).latents, reference.draw(diffuser, row)
    # what is rounded off grows with the numbers: most solvers' are below 4, but some of PNDM's above 5
    size = max(1.0, float(expected.abs().max()) / 4)
    torch.testing.assert_close(latents, expected, rtol=0, atol=size * tolerance(kind, solver))


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mix_is_that_of_set_adapters(pairs, kind, weights):
    diffuser, reference = pairs(kind)
    # Without guidance, which multiplies what rounding differs by.
    row = make_row(loras=tuple(zip(("a@1", "b@1"), weights, strict=True)), guidance=1.0)
    latents = alone(diffuser, row).latents
    torch.testing.assert_close(latents, reference.draw(diffuser, row), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_mix_differs_by_from_set_adapters_is_rounding(tiny_folders, kind):
    """In float64 a guided UNet call of a mixed batch differs by 1e-9 at most."""
    diffuser = Diffuser(read_checkpoint(tiny_folders[kind], torch.float64), "cpu")
    reference = Reference(tiny_folders[kind])
    for name, tensors in make_loras(reference.pipeline.unet).items():
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
    latents = alone(diffuser, row).latents
    torch.testing.assert_close(latents, reference.draw(diffuser, row), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_the_pipeline(pairs, kind):
    diffuser, reference = pairs(kind)
    row = make_row(height=32, width=24)
    [picture] = diffuser.decode([alone(diffuser, row)])
    assert picture.shape == (32, 24, 3)
    assert picture.dtype == np.uint8
    theirs = np.asarray(reference.draw(diffuser, row, output_type="pil")).astype(int)
    assert abs(picture.astype(int) - theirs).max() <= 1  # a value may lie on the edge between two
    assert (picture == theirs).mean() > 0.99
