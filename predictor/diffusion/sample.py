"""A row on its way from noise to latents, and the update that moves a batch of them one step on.

It doesn't know the UNet, prompts' text or pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from predictor.diffusion.finite import Finite
from predictor.diffusion.row import Row
from predictor.diffusion.solver_table import SolverTable
from predictor.diffusion.transfer import to_device


@dataclass(slots=True)
class Sample:
    """One row's state between two denoising steps.

    stack: [table.width, C, h, w] float32 on the device, the latents first, then what the solver remembers.
    prompt_states, negative_states: [tokens, width] as Blocks.project made them with the row's LoRAs; without
    negative states the row runs unguided at half the cost.
    call: the UNet calls done.
    noise: [C, h, w] float32, drawn for the call under way; one that failed uses it again.
    finite: whether the latest call came out as numbers, and this row's place in the answer.
    inner: what the UNet's inner layers gave, [C, h, w] with the prompt (False) and with the negative one
    (True); kept only where it is used again.
    """

    row: Row
    table: SolverTable
    generator: torch.Generator
    stack: torch.Tensor
    prompt_states: torch.Tensor
    negative_states: torch.Tensor | None
    call: int = 0
    noise: torch.Tensor | None = None
    finite: tuple[Finite, int] | None = None
    inner: dict[bool, torch.Tensor] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the latents are ready to decode."""
        return self.call == self.table.calls

    @property
    def outer_only(self) -> bool:
        """Whether the next call computes the UNet's outer layers alone."""
        return self.call % self.row.inner_every != 0

    @property
    def latents(self) -> torch.Tensor:
        """[C, h, w] float32, scaled as the UNet sees them."""
        return self.stack[0]

    def advance(self, stack: torch.Tensor) -> None:
        """Takes what one more UNet call has come to."""
        self.stack = stack
        self.call += 1
        self.noise = None


def stacked(samples: Sequence[Sample]) -> torch.Tensor:
    """The stacks of samples of one size: [B, S, C, h, w], zeros where a solver remembers less than the
    others.
    """
    width = max(sample.table.width for sample in samples)
    return torch.stack(
        [nn.functional.pad(sample.stack, (0, 0) * 3 + (0, width - sample.table.width)) for sample in samples]
    )


def advanced(
    samples: Sequence[Sample], stacks: torch.Tensor, model_output: torch.Tensor
) -> list[torch.Tensor]:
    """The samples' next stacks: one solver step of all in one product; stacks as `stacked` made them,
    model_output [B, C, h, w] float32.
    """
    width = stacks.shape[1]
    matrices = torch.zeros(len(samples), width, width + 2)
    for matrix, sample in zip(matrices, samples, strict=True):
        own = sample.table.width
        matrix[:own, :own] = sample.table.matrices[sample.call, :, :own]
        matrix[:own, width:] = sample.table.matrices[sample.call, :, own:]
    inputs = [stacks, model_output[:, None]]
    if any(sample.table.draws_noise[sample.call] for sample in samples):
        inputs.append(to_device(_noise(samples, model_output.shape[1:]), stacks.device))
    else:
        matrices = matrices[..., :-1]
    moves = to_device(matrices, stacks.device)
    outputs = torch.bmm(moves, torch.cat(inputs, dim=1).flatten(2)).view_as(stacks)
    return [output[: sample.table.width] for sample, output in zip(samples, outputs, strict=True)]


def _noise(samples: Sequence[Sample], shape: torch.Size) -> torch.Tensor:
    """[B, 1, C, h, w] from the rows' own generators, zeros where the solver draws none."""
    noise = torch.zeros(len(samples), 1, *shape)
    for place, sample in enumerate(samples):
        if sample.table.draws_noise[sample.call]:
            if sample.noise is None:
                sample.noise = torch.randn(shape, generator=sample.generator)
            noise[place, 0] = sample.noise
    return noise
