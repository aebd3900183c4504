"""Folders changed in one place each: what is read of them, and which are refused with what reason."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from predictor.diffusion.checkpoint import UnsupportedCheckpoint
from predictor.diffusion.diffuser import Defaults, Diffuser
from tests.permissions import shut
from tests.predictor.diffusion.drawing import alone, make_row


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
    latents = alone(Diffuser.load(folder), make_row()).latents
    wanted = alone(Diffuser.load(tiny_folders["sd15"]), make_row()).latents
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
