"""A UNet's outer layers alone, over what its inner ones gave at an earlier step, as DeepCache has it.

From one step to the next what the inner layers give, which are most of the work, changes little. The outer
ones are those of the first down block and the last up block, and the convolutions around them; where that up
block attends, which at full size is dear, its last layer alone and the convolutions. It doesn't know rows or
LoRAs, nor when which of the two is computed.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UpBlock2D,
)
from torch import nn

from predictor.diffusion.layers import replace_forward

Residual = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Layer = tuple[Residual, nn.Module | None]
"""A residual block, and the attention behind it if there is one."""


class OuterLayers:
    """Of one UNet that lies on its device."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._unet = unet
        self._inner: torch.Tensor | None = None
        self._watching = False
        self.usable = _is_plain(unet)
        if self.usable:
            first, last = unet.down_blocks[0], unet.up_blocks[-1]
            count = 1 if isinstance(last, CrossAttnUpBlock2D) else len(last.resnets)
            self._down, self._up = _layers(first)[: count - 1], _layers(last)[-count:]
            replace_forward(last.resnets[-count], self._watched)

    def watch(self, watching: bool) -> None:
        """Whether to keep what the inner layers give in calls of the whole UNet to come, for `take`."""
        self._watching, self._inner = watching, None

    def take(self) -> torch.Tensor:
        """What they gave in the latest: [R, C, h, w]; nothing holds it any more."""
        inner, self._inner = self._inner, None
        assert inner is not None, "it was to be watched"
        return inner

    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor, inner: torch.Tensor
    ) -> torch.Tensor:
        """As UNet2DConditionModel: latents [R, C, h, w], timesteps [R], states [R, tokens, width] → [R, C, h,
        w]; `inner` are rows of what `take` gave.
        """
        unet = self._unet
        time = unet.time_embedding(unet.get_time_embed(latents, timesteps))
        prompt = unet.get_aug_embed(time, states, {})
        time = time if prompt is None else time + prompt
        time = time if unet.time_embed_act is None else unet.time_embed_act(time)
        skips = [unet.conv_in(latents)]
        for layer in self._down:
            skips.append(_compute(layer, skips[-1], time, states))
        hidden = inner
        for layer in self._up:
            hidden = _compute(layer, torch.cat([hidden, skips.pop()], dim=1), time, states)
        if unet.conv_norm_out is not None:
            hidden = unet.conv_act(unet.conv_norm_out(hidden))
        output: torch.Tensor = unet.conv_out(hidden)
        return output

    def _watched(self, image: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The first of the outer up layers; behind the inner layers' image is that of the skip."""
        if self._watching:
            self._inner = image[:, : -self._unet.conv_in.out_channels]
        return self._up[0][0](image, time)


def _layers(block: Any) -> list[Layer]:
    attentions = getattr(block, "attentions", [None] * len(block.resnets))
    pairs = zip(block.resnets, attentions, strict=True)
    return [(residual.forward, attention) for residual, attention in pairs]


def _compute(layer: Layer, image: torch.Tensor, time: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    residual, attention = layer
    hidden = residual(image, time)
    if attention is not None:
        hidden = attention(hidden, encoder_hidden_states=states, return_dict=False)[0]
    return hidden


def _is_plain(unet: UNet2DConditionModel) -> bool:
    """Whether its first and last blocks are of the kinds whose layers are known here."""
    first, last = unet.down_blocks[0], unet.up_blocks[-1]
    return (
        len(unet.up_blocks) > 1
        and isinstance(first, DownBlock2D | CrossAttnDownBlock2D)
        and isinstance(last, UpBlock2D | CrossAttnUpBlock2D)
        and len(last.resnets) == 1 + len(first.resnets)
        and not unet.config.dual_cross_attention
        and not unet.config.center_input_sample
        and unet.config.addition_embed_type in (None, "text")
    )
