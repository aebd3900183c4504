"""Where a composition differs from its plain glyph: the cells that a loss should mind most.

Sunglasses on a dog change few of the picture's cells; without emphasis, a dog without them costs little.
Knows latents and subjects, no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from weights.train.pictures import Subject

STRENGTH = 4.0  # added to the weight of the cell that differs most


def emphasis(latents: torch.Tensor, subjects: Sequence[Subject]) -> torch.Tensor:
    """Latents [2, N, C, H, W] of the subjects → the weight of each cell, float [2, N, 1, H, W] from 1.

    A plain glyph has no emphasis: 1 everywhere.
    """
    plain = {s.glyph: n for n, s in enumerate(subjects) if s.colour is None and s.feature is None}
    own = [plain.get(subject.glyph, number) for number, subject in enumerate(subjects)]
    weights = []
    for look in latents:  # one at a time: differences take much memory
        difference = (look - look[own]).float().pow(2).mean(1, keepdim=True)
        most = difference.amax((2, 3), keepdim=True).clamp_min(1e-6)
        weights.append(1 + STRENGTH * difference / most)
    return torch.stack(weights)
