import json
import os
import shutil
from pathlib import Path

import peft
import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from tests.tiny_models import make_lora, make_pipeline
from tests.weights.attacks import MARKER, PICKLES, RUN, SAFETENSORS
from tests.weights.lora_layouts import (
    as_accelerate_state,
    as_attention_processors,
    as_convolutions,
    as_diffusers,
    as_kohya,
    only_attention,
    path_of,
)
from weights import importer
from weights.errors import CorruptLora, IncompatibleLora, WeightsError
from weights.importer import Imported, import_lora
from weights.store import Store

Deltas = dict[str, torch.Tensor]
# The files of the replaced system's checkpoints.
STATE = (
    "custom_checkpoint_0.pkl",
    "optimizer.bin",
    "pytorch_lora_weights.bin",
    "pytorch_model.bin",
    "random_states_0.pkl",
    "scaler.pt",
    "scheduler.bin",
)
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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "loras")


@pytest.fixture
def base(tiny_folders: dict[str, Path]) -> Path:
    return tiny_folders["sd15"]


def snapshot(root: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in root.rglob("*")
    }


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


PIPELINE = make_pipeline("sd15")
LORA = make_lora(PIPELINE.unet)
CONVOLUTIONS = as_convolutions(LORA, PIPELINE.unet)
ALL, ATTENTION = len(LORA) // 2, len(only_attention(LORA)) // 2


