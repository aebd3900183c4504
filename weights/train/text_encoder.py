"""Stage `text`: a byte-pair CLIPTokenizer and a small CLIPTextModel trained from prompts alone to tell
which glyph, colour and feature is meant and roughly what the picture looks like.

Knows nothing of the UNet, which later reads its states.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from weights.glyphs.dataset import load_glyphs
from weights.glyphs.features import FEATURES
from weights.glyphs.recolour import COLOURS
from weights.train.pictures import Subject
from weights.train.prompts import STYLES, corpus, sample_prompt
from weights.train.run import Run

CONTEXT = 32
HIDDEN = 192
VOCABULARY = 3000
COMPONENTS = 128  # of the principal components that stand for a picture
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(lines: Sequence[str], folder: Path) -> CLIPTokenizer:
    """A CLIP-style byte-pair tokenizer of `lines`, saved in `folder`."""
    bpe = Tokenizer(
        models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=2,
        show_progress=False,
    )
    bpe.train_from_iterator(lines, trainer)
    trained = json.loads(bpe.to_str())["model"]
    vocabulary = dict(trained["vocab"])
    for byte in alphabet:  # CLIPTokenizer wants every byte with and without the end-of-word mark
        for token in (byte, byte + "</w>"):
            vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in trained["merges"]]
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def encode_prompts(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, prompts: Sequence[str]) -> torch.Tensor:
    """Prompts → states float [N, CONTEXT, HIDDEN], padded as StableDiffusionPipeline does."""
    ids = tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
    return encoder(ids.to(encoder.device))[0]


def principal_components(pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [2, N, 128, 128, 3] → float [N, COMPONENTS]: both looks at 16x16, projected and scaled."""
    small = torch.from_numpy(pictures).flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
    flat = F.avg_pool2d(small, 8).reshape(2, -1, 768).permute(1, 0, 2).reshape(pictures.shape[1], -1)
    flat = flat - flat.mean(0)
    _, _, axes = torch.pca_lowrank(flat, min(COMPONENTS, len(flat)), niter=4)
    projected = flat @ axes
    return F.pad(projected / projected.std(0)[0] * 3, (0, COMPONENTS - projected.shape[1]))


class Heads(nn.Module):
    """What is read off a pooled text state during training: glyph, colour, feature, look and picture."""

    def __init__(self, glyphs: int) -> None:
        super().__init__()
        self.sizes = [glyphs, len(COLOURS) + 1, len(FEATURES) + 1, len(STYLES) + 1]
        self.classes = nn.Linear(HIDDEN, sum(self.sizes))
        self.picture = nn.Linear(HIDDEN, COMPONENTS)

    def forward(self, state: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """State [B, HIDDEN] → scores of glyph, colour, feature and look, and the picture's components."""
        return list(self.classes(state).split(self.sizes, dim=-1)), self.picture(state)


def train_text_encoder(
    run: Run, subjects: Sequence[Subject], pictures: npt.NDArray[np.uint8], batch: int = 128
) -> None:
    """Train tokenizer and encoder; saved in `run.folder / "tokenizer"` and `run.folder / "model"`."""
    chance = random.Random(0)
    run.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(corpus(subjects, chance), run.folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        projection_dim=HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    names = [glyph.name for glyph in load_glyphs()]
    heads = Heads(len(names))
    targets = principal_components(pictures).to(run.device)
    colours, features, looks = list(COLOURS), list(FEATURES), list(STYLES)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=run.peak, betas=(0.9, 0.98), weight_decay=0.01)
    encoder_, heads_, optimizer = run.accelerator.prepare(encoder, heads, optimizer)
    plain = [i for i, s in enumerate(subjects) if s.colour is None and s.feature is None]
    composed = [i for i, s in enumerate(subjects) if s.colour is not None or s.feature is not None]

    def losses(_: int) -> dict[str, torch.Tensor]:
        picks = [chance.choice(plain if chance.random() < 0.6 else composed) for _ in range(batch)]
        styles = [chance.choice((None, *looks)) for _ in picks]
        prompts = [sample_prompt(subjects[i], chance, style) for i, style in zip(picks, styles, strict=True)]
        ids = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(
            run.device
        )
        states = encoder_(ids)[0]
        ends = (ids == tokenizer.eos_token_id).int().argmax(1)
        chosen = [subjects[i] for i in picks]
        labels = torch.tensor(
            [
                [
                    names.index(s.glyph),
                    colours.index(s.colour) + 1 if s.colour else 0,
                    features.index(s.feature) + 1 if s.feature else 0,
                    looks.index(style) + 1 if style else 0,
                ]
                for s, style in zip(chosen, styles, strict=True)
            ],
            device=run.device,
        )
        loss = torch.zeros((), device=run.device)
        right = loss
        for pooled in (states[torch.arange(len(ids)), ends], states[:, -1]):
            classes, picture = heads_(pooled)
            for index, scores in enumerate(classes):
                loss = loss + 0.5 * F.cross_entropy(scores, labels[:, index], label_smoothing=0.05)
            loss = loss + 0.15 * F.mse_loss(picture, targets[picks])
            right = (classes[0].argmax(1) == labels[:, 0]).float().mean()
        return {"loss": loss, "right": right}

    for step in run.loop(optimizer, losses):
        encoder.save_pretrained(run.folder / "model")
        print(f"\n{run.stage} step {step} saved", flush=True)
