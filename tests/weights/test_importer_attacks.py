"""Files made to do harm: the import refuses them, and the store stays as it was."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.weights.attacks import MARKER, PICKLES, SAFETENSORS
from weights import importer
from weights.errors import CorruptLora, IncompatibleLora, WeightsError
from weights.importer import import_lora
from weights.store import Store

Tensors = dict[str, torch.Tensor]


def snapshot(root: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("name", SAFETENSORS)
def test_attacks_are_refused_and_leave_the_store_as_it_was(
    name: str, lora: Tensors, base: Path, store: Store, tmp_path: Path
) -> None:
    save_file(lora, tmp_path / "good.safetensors")
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
    name: str, lora: Tensors, base: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's program runs in this process here; test_pickles.py runs it where it belongs."""
    from weights import unpickler

    def read_here(file: Path, *, contains: str) -> Tensors:
        try:
            with file.open("rb") as stream:
                return unpickler.load(stream, contains, file.stat().st_size)
        except (unpickler.Refusal, RuntimeError, ValueError) as error:
            raise CorruptLora(str(error), file=file) from None

    monkeypatch.setattr(importer, "read_pickle", read_here)
    save_file(lora, tmp_path / "good.safetensors")
    import_lora(tmp_path / "good.safetensors", name="style", base=base, store=store)
    before = snapshot(store.root)
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(PICKLES[name][0]())
    with pytest.raises(WeightsError):
        import_lora(tmp_path, name="style", base=base, store=store)
    assert snapshot(store.root) == before
    assert not Path(MARKER).exists()


def test_absurd_amounts_are_refused_before_they_are_read(
    lora: Tensors, base: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(lora, tmp_path / "lora.safetensors")
    for name, limit in (("MAX_BYTES", 100), ("MAX_TENSORS", 3), ("MAX_NUMBERS", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(importer, name, limit)
            with pytest.raises(WeightsError):
                import_lora(tmp_path / "lora.safetensors", name="style", base=base, store=store)
