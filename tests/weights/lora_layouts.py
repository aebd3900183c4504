"""Writes a canonical LoRA in the key layouts of the wild; the reverse of what `weights.layouts` reads."""

import re
from collections.abc import Mapping

import torch

ATTENTION = re.compile(r"\.to_(q|k|v|out)(\.0)?\.lora_(A|B)\.weight$")
DIRECTION = {"A": "down", "B": "up"}


def only_attention(lora: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The projections that the older layouts can name."""
    return {key: tensor for key, tensor in lora.items() if ATTENTION.search(key)}


def as_convolutions(lora: Mapping[str, torch.Tensor], unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """With 1x1 convolutions in four dimensions, as training writes them."""
    modules = dict(unet.named_modules())
    return {
        key: tensor[..., None, None] if isinstance(modules[path_of(key)], torch.nn.Conv2d) else tensor
        for key, tensor in lora.items()
    }


def path_of(key: str) -> str:
    return key.removeprefix("unet.").rpartition(".lora_")[0]


def as_attention_processors(lora: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """`<path>.processor.to_q_lora.down.weight`, as UNet2DConditionModel.save_attn_procs wrote it."""
    return {
        prefix
        + ATTENTION.sub(
            lambda m: f".processor.to_{m[1]}_lora.{DIRECTION[m[3]]}.weight", key.removeprefix("unet.")
        ): tensor
        for key, tensor in only_attention(lora).items()
    }


def as_diffusers(lora: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`unet.<path>.lora.down.weight`."""
    return {
        key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): tensor
        for key, tensor in lora.items()
    }


def as_accelerate_state(lora: Mapping[str, torch.Tensor], unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a UNet wrapped by peft: the base's weights, and `<path>.lora_A.default.weight`."""
    wrapped = {path_of(key) for key in lora}
    state = {}
    for key, tensor in unet.state_dict().items():
        path, _, last = key.rpartition(".")
        state[f"{path}.base_layer.{last}" if path in wrapped else key] = tensor
    for key, tensor in lora.items():
        state[key.removeprefix("unet.").replace(".weight", ".default.weight")] = tensor
    return state


def as_kohya(lora: Mapping[str, torch.Tensor], alpha: float | None) -> dict[str, torch.Tensor]:
    """`lora_unet_<path with underscores>.lora_down.weight`, with `.alpha` unless it is None."""
    result = {}
    for key, tensor in lora.items():
        name = "lora_unet_" + path_of(key).replace(".", "_")
        result[f"{name}.lora_{'down' if '.lora_A.' in key else 'up'}.weight"] = tensor
        if alpha is not None:
            result[f"{name}.alpha"] = torch.tensor(alpha)
    return result


def as_original_kohya(lora: Mapping[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """kohya with the original names of the attention blocks, for a UNet of one layer a block."""

    def rename(key: str) -> str:
        key = re.sub(
            r"down_blocks_(\d)_attentions_(\d)",
            lambda m: f"input_blocks_{2 * int(m[1]) + int(m[2]) + 1}_1",
            key,
        )
        key = re.sub(
            r"up_blocks_(\d)_attentions_(\d)", lambda m: f"output_blocks_{2 * int(m[1]) + int(m[2])}_1", key
        )
        return key.replace("mid_block_attentions_0", "middle_block_1")

    attention = {key: tensor for key, tensor in lora.items() if ".attentions." in key}
    return {rename(key): tensor for key, tensor in as_kohya(attention, alpha).items()}
