"""Training: prompts, subjects, the resumable run, and every stage for real at a few steps, to an import."""

import random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file

from weights.eval.compositions import load_compositions
from weights.store import Store
from weights.train.__main__ import Workshop
from weights.train.autoencoder import build_autoencoder, choose, fold_whitening, to_tensor
from weights.train.denoiser import build_scheduler, build_unet, supervised_loss, timestep_weights
from weights.train.emphasis import STRENGTH, emphasis
from weights.train.export import export, unpack
from weights.train.pictures import Subject, draw, subjects
from weights.train.prompts import STYLES, glyphs_by_name, plain_phrase, sample_prompt
from weights.train.run import Average, Run
from weights.train.supervision import SupervisedUNet, to_cells
from weights.train.text_encoder import HIDDEN, to_patches


def test_nothing_that_the_evaluation_asks_for_is_in_the_training_set():
    trained = {(s.glyph, s.colour or s.feature) for s in subjects()}
    assert trained.isdisjoint({(c.glyph, c.modifier) for c in load_compositions()})


def test_prompts_name_the_subject_and_the_style_only_when_asked():
    chance = random.Random(0)
    colour = [sample_prompt(Subject("automobile", colour="blue"), chance) for _ in range(50)]
    assert all("blue" in p.lower() and ("car" in p.lower() or "automobile" in p.lower()) for p in colour)
    assert not any("style" in p for p in colour)
    for look in STYLES:
        assert STYLES[look][0] in sample_prompt(Subject("cat face", feature="crown"), chance, look)


def test_every_glyph_can_be_said_in_many_ways():
    chance = random.Random(0)
    for glyph in glyphs_by_name().values():
        said = {plain_phrase(glyph, chance) for _ in range(40)}
        assert glyph.name in said
        assert all(phrase.strip() for phrase in said)


def test_the_whitened_autoencoder_has_unit_latents_and_draws_the_same():
    torch.manual_seed(0)
    pictures = np.stack([draw(s, "notoemoji") for s in list(subjects())[:6]])
    autoencoder = build_autoencoder().eval()
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.encode(to_tensor(pictures)).latent_dist.mean).sample
        fold_whitening(autoencoder, pictures)
        latents = autoencoder.encode(to_tensor(pictures)).latent_dist.mean
        after = autoencoder.decode(latents).sample
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert (before - after).abs().max() < 1e-3


def test_half_of_the_chosen_pictures_are_glyphs_as_they_are():
    torch.manual_seed(0)
    looks, chosen = choose(np.zeros((2, 50, 1, 1, 3), np.uint8), 5, 4000)
    assert set(looks) == {0, 1}
    assert (chosen[:2000] < 5).all()
    assert set(chosen[2000:]) == set(range(50))


def test_emphasis_lies_where_a_composition_differs_from_its_plain_glyph():
    torch.manual_seed(0)
    named = [Subject("cat face"), Subject("dog face"), Subject("dog face", feature="crown")]
    latents = torch.randn(2, 3, 8, 16, 16)
    latents[:, 2] = latents[:, 1]
    latents[:, 2, :, :4, 6:10] += 2.0
    latents[:, 2, :, 4, 6:10] += 1.0
    minded = emphasis(latents.half(), named)
    assert minded.shape == (2, 3, 1, 16, 16)
    assert torch.equal(minded[:, :2], torch.ones(2, 2, 1, 16, 16))
    assert minded[:, 2, :, :4, 6:10] == pytest.approx(1 + STRENGTH, rel=0.01)
    assert minded[:, 2, :, 4, 6:10] == pytest.approx(1 + STRENGTH / 4, rel=0.01)
    assert torch.equal(minded[:, 2, :, 5:], torch.ones(2, 1, 11, 16))


def test_timestep_weights_stay_positive_and_up_where_noise_is_high():
    weights = timestep_weights(build_scheduler())
    assert weights.shape == (1000,)
    assert weights.min() >= 0.05
    assert weights[999] == pytest.approx(0.7)


def test_an_average_swaps_there_and_back():
    layer = torch.nn.Linear(2, 2)
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight += 1
    average.update()
    live = layer.weight.detach().clone()
    average.swap()
    assert not torch.equal(layer.weight, live)
    average.swap()
    assert torch.equal(layer.weight, live)


def train_line(folder, steps, stop=None):
    """A run of a straight line fit; returns the weight after `stop` steps (a kill) or at the end."""
    torch.manual_seed(0)
    run = Run(folder, "line", steps, device="cpu", save_every=5, peak=0.1, warmup=1)
    line = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(line.parameters(), lr=0.1)
    line, optimizer = run.accelerator.prepare(line, optimizer)
    x = torch.linspace(-1, 1, 8)[:, None]
    for done in run.loop(optimizer, lambda _: {"loss": (line(x) - 3 * x).pow(2).mean()}, Average(line, 0.9)):
        if done == stop:
            break
    return run.done, line.weight.item()


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint_as_if_it_had_not(tmp_path):
    whole = train_line(tmp_path / "whole", 20)
    assert train_line(tmp_path / "parts", 20, stop=10)[0] == 10
    assert train_line(tmp_path / "parts", 20) == pytest.approx(whole)
    assert train_line(tmp_path / "parts", 20) == pytest.approx(whole)  # nothing left to do


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """Every stage for two steps on a few subjects, then export."""
    folder = tmp_path_factory.mktemp("train")
    workshop = Workshop(folder / "runs", "cpu")
    every = workshop.subjects
    workshop.subjects = [*every[:30], *every[300:310], *every[-10:]]
    workshop.sheet = ["cat"]
    for stage in ("autoencoder", "text", "base", "lora-notoemoji", "lora-openmoji", "decoder"):
        workshop.start(stage, steps=2, batch=4)
    export(folder / "runs", folder / "embedded", ("notoemoji", "openmoji"))
    return folder / "embedded"


