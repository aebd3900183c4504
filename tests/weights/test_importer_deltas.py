"""What an imported LoRA adds to the weights, against what diffusers and peft make of the same file."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from tests.tiny_models import make_pipeline
from tests.weights.lora_layouts import (
    as_attention_processors,
    as_convolutions,
    as_diffusers,
    as_kohya,
    only_attention,
)
from weights.errors import IncompatibleLora
from weights.importer import Imported, import_lora
from weights.store import Store

Tensors = dict[str, torch.Tensor]
Deltas = dict[str, torch.Tensor]
TARGETS = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "time_emb_proj",
]


def deltas_in_store(store: Store, imported: Imported) -> Deltas:
    """Module path to B @ A of what was imported."""
    tensors = store.load(imported.version)
    return {
        path: (
            tensors[f"unet.{path}.lora_B.weight"].double() @ tensors[f"unet.{path}.lora_A.weight"].double()
        )
        for path in imported.version.manifest.targets
    }


def deltas_in_diffusers(unet: torch.nn.Module) -> Deltas:
    """Module path to what peft adds to its weight, as a matrix."""
    return {
        path: module.get_delta_weight(module.active_adapters[0]).double().flatten(1)
        for path, module in unet.named_modules()
        if isinstance(module, LoraLayer) and module.lora_A
    }


def assert_same(ours: Deltas, theirs: Deltas, count: int) -> None:
    assert len(theirs) == count, "diffusers loaded a part of the file"
    assert ours.keys() == theirs.keys()
    for path, delta in theirs.items():
        assert delta.abs().max() > 0
        torch.testing.assert_close(ours[path], delta, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (lambda lora, unet: as_attention_processors(lora, "unet."), only_attention),
        (lambda lora, unet: as_diffusers(only_attention(lora)), only_attention),
        (as_convolutions, dict),
        (lambda lora, unet: as_kohya(only_attention(lora), 3.0), only_attention),
        (lambda lora, unet: as_kohya(only_attention(lora), None), only_attention),
    ],
    ids=["processor", "diffusers", "peft", "kohya", "kohya-without-alpha"],
)
def test_the_change_of_weights_is_the_one_of_diffusers(
    write: Callable[[Tensors, torch.nn.Module], Tensors],
    written: Callable[[Tensors], Tensors],
    lora: Tensors,
    unet: torch.nn.Module,
    base: Path,
    store: Store,
    tmp_path: Path,
) -> None:
    """`write` makes the file of the LoRA, `written` is the part of it that the layout can name."""
    file = tmp_path / "style.safetensors"
    save_file(write(lora, unet), file)
    imported = import_lora(file, name="style", base=base, store=store)
    pipeline = make_pipeline("sd15")
    pipeline.load_lora_weights(str(file))
    assert_same(deltas_in_store(store, imported), deltas_in_diffusers(pipeline.unet), len(written(lora)) // 2)


def trained_unet(base: Path, **config: object) -> UNet2DConditionModel:
    """A UNet with a peft LoRA whose matrices are both random, as after training."""
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    torch.manual_seed(4)
    unet.add_adapter(peft.LoraConfig(target_modules=TARGETS, init_lora_weights=False, **config))
    return unet


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4, "lora_alpha": 4},
        {"r": 4, "lora_alpha": 6},
        {"r": 4, "lora_alpha": 6, "use_rslora": True},
        {"r": 4, "lora_alpha": 6, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_q": 5, "attn1.to_k": 1}},
    ],
    ids=["plain", "alpha", "rank-stabilized", "patterns"],
)
def test_alpha_in_the_metadata_of_diffusers(
    config: dict[str, object], base: Path, store: Store, tmp_path: Path
) -> None:
    unet = trained_unet(base, **config)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "lora",
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
    )
    imported = import_lora(tmp_path / "lora", name="style", base=base, store=store)
    theirs = deltas_in_diffusers(unet)
    assert_same(deltas_in_store(store, imported), theirs, len(theirs))
    assert imported.notes == ()


def test_alpha_from_the_configuration_beside_the_file(base: Path, store: Store, tmp_path: Path) -> None:
    unet = trained_unet(base, r=4, lora_alpha=6)
    (tmp_path / "peft").mkdir()
    save_file(get_peft_model_state_dict(unet), tmp_path / "peft" / "adapter_model.safetensors")
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 6}))
    imported = import_lora(tmp_path / "peft", name="style", base=base, store=store)
    theirs = deltas_in_diffusers(unet)
    assert_same(deltas_in_store(store, imported), theirs, len(theirs))
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({"use_dora": True}))
    with pytest.raises(IncompatibleLora, match=r"adapter_config\.json: use_dora"):
        import_lora(tmp_path / "peft", name="style", base=base, store=store)


@pytest.mark.parametrize("safe", [True, False])
def test_states_of_accelerate_with_peft(base: Path, store: Store, tmp_path: Path, safe: bool) -> None:
    unet = trained_unet(base, r=4, lora_alpha=6)
    theirs = deltas_in_diffusers(unet)
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(unet)
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=safe)
    assert prepared is not None
    imported = import_lora(tmp_path / "state", name="style", base=base, store=store, alpha=6.0)
    assert imported.file.name == ("model.safetensors" if safe else "pytorch_model.bin")
    assert_same(deltas_in_store(store, imported), theirs, len(theirs))


def test_the_canonical_file_is_read_by_diffusers(
    lora: Tensors, unet: torch.nn.Module, base: Path, store: Store
) -> None:
    """Where no 1x1 convolution is adapted: those are matrices in the store, which diffusers does not take."""
    trained = as_convolutions(lora, unet)
    linear = {key: tensor for key, tensor in lora.items() if trained[key].ndim == 2}
    source = store.root.parent / "linear.safetensors"
    save_file(linear, source)
    imported = import_lora(source, name="style", base=base, store=store, alpha=3.0)
    pipeline = make_pipeline("sd15")
    pipeline.load_lora_weights(str(store.root / "style" / "1" / "adapter.safetensors"))
    assert_same(deltas_in_store(store, imported), deltas_in_diffusers(pipeline.unet), len(linear) // 2)
