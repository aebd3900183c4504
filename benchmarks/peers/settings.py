"""What every server and probe of the benchmarks is told, by the environment: the only file that reads it."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """What every peer is told, by the environment."""

    base: Path
    loras: Path
    device: str
    dtype: str
    threads: int
    max_batch_size: int
    port: int
    adapters: str
    """"set": all LoRAs stay loaded and set_adapters chooses; "load": loaded and unloaded for each request."""
    steps: tuple[int, ...]
    """The numbers of steps that will be asked for."""
    guidance: tuple[float, ...]
    """Likewise."""

    @property
    def kinds(self) -> list[tuple[int, float, str | None]]:
        """Steps, guidance and LoRA, in all combinations that will be asked for."""
        loras = [f"{file.parent.parent.name}@{file.parent.name}" for file in self.lora_files]
        return list(itertools.product(self.steps, self.guidance, [None, *loras]))

    @property
    def lora_files(self) -> list[Path]:
        """Of all LoRAs of the store."""
        return sorted(self.loras.glob("*/*/adapter.safetensors"))

    @classmethod
    def from_environment(cls) -> Self:
        """Raises KeyError for what is missing."""
        given = {name: os.environ[f"BENCH_{name.upper()}"] for name in cls.__dataclass_fields__}
        return cls(
            base=Path(given["base"]),
            loras=Path(given["loras"]),
            device=given["device"],
            dtype=given["dtype"],
            threads=int(given["threads"]),
            max_batch_size=int(given["max_batch_size"]),
            port=int(given["port"]),
            adapters=given["adapters"],
            steps=tuple(int(each) for each in given["steps"].split()),
            guidance=tuple(float(each) for each in given["guidance"].split()),
        )
