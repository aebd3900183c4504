"""Reads a StableDiffusionPipeline folder, and says why when this server can't serve it.

The configurations are judged before any weights are read. It doesn't know how the parts work together.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "tiny_vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}


class UnsupportedCheckpoint(ValueError):
    """The folder can't be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of one folder; `generation` is its generation.json, {} where it has none, `tiny_vae` what is
    in its folder of that name.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    tiny_vae: AutoencoderTiny | None
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler_class: str
    scheduler_config: Mapping[str, Any]
    generation: Mapping[str, Any]


def read_checkpoint(folder: Path, dtype: torch.dtype) -> Checkpoint:
    """Loads the parts on the CPU in `dtype`, in eval mode; safetensors only, never the network.

    Raises UnsupportedCheckpoint.
    """
    index = _read_json(folder, "model_index.json")
    _judge_pipeline(index)
    unet_config = _read_json(folder, "unet/config.json")
    vae_config = _read_json(folder, "vae/config.json")
    text_config = _read_json(folder, "text_encoder/config.json")
    scheduler_config = _read_json(folder, "scheduler/scheduler_config.json")
    _judge_unet(unet_config, vae_config.get("latent_channels", 4), text_config.get("hidden_size", 512))
    _judge_scheduler(scheduler_config)
    tiny = (folder / "tiny_vae").is_dir()
    if tiny:
        _judge_tiny_vae(_read_json(folder, "tiny_vae/config.json"), vae_config)
    if not (folder / "tokenizer").is_dir():
        raise UnsupportedCheckpoint(f"{folder} has no tokenizer/; save the folder with save_pretrained")
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()  # a server's log has lines, not bars
    generation = _read_json(folder, "generation.json") if (folder / "generation.json").exists() else {}
    return Checkpoint(
        unet=_load(UNet2DConditionModel, folder, "unet", dtype),
        vae=_load(AutoencoderKL, folder, "vae", dtype),
        tiny_vae=_load(AutoencoderTiny, folder, "tiny_vae", dtype) if tiny else None,
        text_encoder=_load(CLIPTextModel, folder, "text_encoder", dtype),
        tokenizer=_load_tokenizer(folder / "tokenizer"),
        scheduler_class=str(index["scheduler"][1]),
        scheduler_config=scheduler_config,
        generation=generation,
    )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedCheckpoint(
            f"{folder} has no {name}; a folder saved by StableDiffusionPipeline.save_pretrained is needed"
        ) from None
    except OSError as error:
        raise UnsupportedCheckpoint(f"{folder / name} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{folder / name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnsupportedCheckpoint(f"{folder / name} must hold a JSON object")
    return content


def _judge_pipeline(index: Mapping[str, Any]) -> None:
    name = index.get("_class_name")
    if "text_encoder_2" in index:
        raise UnsupportedCheckpoint(
            f"{name} has two text encoders (SDXL or newer); SD 1.x and 2.x are served"
        )
    if name != "StableDiffusionPipeline":
        raise UnsupportedCheckpoint(f"the folder is a {name}; only StableDiffusionPipeline is served")
    wanted = {
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "scheduler": None,
    }
    for part, class_name in wanted.items():
        entry = index.get(part)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] is None:
            raise UnsupportedCheckpoint(f"model_index.json names no {part}")
        if class_name is not None and entry[1] != class_name:
            raise UnsupportedCheckpoint(f"{part} is a {entry[1]}; only {class_name} is served")


def _judge_unet(config: Mapping[str, Any], latent_channels: int, text_width: int) -> None:
    channels = config.get("in_channels", 4)
    if channels == 2 * latent_channels + 1:
        raise UnsupportedCheckpoint(
            f"the UNet takes {channels} channels: an inpainting model, not text to image"
        )
    if channels != latent_channels:
        raise UnsupportedCheckpoint(
            f"the UNet takes {channels} channels, the VAE has {latent_channels}: it takes an image"
        )
    predicted = config.get("out_channels", 4)
    if predicted != latent_channels:
        raise UnsupportedCheckpoint(f"the UNet predicts {predicted} channels of {latent_channels}")
    for option in ("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type"):
        if config.get(option) is not None:
            raise UnsupportedCheckpoint(f"the UNet needs more than a prompt: {option}={config[option]!r}")
    if config.get("time_cond_proj_dim") is not None:
        raise UnsupportedCheckpoint(
            "the UNet takes the guidance as an input (time_cond_proj_dim), as LCM does"
        )
    if config.get("addition_embed_type") not in (None, "text"):
        raise UnsupportedCheckpoint(f"addition_embed_type={config['addition_embed_type']!r} is not served")
    width = config.get("cross_attention_dim", 1280)
    if width != text_width and set(width if isinstance(width, list) else [width]) != {text_width}:
        raise UnsupportedCheckpoint(
            f"the UNet attends to states of width {width}, the text encoder gives {text_width}"
        )


def _judge_scheduler(config: Mapping[str, Any]) -> None:
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTION_TYPES:
        raise UnsupportedCheckpoint(
            f"prediction_type {prediction!r} is not one of {', '.join(PREDICTION_TYPES)}"
        )


def _judge_tiny_vae(config: Mapping[str, Any], vae_config: Mapping[str, Any]) -> None:
    if (name := config.get("_class_name")) != "AutoencoderTiny":
        raise UnsupportedCheckpoint(f"tiny_vae is a {name}; only AutoencoderTiny is served")
    channels = config.get("latent_channels", 4), vae_config.get("latent_channels", 4)
    factors = (
        config.get("upsampling_scaling_factor", 2)
        ** (len(config.get("num_decoder_blocks", (3, 3, 3, 1))) - 1),
        2 ** (len(vae_config.get("block_out_channels", (64,))) - 1),
    )
    for what, (tiny, whole) in (("latent channels", channels), ("pixels a latent's side", factors)):
        if tiny != whole:
            raise UnsupportedCheckpoint(f"tiny_vae has {tiny} {what}, the VAE {whole}")


def _load(part_class: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    stem = WEIGHTS[part]
    variant = None
    if not any((folder / part).glob(f"{stem}*.safetensors")):
        raise UnsupportedCheckpoint(
            f"{folder / part} holds no {stem}.safetensors. Pickled weights (.bin, .ckpt) are never read; "
            "convert the folder once in a trusted place: "
            "StableDiffusionPipeline.from_pretrained(folder).save_pretrained(new_folder)"
        )
    if (folder / part / f"{stem}.fp16.safetensors").exists() and not (
        folder / part / f"{stem}.safetensors"
    ).exists():
        variant = "fp16"
    try:
        model, info = part_class.from_pretrained(
            folder / part,
            dtype=dtype,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # each library has its own errors for a damaged file
        raise UnsupportedCheckpoint(f"{folder / part} can't be loaded: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise UnsupportedCheckpoint(
            f"{folder / part}: {len(missing)} tensors are missing from the weights, the first is {missing[0]}"
        )
    return model.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise UnsupportedCheckpoint(f"{folder} can't be loaded: {error}") from error
