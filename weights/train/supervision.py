"""What shows the UNet early how to read the text encoder's sketch; left behind when training ends.

A loss on the UNet's output alone takes long to find out that each place has a text state of its own. So two
things are asked of its inner layers too: where they attend to, and what they hold thereafter.
Knows nothing of noise schedules or of prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn

from weights.train.text_encoder import PATCHES

SIDE = int(PATCHES**0.5)  # patches along one side of the picture


def to_cells(latents: torch.Tensor, side: int) -> torch.Tensor:
    """Latents [B, C, H, W] cut into `side` x `side` cells, float [B, side², C * H * W / side²]."""
    count, channels, height, width = latents.shape
    grid = latents.view(count, channels, side, height // side, side, width // side)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(count, side * side, -1)


class SupervisedUNet(nn.Module):
    """A UNet and linear readers of its inner layers: middle and upper blocks at 4x4 and 8x8."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        size, channels = unet.config.sample_size, unet.config.out_channels
        blocks = [unet.mid_block, *unet.up_blocks[:2]]
        self.readers = nn.ModuleList()
        self._attended: list[torch.Tensor] = []
        self._held: list[torch.Tensor] = []
        for block, side in zip(blocks, (SIDE, SIDE, 2 * SIDE), strict=True):
            last = block.attentions[-1]
            cell = channels * (size // side) ** 2
            self.readers.append(nn.Linear(last.norm.num_channels, cell))
            last.register_forward_hook(self._hold)
            for attention in block.attentions:
                attention.transformer_blocks[-1].attn2.register_forward_pre_hook(
                    self._attend, with_kwargs=True
                )

    def _hold(self, _: nn.Module, __: Any, output: Any) -> None:
        self._held.append(output[0])

    def _attend(self, attention: Attention, inputs: Any, named: dict[str, Any]) -> None:
        """Record the share of attention that each place gives the state of its own patch, as -log."""
        hidden, states = inputs[0], named["encoder_hidden_states"]
        count, places, _ = hidden.shape
        query = attention.to_q(hidden).view(count, places, attention.heads, -1)
        key = attention.to_k(states).view(count, states.shape[1], attention.heads, -1)
        scores = torch.einsum("bphd,bkhd->bhpk", query, key) * attention.scale
        side = int(places**0.5)
        rows = torch.arange(side, device=hidden.device) * SIDE // side
        own = (rows[:, None] * SIDE + rows).flatten() + states.shape[1] - PATCHES
        shares = scores.log_softmax(-1).gather(-1, own.view(1, 1, -1, 1).expand(*scores.shape[:3], 1))
        self._attended.append(-shares.mean((1, 2, 3)))

    def forward(
        self, noisy: torch.Tensor, steps: torch.Tensor, states: torch.Tensor, latents: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The UNet's output [B, C, H, W]; and for each sample, how far its layers are from attending to the
        patch that they draw [B], and from holding the wanted `latents` [B].
        """
        self._attended.clear()
        self._held.clear()
        output = self.unet(noisy, steps, states).sample
        errors = []
        for reader, held in zip(self.readers, self._held, strict=True):
            read = reader(held.flatten(2).transpose(1, 2))
            errors.append((read - to_cells(latents, held.shape[-1])).pow(2).mean((1, 2)))
        return output, torch.stack(self._attended).mean(0), torch.stack(errors).mean(0)
