"""One resumable training run: its folder, progress bar, learning rate, averaged weights and checkpoints.

Checkpoints are accelerate state folders. Knows nothing of what is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm


class Average:
    """Exponential moving average of a module's trainable parameters, saved with the checkpoint."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the live values; faster at the start."""
        self.updates += 1
        weight = 1 - min(self.decay, self.updates / (self.updates + 9))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], weight)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged and the live values; call it twice to be back where you were."""
        for live, shadow in zip(self.parameters, self.shadow, strict=True):
            held = live.detach().clone()
            live.copy_(shadow)
            shadow.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.updates = int(state["updates"])
        for shadow, saved in zip(self.shadow, state["shadow"], strict=True):
            shadow.copy_(saved)


class Run:
    """Steps `done`..`steps` of one stage in `folder`; picks up where its last checkpoint was written."""

    def __init__(
        self,
        folder: Path,
        stage: str,
        steps: int,
        *,
        device: str,
        save_every: int,
        peak: float,
        warmup: int = 100,
    ) -> None:
        self.folder = folder / stage
        self.stage, self.steps, self.save_every = stage, steps, save_every
        self.peak, self.warmup = peak, warmup
        self.done = 0
        self.accelerator = Accelerator(cpu=device == "cpu")
        self.accelerator.register_for_checkpointing(self)

    @property
    def device(self) -> torch.device:
        """Where models and batches go."""
        return self.accelerator.device

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.done = int(state["done"])

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine from the peak to 2 % of it at the last step."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.peak * min(1.0, (step + 1) / self.warmup) * (0.02 + 0.98 * cosine)

    def loop(
        self,
        optimizer: torch.optim.Optimizer,
        losses: Callable[[int], dict[str, torch.Tensor]],
        average: Average | None = None,
        sample: Callable[[Path], None] | None = None,
        clip: float = 1.0,
    ) -> Iterator[int]:
        """Run the remaining steps; yields the number of steps done after each checkpoint.

        `losses(step)` returns named scalars; "loss" is minimised, the others are only shown. `sample(folder)`
        draws a sample sheet with the averaged weights at every checkpoint.
        """
        state = self.folder / "state"
        if average is not None:
            self.accelerator.register_for_checkpointing(average)
        if (state / "random_states_0.pkl").exists():
            self.accelerator.load_state(str(state))
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        shown: dict[str, float] = {}
        leader = self.accelerator.is_main_process
        bar = tqdm(
            total=self.steps,
            initial=self.done,
            desc=self.stage,
            mininterval=5,
            dynamic_ncols=True,
            disable=not leader,
        )
        while self.done < self.steps:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(self.done)
            values = losses(self.done)
            self.accelerator.backward(values["loss"])
            torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update()
            self.done += 1
            bar.update()
            if self.done % 20 == 0:
                for name, value in values.items():
                    number = float(value.detach())
                    shown[name] = number if name not in shown else 0.9 * shown[name] + 0.1 * number
                bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()}, refresh=False)
            if self.done % self.save_every == 0 or self.done == self.steps:
                self.accelerator.save_state(str(state), safe_serialization=False)
                if average is not None:
                    average.swap()
                if sample is not None and leader:
                    sample(self.folder)
                self.accelerator.wait_for_everyone()
                yield self.done
                if average is not None:
                    average.swap()
        bar.close()
