"""The import of a folder or a file: what is opened, what is not, and what the version says of its source."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.weights.attacks import MARKER, RUN
from tests.weights.lora_layouts import (
    as_accelerate_state,
    as_attention_processors,
    as_convolutions,
    only_attention,
    path_of,
)
from weights.errors import CorruptLora, IncompatibleLora
from weights.importer import import_lora
from weights.store import Store

Tensors = dict[str, torch.Tensor]

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


def write_state(folder: Path, lora: object) -> Path:
    """A checkpoint of the replaced system; every file but the LoRA's would run code when unpickled."""
    folder.mkdir()
    for name in STATE:
        torch.save(lora if name == "pytorch_lora_weights.bin" else {"a": RUN}, folder / name)
    return folder


def test_of_a_state_folder_only_the_lora_is_opened(
    lora: Tensors, base: Path, store: Store, tmp_path: Path
) -> None:
    Path(MARKER).unlink(missing_ok=True)
    state = write_state(tmp_path / "checkpoint-500", as_attention_processors(lora))
    imported = import_lora(
        state, name="notoemoji", base=base, store=store, alias="stable", labels={"stage": "old"}
    )
    assert imported.file == state / "pytorch_lora_weights.bin"
    assert not Path(MARKER).exists()
    manifest, wanted = imported.version.manifest, only_attention(lora)
    assert manifest.source == "checkpoint-500/pytorch_lora_weights.bin"
    assert manifest.labels == {"stage": "old"}
    assert (manifest.rank, manifest.alpha, len(manifest.targets)) == (2, 2.0, len(wanted) // 2)
    assert imported.notes[0].startswith("The file does not tell its alpha")
    assert all(torch.equal(store.load(imported.version)[key], tensor) for key, tensor in wanted.items())


def test_the_file_of_a_whole_model_without_a_lora(
    lora: Tensors, unet: torch.nn.Module, base: Path, store: Store, tmp_path: Path
) -> None:
    shutil.copyfile(base / "unet" / "diffusion_pytorch_model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(IncompatibleLora, match="holds no LoRA tensors"):
        import_lora(tmp_path, name="style", base=base, store=store)
    state = as_accelerate_state(as_convolutions(lora, unet), unet)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "model.safetensors")
    imported = import_lora(tmp_path, name="style", base=base, store=store)
    assert {path_of(key) for key in lora} == set(imported.version.manifest.targets)


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
    lora: Tensors, base: Path, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "snapshot").mkdir()
    save_file(lora, tmp_path / "blob")
    (tmp_path / "snapshot" / "pytorch_lora_weights.safetensors").symlink_to(tmp_path / "blob")
    assert str(import_lora(tmp_path / "snapshot", name="style", base=base, store=store).version) == "style@1"