def test_training_ends_in_a_folder_that_diffusers_loads_and_two_imported_loras(embedded):
    store = Store(embedded / "loras")
    assert sorted(map(str, store.versions())) == ["notoemoji@1", "openmoji@1"]
    pipeline = StableDiffusionPipeline.from_pretrained(embedded / "base", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    tensors = store.load(store.resolve("openmoji"))
    pipeline.load_lora_weights(dict(tensors), adapter_name="openmoji")
    loaded = sum(".lora_A." in name or ".lora_B." in name for name, _ in pipeline.unet.named_parameters())
    assert loaded == len(tensors) > 0
    drawn = pipeline("cat", num_inference_steps=2, guidance_scale=2.0, output_type="np").images
    assert drawn.shape == (1, 128, 128, 3)
    assert isinstance(pipeline.vae, AutoencoderKL)


def test_training_goes_on_from_the_exported_base(embedded, tmp_path):
    unpack(embedded, tmp_path / "runs")
    again = Workshop(tmp_path / "runs", "cpu")
    again.sheet = ["cat"]
    again.subjects = [*again.subjects[:10], *again.subjects[300:304], *again.subjects[-4:]]
    before = load_file(tmp_path / "runs/base/model/diffusion_pytorch_model.safetensors")["conv_in.weight"]
    again.start("base", steps=1, batch=2)
    after = load_file(tmp_path / "runs/base/model/diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert not torch.equal(before.float(), after)
    assert (before.float() - after).abs().max() < 0.1  # it went on; it did not begin anew


def test_an_autoencoder_that_goes_on_keeps_its_latents(embedded, tmp_path):
    unpack(embedded, tmp_path / "runs")
    again = Workshop(tmp_path / "runs", "cpu")
    again.subjects = again.subjects[:24]
    before = again.latents()
    again.start("autoencoder", steps=2, batch=4)
    after = again.latents()  # made anew: the old ones are gone
    assert not torch.equal(before, after)
    assert (before - after).float().pow(2).mean() < 0.2  # their variance is 1


def test_the_lora_run_keeps_the_replaced_systems_kind_of_folder(embedded):
    state = embedded.parent / "runs" / "lora-notoemoji" / "state"
    names = {file.name for file in state.iterdir()}
    assert {"pytorch_lora_weights.bin", "pytorch_model.bin", "optimizer.bin", "random_states_0.pkl"} <= names


class Pointing(torch.nn.Module):
    """Stands for to_q or to_k of attention heads: place i points at patch `patches[i]`, -1 at none."""

    def __init__(self, patches, heads, width):
        super().__init__()
        one_hot = torch.eye(17, width // heads)[patches] * 100 * (patches >= 0)[:, None]
        self.register_buffer("points", one_hot.repeat(1, heads))

    def forward(self, hidden):
        return self.points.expand(len(hidden), -1, -1)


def test_supervision_asks_each_place_for_the_state_of_its_own_patch():
    unet = build_unet()
    supervised = SupervisedUNet(unet)
    latents, states = torch.randn(2, 8, 16, 16), torch.randn(2, 32, HIDDEN)
    steps = torch.tensor([999, 500])
    for attention in (m.attn2 for m in unet.modules() if hasattr(m, "attn2")):
        width = attention.to_q.out_features
        side = 1024 // width  # 256 channels at 4x4, 128 at 8x8
        wanted = torch.tensor([y * 4 // side * 4 + x * 4 // side for y in range(side) for x in range(side)])
        attention.to_q = Pointing(wanted, attention.heads, width)
        attention.to_k = Pointing(torch.tensor([-1] * 16 + list(range(16))), attention.heads, width)
    _, attended, held = supervised(latents, steps, states, latents)
    assert attended.max() < 1e-3
    assert held.shape == (2,)
    for attention in (m.attn2 for m in unet.modules() if hasattr(m, "attn2")):
        attention.to_k.points.zero_()
    _, attended, _ = supervised(latents, steps, states, latents)
    assert attended.tolist() == pytest.approx([np.log(32)] * 2)  # no state is preferred to another
    assert torch.equal(to_cells(latents, 4), to_patches(torch.stack([latents, latents]))[..., :128])


def test_supervision_teaches_where_to_look_and_leaves_a_plain_unet():
    torch.manual_seed(0)
    unet = build_unet()
    plain = set(unet.state_dict())
    supervised = SupervisedUNet(unet)
    optimizer = torch.optim.AdamW(supervised.parameters(), lr=3e-4)
    batch = (torch.randn(4, 8, 16, 16), torch.randn(4, 32, HIDDEN), torch.tensor([999, 900, 800, 100]))
    batch = (*batch, torch.ones(4, 1, 16, 16))
    seen = []
    for _ in range(6):
        losses = supervised_loss(supervised, build_scheduler(), batch)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append((losses["attended"].item(), losses["held"].item()))
    assert seen[-1][0] < seen[0][0]
    assert seen[-1][1] < seen[0][1]
    assert set(unet.state_dict()) == plain
