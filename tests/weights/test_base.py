import json
import shutil
from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel
from torch import nn

from weights.base import read_base
from weights.errors import UnusableBase


@pytest.mark.parametrize("kind", ["sd15", "sd2", "emoji"])
def test_matrices_are_the_linear_modules_and_1x1_convolutions(
    tiny_folders: dict[str, Path], kind: str
) -> None:
    base = read_base(tiny_folders[kind])
    unet = UNet2DConditionModel.from_pretrained(tiny_folders[kind], subfolder="unet")
    for path, module in unet.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
            assert base.matrix(path) == tuple(weight.shape[:2])
        else:
            assert base.matrix(path) is None
    assert base.layers_per_block == 1


def test_the_hash_is_of_the_unet_alone(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    wanted = read_base(tiny_folders["sd15"])
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folders["sd15"] / "unet", copy)
    assert read_base(copy).sha256 == wanted.sha256
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "_name_or_path": "elsewhere"}))
    assert read_base(copy).sha256 == wanted.sha256
    (copy / "config.json").write_text(json.dumps({**config, "attention_head_dim": 1}))
    assert read_base(copy).sha256 != wanted.sha256
    (copy / "config.json").write_text(json.dumps(config))
    file = copy / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert read_base(copy).sha256 != wanted.sha256


def test_shards_and_variants(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    whole = read_base(tiny_folders["sd15"])
    unet = UNet2DConditionModel.from_pretrained(tiny_folders["sd15"], subfolder="unet")
    unet.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert read_base(tmp_path / "shards").shapes == whole.shapes
    unet.half().save_pretrained(tmp_path / "half", variant="fp16")
    assert read_base(tmp_path / "half").shapes == whole.shapes


def test_folders_that_are_no_base(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        shutil.copytree(tiny_folders["sd15"] / "unet", tmp_path / name)
        return tmp_path / name

    pickled, foreign, cut, escaping, listed = (
        copy(name) for name in ("bin", "foreign", "cut", "escaping", "listed")
    )
    weights = "diffusion_pytorch_model.safetensors"
    (pickled / weights).rename(pickled / "diffusion_pytorch_model.bin")
    (foreign / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    (cut / weights).write_bytes((cut / weights).read_bytes()[:1000])
    (escaping / f"{weights}.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    (listed / "config.json").write_text("[]")
    for folder in (tmp_path / "nowhere", tmp_path, pickled, foreign, cut, escaping, listed):
        with pytest.raises(UnusableBase) as caught:
            read_base(folder)
        assert caught.value.remedy
        assert str(folder) in str(caught.value)
