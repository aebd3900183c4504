"""Stands for the engine where looks load versions into it."""

import asyncio
from collections.abc import Mapping

import torch

from tests.weights.loras import make_tensors

ALL = ("notoemoji@1", "notoemoji@2", "openmoji@1")


class Held:
    """Stands for the engine: holds what it is given; `busy` versions are in use and leave later."""

    def __init__(self, *versions: str) -> None:
        self.names = set(versions)
        self.busy: dict[str, asyncio.Event] = {}

    async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        assert name not in self.names, "versions don't change"
        assert tensors.keys() == make_tensors().keys()
        self.names.add(name)

    async def remove_adapter(self, name: str) -> None:
        if name in self.busy:
            await self.busy[name].wait()
        self.names.remove(name)
