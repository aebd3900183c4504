"""The UNet, each row of a call with its own LoRAs: latents become predictions, guided where a sample is.

A call is of the whole UNet, or of its outer layers alone for samples that have what the inner ones gave.

It doesn't know solvers, prompts or pictures.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel

from predictor.diffusion.adapters import AdapterPool, Choice
from predictor.diffusion.blocks import Blocks
from predictor.diffusion.bucket import Buckets
from predictor.diffusion.graphs import Graphs
from predictor.diffusion.outer import OuterLayers
from predictor.diffusion.sample import Sample
from predictor.diffusion.transfer import to_device

PROJECTIONS = 64
"""Prompts that are remembered as the UNet takes them: each up to 1 MB for a small model, 4 MB for Stable
Diffusion 1.5 in float16.
"""


class Denoiser:
    """`adapters` are the LoRAs that rows may use; like all here they belong to one thread at a time."""

    def __init__(self, unet: UNet2DConditionModel, max_resident_loras: int, fixed_rows: int | None) -> None:
        """Takes over a UNet that lies on its device. fixed_rows: see Buckets; None: calls as they come."""
        self._unet = unet
        self._blocks = Blocks(unet)
        self._outer = OuterLayers(unet)
        self.adapters = AdapterPool(unet, max_resident_loras)
        self._buckets = Buckets(self._compute, self.adapters.pages, fixed_rows) if fixed_rows else None
        self._graphs: Graphs | None = None
        self._projections: OrderedDict[tuple[str, Choice], torch.Tensor] = OrderedDict()

    @property
    def skips_inner_layers(self) -> bool:
        """Whether samples may have the outer layers computed alone: not in fixed buckets."""
        return self._outer.usable and self._buckets is None

    @property
    def padding_share(self) -> float:
        """Of all rows that the UNet has computed, the share that were there to fill a call. From any
        thread.
        """
        filled = self._buckets or self._graphs
        return filled.padding_share if filled is not None else 0.0

    def capture(self, latents: torch.Tensor, states: torch.Tensor, most: int) -> None:
        """Makes CUDA graphs for calls of up to `most` rows like latents [C, h, w] and projected states
        [tokens, width]; see Graphs.
        """
        if self._graphs is None:
            self._graphs = Graphs(self._compute, self.adapters)
        self._outer.watch(False)
        self._graphs.capture(latents, states, most)

    def project(self, text: str, states: torch.Tensor, choice: Choice) -> torch.Tensor:
        """What the UNet takes for a text in rows with these LoRAs, see Blocks. The latest are remembered, and
        each is computed alone, to be the same whoever asks. states: [tokens, width], the text encoder's.
        """
        projection = self._projections.pop((text, choice), None)
        if projection is None:
            self.adapters.select([choice])
            projection = self._blocks.project(states[None])[0]
        self._projections[text, choice] = projection
        if len(self._projections) > PROJECTIONS:
            self._projections.popitem(last=False)
        return projection

    def remove_adapter(self, name: str) -> None:
        """Drops a LoRA; another one may come under its name. Raises KeyError."""
        self.adapters.remove(name)
        self._projections.clear()

    def predict(self, samples: Sequence[Sample], latents: torch.Tensor) -> torch.Tensor:
        """The guided model output [B, C, h, w] float32: one UNet row a sample, two where it's guided.

        The samples are alike in `outer_only`.
        """
        guided = [place for place, sample in enumerate(samples) if sample.negative_states is not None]
        rows = [(place, False) for place in range(len(samples))] + [(place, True) for place in guided]
        rows.sort(key=lambda row: samples[row[0]].row.loras)  # those of one mix stand side by side
        own = [samples[place] for place, _ in rows]
        device = latents.device
        places = to_device(torch.tensor([place for place, _ in rows]), device)
        numbers = to_device(
            torch.tensor(
                [
                    (sample.table.timesteps[sample.call], sample.table.input_scale[sample.call])
                    for sample in own
                ]
            ),
            device,
        )
        states = [
            samples[place].negative_states if negative else samples[place].prompt_states
            for place, negative in rows
        ]
        inputs = latents.index_select(0, places) * numbers[:, 1, None, None, None]
        arguments = (
            inputs,
            numbers[:, 0],
            torch.stack(states),  # type: ignore[arg-type]
            [sample.row.loras for sample in own],
        )
        if samples[0].outer_only:
            inner = [samples[place].inner[negative] for place, negative in rows]
            output = self._compute_outer(*arguments, torch.stack(inner))
        else:
            keeping = any(sample.row.inner_every > 1 for sample in samples)
            self._outer.watch(keeping)
            replayed = None if keeping else self._graphs  # a graph keeps nothing of what is within
            output = (self._buckets or replayed or self._compute)(*arguments)
            if keeping:
                self._keep_inner(samples, rows)
        number = {row: number for number, row in enumerate(rows)}
        first = [number[place, False] for place in range(len(samples))]
        prompted = output.index_select(0, to_device(torch.tensor(first), device))
        if guided:
            second = [number.get((place, True), first[place]) for place in range(len(samples))]
            unprompted = output.index_select(0, to_device(torch.tensor(second), device))
            # of an unguided sample both are the same: whatever the scale, that is what comes out
            scale = to_device(torch.tensor([sample.row.guidance for sample in samples]), device)
            prompted = unprompted + scale[:, None, None, None] * (prompted - unprompted)
        return prompted

    def _keep_inner(self, samples: Sequence[Sample], rows: Sequence[tuple[int, bool]]) -> None:
        """Gives samples, whose rows the call had, what they will use again; clones, lest they hold it all."""
        inner = self._outer.take()
        for number, (place, negative) in enumerate(rows):
            if samples[place].row.inner_every > 1:
                samples[place].inner[negative] = inner[number].clone()

    def _compute(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: torch.Tensor,
        choices: Sequence[Choice],
        pages: int | None = None,
    ) -> torch.Tensor:
        self.adapters.select(choices, pages)
        output = self._unet(
            latents.to(self._unet.dtype, memory_format=torch.channels_last),
            timesteps,
            encoder_hidden_states=states,
            return_dict=False,
        )[0]
        return output.float()

    def _compute_outer(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: torch.Tensor,
        choices: Sequence[Choice],
        inner: torch.Tensor,
    ) -> torch.Tensor:
        self.adapters.select(choices)
        return self._outer.forward(
            latents.to(self._unet.dtype, memory_format=torch.channels_last),
            timesteps,
            states,
            inner.contiguous(memory_format=torch.channels_last),
        ).float()
