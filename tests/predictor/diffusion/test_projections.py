"""Prompts as the UNet takes them: computed once for a LoRA, remembered for a while."""

import pytest
import torch

from predictor.diffusion.denoiser import PROJECTIONS
from predictor.diffusion.diffuser import Diffuser
from tests.predictor.diffusion.drawing import make_loras, make_row

LORA = (("a@1", 1.0),)


@pytest.fixture
def diffuser(tiny_folders) -> Diffuser:
    """One of its own, with a@1."""
    diffuser = Diffuser.load(tiny_folders["emoji"])
    diffuser.add_adapter("a@1", make_loras(diffuser._denoiser._unet)["a@1"])
    return diffuser


@pytest.fixture
def projected(diffuser, monkeypatch) -> list[torch.Tensor]:
    """What has been computed."""
    blocks = diffuser._denoiser._blocks
    computed: list[torch.Tensor] = []
    project = blocks.project

    def note(states: torch.Tensor) -> torch.Tensor:
        computed.append(project(states))
        return computed[-1]

    monkeypatch.setattr(blocks, "project", note)
    return computed


def test_a_prompt_is_projected_once_for_each_choice_of_loras(diffuser, projected):
    diffuser.begin([make_row(prompt="a cat", seed=1, loras=LORA), make_row(prompt="a dog", loras=LORA)])
    assert len(projected) == 3  # the empty prompt is the negative one of both
    diffuser.begin([make_row(prompt="a dog", seed=2, steps=3, guidance=2.0, loras=LORA)])
    assert len(projected) == 3
    diffuser.begin([make_row(prompt="a dog", guidance=1.0, loras=(("a@1", 0.5),))])
    diffuser.begin([make_row(prompt="a dog", guidance=1.0)])
    assert len(projected) == 5


def test_another_lora_of_the_same_name_is_another(diffuser):
    row = make_row(guidance=1.0, loras=LORA)
    [before] = diffuser.begin([row])
    diffuser.remove_adapter("a@1")
    diffuser.add_adapter("a@1", make_loras(diffuser._denoiser._unet)["b@1"])
    [after] = diffuser.begin([row])
    assert not torch.equal(before.prompt_states, after.prompt_states)


def test_so_many_are_remembered(diffuser, projected):
    for number in range(PROJECTIONS + 1):
        diffuser.begin([make_row(prompt=str(number), guidance=1.0)])
        diffuser.begin([make_row(prompt="0", guidance=1.0)])  # is asked for time and again
    assert len(diffuser._denoiser._projections) == PROJECTIONS
    count = len(projected)
    diffuser.begin([make_row(prompt="0", guidance=1.0)])
    diffuser.begin([make_row(prompt=str(PROJECTIONS), guidance=1.0)])
    assert len(projected) == count == PROJECTIONS + 1
    diffuser.begin([make_row(prompt="1", guidance=1.0)])
    assert len(projected) == count + 1
