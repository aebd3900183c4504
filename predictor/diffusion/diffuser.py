"""One Stable Diffusion model in memory: begins rows, takes one denoising step for a mixed batch, decodes
pictures.

It doesn't know queues, requests or where LoRAs are stored. Apart from `check`, `count_tokens` and the plain
attributes, everything belongs to one thread at a time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from predictor.diffusion.adapters import MAX_RESIDENT, Prepared
from predictor.diffusion.checkpoint import Checkpoint, UnsupportedCheckpoint, read_checkpoint
from predictor.diffusion.decoder import Decoder
from predictor.diffusion.defaults import Defaults, read_defaults
from predictor.diffusion.denoiser import Denoiser
from predictor.diffusion.finite import Finite
from predictor.diffusion.prompts import PromptEncoder
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample, advanced, stacked
from predictor.diffusion.solver_table import SolverTable, UnsupportedSolver
from predictor.diffusion.solvers import Solvers
from predictor.diffusion.transfer import to_device
from predictor.errors import InvalidInput, UnknownModel

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NOT_FINITE = "the latents are not finite"


class Diffuser:
    """`load` a StableDiffusionPipeline folder, `add_adapter`s, then give it to an Engine."""

    defaults: Defaults
    native_size: tuple[int, int]  # height, width in pixels
    size_multiple: int  # heights and widths are multiples of it
    max_prompt_tokens: int  # without the start and end tokens
    max_steps: int  # the scheduler's training timesteps
    solvers: tuple[str, ...]
    skips_inner_layers: bool  # rows may have `inner_every` > 1: not in fixed buckets, nor with every UNet
    has_tiny_vae: bool  # rows may ask for it
    computes_behind: bool  # `step` returns while the device computes it yet

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        max_resident_loras: int = MAX_RESIDENT,
        fixed_rows: int | None = None,
    ) -> None:
        """Raises UnsupportedCheckpoint."""
        self._device = torch.device(device)
        self.computes_behind = self._device.type == "cuda"
        self._fixed = fixed_rows is not None
        self._prompts = PromptEncoder(
            checkpoint.tokenizer, checkpoint.text_encoder.to(self._device), apart=self._fixed
        )
        unet = checkpoint.unet.to(self._device, memory_format=torch.channels_last)
        self._denoiser = Denoiser(unet, max_resident_loras, fixed_rows)
        self.skips_inner_layers = self._denoiser.skips_inner_layers
        vae = checkpoint.vae.to(self._device, memory_format=torch.channels_last)
        self._decoder = Decoder(vae, one_by_one=self._fixed)
        self._tiny_decoder: Decoder | None = None
        self.has_tiny_vae = checkpoint.tiny_vae is not None
        if checkpoint.tiny_vae is not None:
            tiny = checkpoint.tiny_vae.to(self._device, memory_format=torch.channels_last)
            self._tiny_decoder = Decoder(tiny, one_by_one=self._fixed)
        try:
            self._solvers = Solvers(checkpoint.scheduler_class, checkpoint.scheduler_config)
        except UnsupportedSolver as error:
            raise UnsupportedCheckpoint(str(error)) from error

        self._vae_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self._channels = unet.config.in_channels
        self.size_multiple = self._vae_factor * 2 ** (len(unet.config.block_out_channels) - 1)
        sample_size = unet.config.sample_size
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        self.native_size = (height * self._vae_factor, width * self._vae_factor)
        self.max_prompt_tokens = self._prompts.max_tokens
        self.max_steps = self._solvers.max_steps
        self.solvers = self._solvers.usable
        self.defaults = read_defaults(checkpoint.generation, checkpoint.scheduler_class, self._solvers)

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

        device: "cpu", "cuda"; dtype: "float32", "float16", "bfloat16"; max_resident_loras: see
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
        if row.inner_every > 1 and not self.skips_inner_layers:
            raise InvalidInput("approximation", "this server can't use the UNet's inner layers again")
        if row.tiny_vae and not self.has_tiny_vae:
            raise InvalidInput("approximation", "this model has no tiny VAE")
        for name, _ in row.loras:
            if name not in self._denoiser.adapters.names:
                raise UnknownModel(f"LoRA {name} is not loaded")

    @torch.inference_mode()
    def capture_graphs(self, most: int) -> None:
        """On a CUDA device: from now on steps of up to `most` UNet rows of the native size, two a guided row,
        are replayed as CUDA graphs. To be called when the LoRAs have been added.
        """
        height, width = (pixels // self._vae_factor for pixels in self.native_size)
        [states] = self._prompts.encode([""])
        states = self._denoiser.project("", states, ())
        latents = torch.zeros(self._channels, height, width, device=self._device)
        self._denoiser.capture(latents, states, most)

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
        return self._denoiser.adapters.names

    @property
    def resident_adapters(self) -> tuple[str, ...]:
        """Names of the LoRAs on the device, the one used longest ago first. From any thread."""
        return self._denoiser.adapters.resident

    @property
    def padding_share(self) -> float:
        """Of all rows that the UNet has computed, the share that were there to fill a call. From any
        thread.
        """
        return self._denoiser.padding_share

    def prepare_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> Prepared:
        """Checks a LoRA in canonical layout and makes it ready for `add_prepared`. From any thread.

        Raises weights.errors.IncompatibleLora naming the key and the shapes.
        """
        return self._denoiser.adapters.prepare(name, tensors)

    @torch.inference_mode()
    def add_prepared(self, prepared: Prepared) -> None:
        """Adds a LoRA, so that rows may use it. Raises ValueError if there is one of its name."""
        self._denoiser.adapters.add(prepared)

    def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """`prepare_adapter` and `add_prepared`; once an engine runs, call Engine.add_adapter instead."""
        self.add_prepared(self.prepare_adapter(name, tensors))

    @torch.inference_mode()
    def remove_adapter(self, name: str) -> None:
        """Drops a LoRA that no row is using. Raises KeyError."""
        self._denoiser.remove_adapter(name)

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
        texts = dict.fromkeys(text for row in rows for text in _texts(row))
        states = dict(zip(texts, self._prompts.encode([*texts]), strict=True))
        samples = []
        for row, table in zip(rows, tables, strict=True):
            generator = torch.Generator().manual_seed(row.seed)
            height, width = row.height // self._vae_factor, row.width // self._vae_factor
            stack = torch.zeros(table.width, self._channels, height, width)
            stack[0] = torch.randn(stack.shape[1:], generator=generator) * table.init_noise_sigma
            projected = [self._denoiser.project(text, states[text], row.loras) for text in _texts(row)]
            samples.append(
                Sample(
                    row=row,
                    table=table,
                    generator=generator,
                    stack=to_device(stack, self._device),
                    prompt_states=projected[0],
                    negative_states=projected[1] if row.guidance > 1 else None,
                )
            )
        return samples

    @torch.inference_mode()
    def step(self, samples: Sequence[Sample]) -> list[Sample | ArithmeticError]:
        """One denoising step of samples of one size, alike in `outer_only`, in one UNet call, each at its own
        timestep.

        Gives the samples back, or an error in place of one that the UNet's output is not finite for: on a GPU
        a step later, so that nobody waits for it. They change only when the whole step has succeeded, so a
        failed one may be tried again in smaller batches.
        """
        stacks = stacked(samples)
        predicted = self._denoiser.predict(samples, stacks[:, 0])
        if not self._fixed:
            moved = advanced(samples, stacks, predicted)
        else:
            moved = [
                stack
                for sample, output in zip(samples, predicted, strict=True)
                for stack in advanced([sample], sample.stack[None], output[None])
            ]
        before, finite = [sample.finite for sample in samples], Finite.of(predicted)
        for place, (sample, stack) in enumerate(zip(samples, moved, strict=True)):
            sample.advance(stack)
            sample.finite = finite, place
        known = before if self.computes_behind else [sample.finite for sample in samples]
        return [
            sample if answer is None or answer[0].read(answer[1]) else ArithmeticError(NOT_FINITE)
            for sample, answer in zip(samples, known, strict=True)
        ]

    @torch.inference_mode()
    def decode(self, samples: Sequence[Sample]) -> list[np.ndarray | ArithmeticError]:
        """The pictures of finished samples of one size and one VAE: uint8 [height, width, 3], rounded as in
        diffusers.

        In place of a picture whose latents aren't finite there is an error.
        """
        latents = torch.stack([sample.latents for sample in samples])
        finite = torch.isfinite(latents).flatten(1).all(1)
        latents = latents.where(finite[:, None, None, None], 0)
        decoder = self._tiny_decoder if samples[0].row.tiny_vae else self._decoder
        assert decoder is not None, "`check` has let the row pass"
        pictures: list[np.ndarray | ArithmeticError] = [*decoder.decode(latents)]
        for place, good in enumerate(finite.cpu().tolist()):
            if not good:
                pictures[place] = ArithmeticError(NOT_FINITE)
        return pictures

    def _table(self, row: Row) -> SolverTable:
        try:
            return self._solvers.table(row.solver, row.steps)
        except UnsupportedSolver as error:
            raise InvalidInput("solver", f"{row.solver} can't take {row.steps} steps here") from error


def _texts(row: Row) -> list[str]:
    """The prompts that the UNet needs for a row."""
    return [row.prompt, row.negative_prompt] if row.guidance > 1 else [row.prompt]
