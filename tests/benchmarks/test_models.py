"""The models that are measured: variants of LoRAs, and a folder of Stable Diffusion 1.5's shape."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.loras import NoLoras, write_store
from benchmarks.peers.settings import Settings as PeerSettings
from benchmarks.sd15 import write_model
from benchmarks.steps import draft, load_loras
from tests.predictor.serving import write_store as write_small_store
from weights.store import Store


def test_variants_are_other_adapters_of_the_same_cost(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    source = write_small_store(tmp_path / "source", tiny_folders["emoji"])
    names = write_store(source.root, tmp_path / "target", 7)
    store = Store(tmp_path / "target")
    assert sorted(names) == [str(version) for version in store.versions()]
    assert len(names) == 7
    effects = []
    for name in names:
        tensors = store.load(store.resolve(name))
        effects.append(sum(float(tensor.abs().sum()) for key, tensor in tensors.items() if "lora_B" in key))
        assert effects[-1] > 0
    assert len(set(effects)) == 7


def test_a_model_without_loras_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoLoras):
        write_store(tmp_path / "nothing", tmp_path / "target", 4)


def test_the_predictor_serves_the_shape_of_sd15(tmp_path: Path) -> None:
    """At a tenth of its width; the blocks and their order are those of the true one."""
    from predictor.diffusion.diffuser import Diffuser

    write_model(tmp_path, width=32, text_width=24, text_layers=1)
    diffuser = Diffuser.load(tmp_path / "base")
    assert diffuser.native_size == (512, 512)
    assert diffuser.max_prompt_tokens == 75
    for version in Store(tmp_path / "loras").versions():
        tensors = Store(tmp_path / "loras").load(version)
        assert len(tensors) == 2 * 16 * 8  # 16 transformer blocks, two attentions of four projections each
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
        diffuser.add_adapter(str(version), tensors)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # several LoRAs are what it is for
def test_a_peer_draws_the_same_pictures_in_the_shape_of_sd15(tmp_path: Path) -> None:
    from benchmarks.peers.job import Job
    from benchmarks.peers.pipeline import Pipeline
    from predictor.diffusion.diffuser import Diffuser

    write_model(tmp_path, width=32, text_width=24, text_layers=1, sample_size=16)
    settings = PeerSettings(
        base=tmp_path / "base",
        loras=tmp_path / "loras",
        device="cpu",
        dtype="float32",
        threads=1,
        max_batch_size=2,
        port=0,
        adapters="set",
        steps=(2,),
        guidance=(1.0,),
    )
    diffuser = Diffuser.load(tmp_path / "base")
    load_loras(diffuser, tmp_path / "loras")
    samples = diffuser.begin([draft(diffuser, "a red apple", 1, 2, 1.0, "one@1")])
    for _ in range(2):
        samples = diffuser.step(samples)
    (ours,) = diffuser.decode(samples)
    pipeline = Pipeline(settings)
    job = Job(prompt="a red apple", seed=1, steps=2, guidance=1.0, lora="one@1")
    theirs, plain = pipeline.draw([job, job.model_copy(update={"lora": None})])
    pixels = [np.frombuffer(base64.b64decode(each.b64), np.uint8) for each in (theirs, plain)]
    assert theirs.shape == [128, 128, 3]
    assert np.abs(pixels[0].astype(int) - ours.ravel().astype(int)).max() <= 2
    assert np.abs(pixels[0].astype(int) - pixels[1].astype(int)).max() > 2