@pytest.mark.parametrize(
    ("tensors", "count"),
    [
        (as_attention_processors(LORA, "unet."), ATTENTION),
        (as_diffusers(only_attention(LORA)), ATTENTION),
        (CONVOLUTIONS, ALL),
        (as_kohya(only_attention(LORA), 3.0), ATTENTION),
        (as_kohya(only_attention(LORA), None), ATTENTION),
    ],
    ids=["processor", "diffusers", "peft", "kohya", "kohya-without-alpha"],
)
def test_the_change_of_weights_is_the_one_of_diffusers(
    tensors: dict[str, torch.Tensor], count: int, base: Path, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "style.safetensors"
    save_file(tensors, file)
    imported = import_lora(file, name="style", base=base, store=store)
    pipeline = make_pipeline("sd15")
    pipeline.load_lora_weights(str(file))
    assert_same(deltas_in_store(store, imported), deltas_in_diffusers(pipeline.unet), count)


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


def test_the_canonical_file_is_read_by_diffusers(base: Path, store: Store) -> None:
    """Where no 1x1 convolution is adapted: those are matrices in the store, which diffusers does not take."""
    linear = {key: tensor for key, tensor in LORA.items() if CONVOLUTIONS[key].ndim == 2}
    source = store.root.parent / "linear.safetensors"
    save_file(linear, source)
    imported = import_lora(source, name="style", base=base, store=store, alpha=3.0)
    pipeline = make_pipeline("sd15")
    pipeline.load_lora_weights(str(store.root / "style" / "1" / "adapter.safetensors"))
    assert_same(deltas_in_store(store, imported), deltas_in_diffusers(pipeline.unet), len(linear) // 2)


def write_state(folder: Path, lora: object) -> Path:
    """A checkpoint of the replaced system; every file but the LoRA's would run code when unpickled."""
    folder.mkdir()
    for name in STATE:
        torch.save(lora if name == "pytorch_lora_weights.bin" else {"a": RUN}, folder / name)
    return folder


def test_of_a_state_folder_only_the_lora_is_opened(base: Path, store: Store, tmp_path: Path) -> None:
    Path(MARKER).unlink(missing_ok=True)
    state = write_state(tmp_path / "checkpoint-500", as_attention_processors(LORA))
    imported = import_lora(
        state, name="notoemoji", base=base, store=store, alias="stable", labels={"stage": "old"}
    )
    assert imported.file == state / "pytorch_lora_weights.bin"
    assert not Path(MARKER).exists()
    manifest = imported.version.manifest
    assert manifest.source == "checkpoint-500/pytorch_lora_weights.bin"
    assert manifest.labels == {"stage": "old"}
    assert (manifest.rank, manifest.alpha, len(manifest.targets)) == (2, 2.0, ATTENTION)
    assert imported.notes[0].startswith("The file does not tell its alpha")
    wanted = only_attention(LORA)
    assert all(torch.equal(store.load(imported.version)[key], tensor) for key, tensor in wanted.items())


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


def test_the_file_of_a_whole_model_without_a_lora(base: Path, store: Store, tmp_path: Path) -> None:
    shutil.copyfile(base / "unet" / "diffusion_pytorch_model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(IncompatibleLora, match="holds no LoRA tensors"):
        import_lora(tmp_path, name="style", base=base, store=store)
    state = as_accelerate_state(CONVOLUTIONS, PIPELINE.unet)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "model.safetensors")
    imported = import_lora(tmp_path, name="style", base=base, store=store)
    assert {path_of(key) for key in LORA} == set(imported.version.manifest.targets)


@pytest.mark.parametrize("name", SAFETENSORS)
def test_attacks_are_refused_and_leave_the_store_as_it_was(
    name: str, base: Path, store: Store, tmp_path: Path
) -> None:
    save_file(LORA, tmp_path / "good.safetensors")
    import_lora(tmp_path / "good.safetensors", name="style", base=base, store=store, alias="stable")
    before = snapshot(store.root)
    make, problem = SAFETENSORS[name]
    file = tmp_path / "pytorch_lora_weights.safetensors"
    file.write_bytes(make())
    with pytest.raises((CorruptLora, IncompatibleLora), match=problem) as caught:
        import_lora(file, name="style", base=base, store=store, alias="stable")
    assert caught.value.file == str(file)
    assert caught.value.remedy
    assert snapshot(store.root) == before


@pytest.mark.parametrize("name", PICKLES)
def test_pickled_attacks_leave_the_store_as_it_was(
    name: str, base: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's program runs in this process here; test_pickles.py runs it where it belongs."""
    from weights import unpickler

    def read_here(file: Path, *, contains: str) -> dict[str, torch.Tensor]:
        try:
            with file.open("rb") as stream:
                return unpickler.load(stream, contains, file.stat().st_size)
        except (unpickler.Refusal, RuntimeError, ValueError) as error:
            raise CorruptLora(str(error), file=file) from None

    monkeypatch.setattr(importer, "read_pickle", read_here)
    save_file(LORA, tmp_path / "good.safetensors")
    import_lora(tmp_path / "good.safetensors", name="style", base=base, store=store)
    before = snapshot(store.root)
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(PICKLES[name][0]())
    with pytest.raises(WeightsError):
        import_lora(tmp_path, name="style", base=base, store=store)
    assert snapshot(store.root) == before
    assert not Path(MARKER).exists()


def test_folders_and_files_without_a_lora(base: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "dir.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "endless.safetensors").symlink_to("/dev/zero")
    (tmp_path / "dangling.safetensors").symlink_to(tmp_path / "nothing")
    for name in (
        "empty",
        "dir.safetensors",
        "pipe.safetensors",
        "endless.safetensors",
        "dangling.safetensors",
        "absent",
    ):
        with pytest.raises(CorruptLora) as caught:
            import_lora(tmp_path / name, name="style", base=base, store=store)
        assert caught.value.remedy
    assert not store.root.exists()


def test_links_to_files_are_followed_as_hub_caches_have_them(
    base: Path, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "snapshot").mkdir()
    save_file(LORA, tmp_path / "blob")
    (tmp_path / "snapshot" / "pytorch_lora_weights.safetensors").symlink_to(tmp_path / "blob")
    assert str(import_lora(tmp_path / "snapshot", name="style", base=base, store=store).version) == "style@1"


def test_absurd_amounts_are_refused_before_they_are_read(
    base: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(LORA, tmp_path / "lora.safetensors")
    for name, limit in (("MAX_BYTES", 100), ("MAX_TENSORS", 3), ("MAX_NUMBERS", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(importer, name, limit)
            with pytest.raises(WeightsError):
                import_lora(tmp_path / "lora.safetensors", name="style", base=base, store=store)
