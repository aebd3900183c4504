"""Stage `text`: a byte-pair CLIPTokenizer and a small CLIPTextModel trained to tell which glyph, colour and
feature a prompt means, and to sketch the picture: each of the last PATCHES states foretells one patch of the
latents in both looks.

The sketch spares the UNet most of its work: it need not learn every picture by heart, only to read at each
place what the state for that place says, and that is the same for all pictures. Knows nothing of the UNet.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from weights.glyphs.dataset import load_glyphs
from weights.glyphs.features import FEATURES
from weights.glyphs.recolour import COLOURS
from weights.train.emphasis import emphasis
from weights.train.pictures import Subject
from weights.train.prompts import STYLES, corpus, sample_prompt
from weights.train.run import Run

CONTEXT = 32
HIDDEN = 192
INTERMEDIATE = 1024
VOCABULARY = 3000
PATCHES = 16  # a 4x4 grid; the last states of the context, which short prompts leave to padding
SHARES = (0.4, 0.2, 0.4)  # of plain glyphs, of colours and of features among the prompts
SKETCH = 10.0  # weight of the sketch beside the classes
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


def to_patches(latents: torch.Tensor) -> torch.Tensor:
    """Latents [2, N, C, 16, 16] → what each patch of both looks holds, float [N, PATCHES, 2 * C * 16]."""
    looks, count, channels = latents.shape[:3]
    grid = latents.float().view(looks, count, channels, 4, 4, 4, 4)
    return grid.permute(1, 3, 5, 0, 2, 4, 6).reshape(count, PATCHES, -1)


class Heads(nn.Module):
    """What is read off the text states in training: glyph, colour, feature, look, the sketch, its places."""

    def __init__(self, glyphs: int, patch: int) -> None:
        super().__init__()
        self.sizes = [glyphs, len(COLOURS) + 1, len(FEATURES) + 1, len(STYLES) + 1]
        self.classes = nn.Linear(HIDDEN, sum(self.sizes))
        self.patch = nn.Linear(HIDDEN, patch)
        self.place = nn.Linear(HIDDEN, PATCHES)

    def forward(
        self, states: torch.Tensor, ends: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """States [B, CONTEXT, HIDDEN] and where prompts end [B] → scores of the end's and the last state,
        [2, B, …] for each of glyph, colour, feature and look; the sketch [B, PATCHES, patch]; and scores of
        the place that each patch is for [B, PATCHES, PATCHES], by which the UNet's attention finds it.
        """
        pooled = torch.stack([states[torch.arange(len(states)), ends], states[:, -1]])
        patches = states[:, -PATCHES:]
        return list(self.classes(pooled).split(self.sizes, dim=-1)), self.patch(patches), self.place(patches)


def train_text_encoder(
    run: Run, subjects: Sequence[Subject], latents: torch.Tensor, batch: int = 128
) -> None:
    """Train tokenizer and encoder; saved in `run.folder / "tokenizer"` and `run.folder / "model"`.

    `latents` [2, N, C, 16, 16] are the subjects' pictures in both looks.
    """
    with run.accelerator.main_process_first():
        if not (run.folder / "tokenizer").exists():
            train_tokenizer(corpus(subjects, random.Random(0)), run.folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(run.folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        projection_dim=HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    names = [glyph.name for glyph in load_glyphs()]
    patches = to_patches(latents).to(run.device)
    minded = to_patches(emphasis(latents, subjects).expand_as(latents)).to(run.device)
    heads = Heads(len(names), patches.shape[-1])
    colours, features, looks = list(COLOURS), list(FEATURES), list(STYLES)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=run.peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    encoder_, heads_, optimizer = run.accelerator.prepare(encoder, heads, optimizer)
    plain = [i for i, s in enumerate(subjects) if s.colour is None and s.feature is None]
    coloured = [i for i, s in enumerate(subjects) if s.colour is not None]
    featured = [i for i, s in enumerate(subjects) if s.feature is not None]
    chance = random.Random()  # each process has its own, and one that goes on sees new prompts
    share = batch // run.accelerator.num_processes

    def losses(_: int) -> dict[str, torch.Tensor]:
        groups = chance.choices((plain, coloured, featured), SHARES, k=share)
        picks = [chance.choice(group) for group in groups]
        styles = [chance.choice((None, *looks)) for _ in picks]
        prompts = [sample_prompt(subjects[i], chance, style) for i, style in zip(picks, styles, strict=True)]
        ids = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(
            run.device
        )
        ends = (ids == tokenizer.eos_token_id).int().argmax(1)
        labels = torch.tensor(
            [
                [
                    names.index(s.glyph),
                    colours.index(s.colour) + 1 if s.colour else 0,
                    features.index(s.feature) + 1 if s.feature else 0,
                    looks.index(style) + 1 if style else 0,
                ]
                for s, style in zip([subjects[i] for i in picks], styles, strict=True)
            ],
            device=run.device,
        )
        classes, sketch, places = heads_(encoder_(ids)[0], ends)
        error = (sketch - patches[picks]).pow(2)  # 1 would be to know nothing: latents have unit variance
        own_place = torch.arange(PATCHES).repeat(share).to(places.device)
        loss = SKETCH * (error * minded[picks]).mean() + F.cross_entropy(places.flatten(0, 1), own_place)
        for index, scores in enumerate(classes):
            wanted = labels[:, index].repeat(2)
            loss = loss + F.cross_entropy(scores.flatten(0, 1), wanted, label_smoothing=0.05)
        right = (classes[0][1].argmax(1) == labels[:, 0]).float().mean()
        return {"loss": loss, "right": right, "sketch": error.mean()}

    for step in run.loop(optimizer, losses):
        if run.accelerator.is_main_process:
            encoder.save_pretrained(run.folder / "model")
            print(f"\n{run.stage} step {step} saved", flush=True)
