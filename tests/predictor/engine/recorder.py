"""An engine's diffuser without a model, and how to run an engine."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from predictor.diffusion.row import Row
from predictor.errors import (
    UnknownModel,
)


def make_row(**changes) -> Row:
    row = {
        "prompt": "a cat",
        "negative_prompt": "",
        "seed": 0,
        "steps": 3,
        "guidance": 2.0,
        "loras": (),
        "height": 16,
        "width": 16,
        "solver": "ddim",
    }
    return Row(**{**row, **changes})


@dataclass
class Sample:
    row: Row
    call: int = 0

    @property
    def table(self):
        return type("Table", (), {"calls": self.row.steps})

    @property
    def finished(self) -> bool:
        return self.call == self.row.steps

    @property
    def outer_only(self) -> bool:
        return self.call % self.row.inner_every != 0


@dataclass
class Recorder:
    """A diffuser without a model: keeps a record of what the engine asks for. A row's picture is its seed.

    Rows whose prompt is "fails at begin", "fails at step" or "fails at decode" fail there.
    `gate` holds up each step.
    """

    begun: list[int] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    gate: threading.Semaphore | None = None
    memory_rows: int = 1000
    table_gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    adapters: tuple[str, ...] = ("a@1",)
    computes_behind: bool = False

    def check(self, row: Row) -> None:
        for name, _ in row.loras:
            if name not in self.adapters:
                raise UnknownModel(name)

    def is_prepared(self, rows: Sequence[Row]) -> bool:
        return all(row.prompt != "new table" for row in rows)

    def prepare(self, rows: Sequence[Row]) -> None:
        self.table_gate.acquire()

    def is_encoded(self, row: Row) -> bool:
        return False

    def encode(self, rows: Sequence[Row]) -> list[None]:
        self._may_fail(rows, "encode")
        return [None] * len(rows)

    def begin(self, rows: Sequence[Row]) -> list[Sample]:
        self._may_fail(rows, "begin")
        self.begun += [row.seed for row in rows]
        return [Sample(row) for row in rows]

    def step(self, samples: Sequence[Sample]) -> list[Sample]:
        if self.gate is not None:
            self.gate.acquire()
        self._may_fail([sample.row for sample in samples], "step")
        if len(samples) > self.memory_rows:
            raise torch.OutOfMemoryError
        self.steps.append([sample.row.seed for sample in samples])
        self.sizes += {(sample.row.height, sample.row.width) for sample in samples}
        for sample in samples:
            sample.call += 1
        return list(samples)

    def decode(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        self._may_fail([sample.row for sample in samples], "decode")
        return [np.full((2, 2, 3), sample.row.seed, dtype=np.uint8) for sample in samples]

    def _may_fail(self, rows: Sequence[Row], where: str) -> None:
        if any(row.prompt == f"fails at {where}" for row in rows):
            raise RuntimeError("secret detail")

    def remove_adapter(self, name: str) -> None:
        self.adapters = tuple(other for other in self.adapters if other != name)


def run(main) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(bounded())


async def settle(condition) -> None:
    while not condition():  # noqa: ASYNC110 - the engine tells nobody of what is waited for here
        await asyncio.sleep(0.001)
