"""A UNet's residual and transformer blocks, computed with a fraction of the calls that diffusers makes.

A step of a small model is spent half in Python and in the dispatch of small operations. These blocks come to
the same numbers, but go straight from one torch function to the next, keep images in channels_last order
throughout, and project a prompt to keys and values once for all its steps. They stay diffusers' modules with
their weights; only `forward` is replaced, and only where a block is of the plain kind. They don't know LoRAs
(the `forward` of a layer may add one), rows or samples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import Transformer2DModel, UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn import functional as F

from predictor.diffusion.layers import bind, replace_forward


class Blocks:
    """Replaces what it can in a UNet that lies on its device; from then on states come from `project`."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        bind(unet)
        for module in unet.modules():
            if isinstance(module, ResnetBlock2D) and _is_plain_residual(module):
                replace_forward(module, _Residual(module).forward)
        self._projections: list[nn.Module] = []
        self._embed: Callable[[torch.Tensor], torch.Tensor] | None = None
        transformers = [module for module in unet.modules() if isinstance(module, Transformer2DModel)]
        plain = transformers and all(map(_is_plain_transformer, transformers))
        if not plain or _attends_elsewhere(unet, transformers):
            return  # all or none: they are given the same states
        column = transformers[0].transformer_blocks[0].attn2.cross_attention_dim
        for transformer in transformers:
            blocks = []
            for block in transformer.transformer_blocks:
                blocks.append(_Block(block, column))
                column += 2 * block.attn2.inner_dim
                self._projections += [block.attn2.to_k, block.attn2.to_v]
            replace_forward(transformer, _Transformer(transformer, blocks).forward)
        if unet.config.addition_embed_type == "text":
            self._embed = unet.add_embedding.forward
            replace_forward(unet.add_embedding, lambda states: states[:, 0, column:])

    def project(self, states: torch.Tensor) -> torch.Tensor:
        """The UNet's `encoder_hidden_states`: the text encoder's [rows, tokens, width], to the right of them
        the keys and values of every cross attention, and the prompt's part of the time embedding, if any.

        They are good for all steps of a row, and for the LoRAs chosen now.
        """
        columns = [states, *(projection.forward(states) for projection in self._projections)]
        if self._embed is not None:
            columns.append(self._embed(states)[:, None].expand(-1, states.shape[1], -1))
        return torch.cat(columns, dim=-1)


class _Residual:
    def __init__(self, block: ResnetBlock2D) -> None:
        self._block = block
        self._shortcut = block.conv_shortcut
        self._scales = block.time_embedding_norm == "scale_shift"
        self._factor = float(block.output_scale_factor)

    def forward(self, image: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        block = self._block
        hidden = block.conv1.forward(F.silu(block.norm1.forward(image), inplace=True))
        time = block.time_emb_proj.forward(F.silu(temb))[:, :, None, None]
        if self._scales:
            scale, shift = time.chunk(2, dim=1)
            hidden = block.norm2.forward(hidden).mul_(scale.add_(1)).add_(shift)
        else:
            hidden = block.norm2.forward(hidden.add_(time))
        hidden = block.conv2.forward(F.silu(hidden, inplace=True))
        hidden.add_(image if self._shortcut is None else self._shortcut.forward(image))
        return hidden if self._factor == 1 else hidden.div_(self._factor)


class _Transformer:
    def __init__(self, transformer: Transformer2DModel, blocks: Sequence["_Block"]) -> None:
        self._transformer = transformer
        self._blocks = blocks
        self._convolves = not transformer.use_linear_projection

    def forward(
        self, image: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        transformer = self._transformer
        hidden = transformer.norm.forward(image)
        if self._convolves:
            hidden = transformer.proj_in.forward(hidden)
        hidden = hidden.permute(0, 2, 3, 1)
        size = hidden.shape[1:3]
        hidden = hidden.flatten(1, 2)
        if not self._convolves:
            hidden = transformer.proj_in.forward(hidden)
        for block in self._blocks:
            hidden = block.forward(hidden, encoder_hidden_states)
        if not self._convolves:
            hidden = transformer.proj_out.forward(hidden)
        hidden = hidden.unflatten(1, size).permute(0, 3, 1, 2)
        if self._convolves:
            hidden = transformer.proj_out.forward(hidden)
        return (hidden.add_(image),)


class _Block:
    """Self attention, cross attention, feed-forward."""

    def __init__(self, block: BasicTransformerBlock, column: int) -> None:
        """column: where the keys begin in the states; the values stand behind them."""
        self._block = block
        middle, end = column + block.attn2.inner_dim, column + 2 * block.attn2.inner_dim
        self._keys, self._values = slice(column, middle), slice(middle, end)

    def forward(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        block = self._block
        own, cross, (gated, _, narrowed) = block.attn1, block.attn2, block.ff.net
        normed = block.norm1.forward(hidden)
        query, keys, values = own.to_q.forward(normed), own.to_k.forward(normed), own.to_v.forward(normed)
        hidden = _attend(own, query, keys, values).add_(hidden)
        query = cross.to_q.forward(block.norm2.forward(hidden))
        hidden = _attend(cross, query, states[..., self._keys], states[..., self._values]).add_(hidden)
        value, gate = gated.proj.forward(block.norm3.forward(hidden)).chunk(2, dim=-1)
        return narrowed.forward(F.gelu(gate).mul_(value)).add_(hidden)


def _attend(attention: Attention, *tokens: torch.Tensor) -> torch.Tensor:
    """The output of queries, keys and values [rows, tokens, width]."""
    heads = [each.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for each in tokens]
    attended = F.scaled_dot_product_attention(*heads)
    return attention.to_out[0].forward(attended.transpose(1, 2).flatten(2))


def _is_plain_residual(block: ResnetBlock2D) -> bool:
    return (
        block.upsample is None
        and block.downsample is None
        and block.time_emb_proj is not None
        and not block.skip_time_act
        and block.time_embedding_norm in ("default", "scale_shift")
        and isinstance(block.nonlinearity, nn.SiLU)
    )


def _is_plain_transformer(transformer: Transformer2DModel) -> bool:
    return transformer.is_input_continuous and all(map(_is_plain_block, transformer.transformer_blocks))


def _is_plain_block(block: BasicTransformerBlock) -> bool:
    return (
        block.norm_type == "layer_norm"
        and block.pos_embed is None
        and not block.only_cross_attention
        and block.attn2 is not None
        and block.attn2.is_cross_attention
        and not block.attn1.is_cross_attention
        and isinstance(block.ff.net[0], GEGLU)
        and len(block.ff.net) == 3
        and all(map(_is_plain_attention, (block.attn1, block.attn2)))
    )


def _is_plain_attention(attention: Attention) -> bool:
    odd = ("spatial_norm", "group_norm", "norm_cross", "norm_q", "norm_k", "added_kv_proj_dim")
    return (
        isinstance(attention.processor, AttnProcessor2_0)
        and not any(getattr(attention, name) for name in odd)
        and not attention.residual_connection
        and attention.rescale_output_factor == 1
    )


def _attends_elsewhere(unet: UNet2DConditionModel, transformers: Sequence[Transformer2DModel]) -> bool:
    """Whether there are attentions outside of transformers, which would be given states they don't know."""
    inside = {module for transformer in transformers for module in transformer.modules()}
    return any(isinstance(module, Attention) and module not in inside for module in unet.modules())
