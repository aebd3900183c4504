"""One Stable Diffusion model in memory: begins rows, takes one denoising step for a mixed batch, decodes
pictures.

It doesn't know queues, requests or where LoRAs are stored. Apart from `check`, `count_tokens` and the plain
attributes, everything belongs to one thread at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from predictor.diffusion.adapters import MAX_RESIDENT, AdapterPool, Choice, Prepared
from predictor.diffusion.blocks import Blocks
from predictor.diffusion.bucket import Buckets
from predictor.diffusion.checkpoint import Checkpoint, UnsupportedCheckpoint, read_checkpoint
from predictor.diffusion.finite import Finite
from predictor.diffusion.prompts import PromptEncoder
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample, advance, stacked
from predictor.diffusion.solver_table import SolverTable, UnsupportedSolver
from predictor.diffusion.solvers import SOLVERS, Solvers
from predictor.errors import InvalidInput, UnknownModel

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NOT_FINITE = "the latents are not finite"
DECODE_PIXELS = 4 * 512 * 512  # decoded at once; the VAE's activations take the most memory of all


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a row gets where the request says nothing."""

    steps: int
    guidance: float
    solver: str


class Diffuser:
    """`load` a StableDiffusionPipeline folder, `add_adapter`s, then give it to an Engine."""

    defaults: Defaults
    native_size: tuple[int, int]  # height, width in pixels
    size_multiple: int  # heights and widths are multiples of it
    max_prompt_tokens: int  # without the start and end tokens
    max_steps: int  # the scheduler's training timesteps
    solvers: tuple[str, ...]

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        max_resident_loras: int = MAX_RESIDENT,
        fixed_rows: int | None = None,
    ) -> None:
        """Raises UnsupportedCheckpoint."""
        self._device = torch.device(device)
        self._computes_behind = self._device.type == "cuda"  # the host is ahead of it
        self._unet = checkpoint.unet.to(self._device, memory_format=torch.channels_last)
        self._vae = checkpoint.vae.to(self._device, memory_format=torch.channels_last)
        self._prompts = PromptEncoder(
            checkpoint.tokenizer, checkpoint.text_encoder.to(self._device), apart=fixed_rows is not None
        )
        self._blocks = Blocks(self._unet)
        self._adapters = AdapterPool(self._unet, max_resident_loras)
        self._buckets = Buckets(self._compute, self._adapters.pages, fixed_rows) if fixed_rows else None
        try:
            self._solvers = Solvers(checkpoint.scheduler_class, checkpoint.scheduler_config)
        except UnsupportedSolver as error:
            raise UnsupportedCheckpoint(str(error)) from error

        self._vae_factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self.size_multiple = self._vae_factor * 2 ** (len(self._unet.config.block_out_channels) - 1)
        sample_size = self._unet.config.sample_size
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        self.native_size = (height * self._vae_factor, width * self._vae_factor)
        self.max_prompt_tokens = self._prompts.max_tokens
        self.max_steps = self._solvers.max_steps
        self.solvers = tuple(name for name in SOLVERS if self._refusal(name) is None)
        self.defaults = self._read_defaults(checkpoint.generation, checkpoint.scheduler_class)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        max_resident_loras: int = MAX_RESIDENT,
        fixed_rows: int | None = None,
    ) -> Self:
        """Loads a folder saved by StableDiffusionPipeline: safetensors only, never the network.

        device: "cpu", "cuda", "cuda:1"; dtype: "float32", "float16", "bfloat16"; max_resident_loras: see
        AdapterPool; fixed_rows: see Buckets, and then a row's bytes don't depend on the others at all.
        Raises UnsupportedCheckpoint, which says what is wrong with the folder and the remedy.
        """
        return cls(read_checkpoint(folder, DTYPES[dtype]), device, max_resident_loras, fixed_rows)

    def count_tokens(self, text: str) -> int:
        """The tokens of a prompt, without the start and end tokens. From any thread."""
        return self._prompts.count_tokens(text)

    def check(self, row: Row) -> None:
        """Raises InvalidInput or UnknownModel for a row that can't be drawn. Cheap, from any thread."""
        if row.solver not in self.solvers:
            raise InvalidInput("solver", f"one of {', '.join(self.solvers)}")
        if not 1 <= row.steps <= self.max_steps:
            raise InvalidInput("num_inference_steps", f"from 1 to {self.max_steps}")
        for field, pixels in (("height", row.height), ("width", row.width)):
            if pixels < self.size_multiple or pixels % self.size_multiple:
                raise InvalidInput(field, f"a multiple of {self.size_multiple}")
        for name, _ in row.loras:
            if name not in self._adapters.names:
                raise UnknownModel(f"LoRA {name} is not loaded")

    def is_prepared(self, rows: Sequence[Row]) -> bool:
        """Whether `begin` has the solver tables it needs. From any thread."""
        return all(self._solvers.has_table(row.solver, row.steps) for row in rows)

    def prepare(self, rows: Sequence[Row]) -> None:
        """Makes the solver tables of checked rows, a second for very many steps. From any thread.

        Raises InvalidInput for steps the solver refuses.
        """
        for row in rows:
            self._table(row)

    def is_encoded(self, row: Row) -> bool:
        """Whether `begin` will find the prompts' states. From any thread."""
        return all(self._prompts.has(text) for text in _texts(row))

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded LoRAs. From any thread."""
        return self._adapters.names

    @property
    def resident_adapters(self) -> tuple[str, ...]:
        """Names of the LoRAs on the device, the one used longest ago first. From any thread."""
        return self._adapters.resident

    @property
    def padding_share(self) -> float:
        """Of all rows that the UNet has computed, the share that were copies to fill a call. From any
        thread.
        """
        return self._buckets.padding_share if self._buckets is not None else 0.0

    def prepare_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> Prepared:
        """Checks a LoRA in canonical layout and makes it ready for `add_prepared`. From any thread.

        Raises weights.errors.IncompatibleLora naming the key and the shapes.
        """
        return self._adapters.prepare(name, tensors)

    @torch.inference_mode()
    def add_prepared(self, prepared: Prepared) -> None:
        """Adds a LoRA, so that rows may use it. Raises ValueError if there is one of its name."""
        self._adapters.add(prepared)

    def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """`prepare_adapter` and `add_prepared`; once an engine runs, call Engine.add_adapter instead."""
        self.add_prepared(self.prepare_adapter(name, tensors))

    @torch.inference_mode()
    def remove_adapter(self, name: str) -> None:
        """Drops a LoRA that no row is using. Raises KeyError."""
        self._adapters.remove(name)

    @torch.inference_mode()
    def encode(self, rows: Sequence[Row]) -> list[None]:
        """Encodes the prompts of rows that will begin soon, in one call; `begin` then finds them."""
        self._prompts.encode([text for row in rows for text in _texts(row)])
        return [None] * len(rows)

    @torch.inference_mode()
    def begin(self, rows: Sequence[Row]) -> list[Sample]:
        """Encodes the prompts that aren't yet and draws the first noise.

        It is the noise StableDiffusionPipeline draws from a CPU generator with the row's seed, in float32
        whatever the model computes in, so a seed means one picture on every device. Raises InvalidInput for
        steps the solver refuses.
        """
        tables = [self._table(row) for row in rows]
        negatives = [row.negative_prompt for row in rows if row.guidance > 1]
        states = iter(self._prompts.encode([*(row.prompt for row in rows), *negatives]))
        prompt_states = [next(states) for _ in rows]
        samples = []
        for row, table, prompt_state in zip(rows, tables, prompt_states, strict=True):
            generator = torch.Generator().manual_seed(row.seed)
            height, width = row.height // self._vae_factor, row.width // self._vae_factor
            stack = torch.zeros(table.width, self._unet.config.in_channels, height, width)
            stack[0] = torch.randn(stack.shape[1:], generator=generator) * table.init_noise_sigma
            # A row at a time, so that its numbers are the same whoever begins with it.
            own = [prompt_state, next(states)] if row.guidance > 1 else [prompt_state]
            self._adapters.select([row.loras] * len(own))
            projected = self._blocks.project(torch.stack(own))
            samples.append(
                Sample(
                    row=row,
                    table=table,
                    generator=generator,
                    stack=stack.to(self._device),
                    prompt_states=projected[0],
                    negative_states=projected[1] if row.guidance > 1 else None,
                )
            )
        return samples

    @torch.inference_mode()
    def step(self, samples: Sequence[Sample]) -> list[Sample | ArithmeticError]:
        """One denoising step of samples of one size, each at its own timestep, in one UNet call.

        Gives the samples back, or an error in place of one that the UNet's output is not finite for: on a GPU
        a step later, so that nobody waits for it. They change only when the whole step has succeeded, so a
        failed one may be tried again in smaller batches.
        """
        stacks = stacked(samples)
        predicted = self._predict(samples, stacks[:, 0])
        if self._buckets is None:
            advance(samples, stacks, predicted)
        else:
            for sample, output in zip(samples, predicted, strict=True):
                advance([sample], sample.stack[None], output[None])
        before, finite = [sample.finite for sample in samples], Finite.of(predicted)
        for place, sample in enumerate(samples):
            sample.finite = finite, place
        known = before if self._computes_behind else [sample.finite for sample in samples]
        return [
            sample if answer is None or answer[0].read(answer[1]) else ArithmeticError(NOT_FINITE)
            for sample, answer in zip(samples, known, strict=True)
        ]

    @torch.inference_mode()
    def decode(self, samples: Sequence[Sample]) -> list[np.ndarray | ArithmeticError]:
        """The pictures of finished samples of one size: uint8 [height, width, 3], rounded as diffusers does.

        In place of a picture whose latents aren't finite there is an error.
        """
        latents = torch.stack([sample.latents for sample in samples])
        finite = torch.isfinite(latents).flatten(1).all(1)
        latents[~finite] = 0
        config = self._vae.config
        latents = latents / config.scaling_factor + (config.shift_factor or 0)
        at_once = max(1, DECODE_PIXELS // (samples[0].row.height * samples[0].row.width))
        if self._buckets is not None:
            at_once = 1
        pictures: list[np.ndarray | ArithmeticError] = []
        for part in latents.to(self._vae.dtype).split(at_once):
            image = self._vae.decode(part.contiguous(memory_format=torch.channels_last), return_dict=False)[0]
            image = (image * 0.5 + 0.5).clamp(0, 1).float()
            pixels = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
            pictures.extend(pixels.contiguous().cpu().numpy())
        for place, good in enumerate(finite.tolist()):
            if not good:
                pictures[place] = ArithmeticError(NOT_FINITE)
        return pictures

    def _predict(self, samples: Sequence[Sample], latents: torch.Tensor) -> torch.Tensor:
        """The guided model output [B, C, h, w] float32: one UNet row a sample, two where it's guided."""
        guided = [place for place, sample in enumerate(samples) if sample.negative_states is not None]
        rows = [(place, False) for place in range(len(samples))] + [(place, True) for place in guided]
        rows.sort(key=lambda row: samples[row[0]].row.loras)  # those of one mix stand side by side
        own = [samples[place] for place, _ in rows]
        numbers = torch.tensor(
            [[sample.table.timesteps[sample.call], sample.table.input_scale[sample.call]] for sample in own]
        ).to(self._device)
        states = [
            samples[place].negative_states if negative else samples[place].prompt_states
            for place, negative in rows
        ]
        inputs = latents[[place for place, _ in rows]] * numbers[:, 1, None, None, None]
        output = (self._buckets or self._compute)(
            inputs,
            numbers[:, 0],
            torch.stack(states),  # type: ignore[arg-type]
            [sample.row.loras for sample in own],
        )
        number = {row: number for number, row in enumerate(rows)}
        prompted = output[[number[place, False] for place in range(len(samples))]]
        if guided:
            unprompted = output[[number[place, True] for place in guided]]
            scale = torch.tensor([samples[place].row.guidance for place in guided], device=self._device)
            prompted[guided] = unprompted + scale[:, None, None, None] * (prompted[guided] - unprompted)
        return prompted

    def _compute(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: torch.Tensor,
        choices: Sequence[Choice],
        pages: int | None = None,
    ) -> torch.Tensor:
        self._adapters.select(choices, pages)
        output = self._unet(
            latents.to(self._unet.dtype, memory_format=torch.channels_last),
            timesteps,
            encoder_hidden_states=states,
            return_dict=False,
        )[0]
        return output.float()

    def _table(self, row: Row) -> SolverTable:
        try:
            return self._solvers.table(row.solver, row.steps)
        except UnsupportedSolver as error:
            raise InvalidInput("solver", f"{row.solver} can't take {row.steps} steps here") from error

    def _refusal(self, solver: str) -> str | None:
        try:
            self._solvers.scheduler(solver)
        except UnsupportedSolver as error:
            return str(error)
        return None

    def _read_defaults(self, generation: Mapping[str, Any], scheduler_class: str) -> Defaults:
        solver = generation.get("solver", self._solvers.own)
        if solver is None:
            raise UnsupportedCheckpoint(
                f"{scheduler_class} is not served; name another solver in the folder's generation.json, "
                f"one of {', '.join(self.solvers)}"
            )
        if solver not in self.solvers:
            raise UnsupportedCheckpoint(f"the folder's solver can't be used: {self._refusal(solver)}")
        steps, guidance = generation.get("num_inference_steps", 30), generation.get("guidance_scale", 7.5)
        if type(steps) is not int or not 1 <= steps <= self.max_steps:
            raise UnsupportedCheckpoint(
                f"generation.json: num_inference_steps is not from 1 to {self.max_steps}"
            )
        if type(guidance) not in (int, float) or not 0 <= guidance <= 100:
            raise UnsupportedCheckpoint("generation.json: guidance_scale is not from 0 to 100")
        return Defaults(steps=steps, guidance=float(guidance), solver=solver)


def _texts(row: Row) -> list[str]:
    """The prompts that the UNet needs for a row."""
    return [row.prompt, row.negative_prompt] if row.guidance > 1 else [row.prompt]
