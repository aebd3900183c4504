"""The judge: a small classifier trained on augmented real glyphs, which tells emoji and look of a picture.

It has no part in training the generator and knows nothing of prompts or of diffusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from weights.glyphs.dataset import DATA, LOOKS, load_glyphs, load_pictures, on_white

SIDE = 32  # the judge looks at pictures of this size: what an emoji is shows at text size
FILE = DATA / "judge.safetensors"


def shrink(pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 RGB [N, H, W, 3] → float [N, 3, SIDE, SIDE] in [-1, 1] by area."""
    whole = torch.tensor(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(whole, size=(SIDE, SIDE), mode="area")


def real_pictures() -> torch.Tensor:
    """The real glyphs, float [2, N, 3, SIDE, SIDE], looks in the order of LOOKS."""
    return torch.stack([shrink(on_white(load_pictures(look))) for look in LOOKS])


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """Turn, scale, shift, brighten, blur and add noise; a different way for each picture."""
    count = len(pictures)
    angle, scale = (torch.rand(count) - 0.5) * 0.3, 1 + (torch.rand(count) - 0.5) * 0.3
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale * torch.cos(angle)
    affine[:, 1, 0] = scale * torch.sin(angle)
    affine[:, 0, 1] = -affine[:, 1, 0]
    affine[:, :, 2] = (torch.rand(count, 2) - 0.5) * 0.2
    grid = F.affine_grid(affine, list(pictures.shape), align_corners=False)
    out = F.grid_sample(pictures - 1, grid, align_corners=False) + 1  # white outside
    out = out * (1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.3) + (torch.rand(count, 1, 1, 1) - 0.5) * 0.2
    blurred = F.interpolate(F.avg_pool2d(out, 2), scale_factor=2, mode="bilinear")
    out = torch.where((torch.rand(count) < 0.4).view(-1, 1, 1, 1), blurred, out)
    return out + torch.randn_like(out) * torch.rand(count, 1, 1, 1) * 0.15


class Classifier(nn.Module):
    """[B, 3, SIDE, SIDE] → scores of the emoji [B, emoji] and of the look [B, 2]."""

    def __init__(self, emoji: int) -> None:
        super().__init__()

        def block(into: int, out: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv2d(into, out, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())

        self.features = nn.Sequential(
            block(3, 32, 1), block(32, 64, 2), block(64, 96, 1), block(96, 128, 2), block(128, 192, 2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.emoji, self.look = nn.Linear(768, emoji), nn.Linear(768, len(LOOKS))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of a batch."""
        features = self.features(pictures)
        return self.emoji(features), self.look(features)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a picture shows: an emoji (character) in a look; confidence in the emoji, 0 to 1."""

    char: str
    look: str
    confidence: float


class Judge:
    """Tells the emoji and the look of pictures."""

    def __init__(self, file: Path = FILE) -> None:
        self.chars = [glyph.char for glyph in load_glyphs()]
        self.classifier = Classifier(len(self.chars)).eval()
        self.classifier.load_state_dict(load_file(file))

    @torch.inference_mode()
    def judge(self, pictures: npt.NDArray[np.uint8]) -> list[Verdict]:
        """Verdicts on uint8 RGB pictures [N, H, W, 3] on white."""
        emoji, look = self.classifier(shrink(pictures))
        sure, best = emoji.softmax(1).max(1)
        return [
            Verdict(self.chars[int(e)], LOOKS[int(k)], float(s))
            for e, k, s in zip(best, look.argmax(1), sure, strict=True)
        ]


def train_judge(steps: int = 3000, batch: int = 64, file: Path = FILE) -> dict[str, float]:
    """Train the classifier on augmented real glyphs; returns its accuracy on plain and on augmented ones."""
    torch.manual_seed(0)
    real = real_pictures()
    count = real.shape[1]
    classifier = Classifier(count)
    optimizer = torch.optim.AdamW(classifier.parameters(), 3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        emoji, look = torch.randint(count, (batch,)), torch.randint(len(LOOKS), (batch,))
        emoji_scores, look_scores = classifier(augment(real[look, emoji]))
        loss = F.cross_entropy(emoji_scores, emoji, label_smoothing=0.05) + 0.3 * F.cross_entropy(
            look_scores, look
        )
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    classifier.eval()
    accuracy: dict[str, float] = {}
    with torch.inference_mode():
        for name, pictures in (("plain", real.flatten(0, 1)), ("augmented", augment(real.flatten(0, 1)))):
            emoji_scores, look_scores = classifier(pictures)
            right = emoji_scores.argmax(1) == torch.arange(count).repeat(len(LOOKS))
            look_right = look_scores.argmax(1) == torch.arange(len(LOOKS)).repeat_interleave(count)
            accuracy |= {
                f"{name} emoji": right.float().mean().item(),
                f"{name} look": look_right.float().mean().item(),
            }
    save_file(
        {
            key: value.half() if value.is_floating_point() else value
            for key, value in classifier.state_dict().items()
        },
        file,
    )
    return accuracy
