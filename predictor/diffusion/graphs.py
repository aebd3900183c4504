"""UNet calls captured as CUDA graphs: the host launches one graph in place of a thousand kernels.

A graph has fixed shapes and addresses. So calls are filled up to the next number of rows that there is a
graph for, each row multiplies LoRAs of its own, padded to one of few numbers of pages, and the tensors of a
call are copied to where the graph reads them. All graphs are captured before the first request, none
afterwards: a call that none fits is computed as it comes. It doesn't know guidance, solvers or what a UNet
is.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import product

import torch

from predictor.diffusion.adapters import AdapterPool, Choice
from predictor.diffusion.bucket import Compute

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64)
PAGES = (0, 16, 32)
"""No LoRA, one of the usual rank, two."""


@dataclass(frozen=True, eq=False, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    output: torch.Tensor

    def replay(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Good until the next replay. Rows beyond those given compute what was in their place before."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own[: len(given)].copy_(given)
        self.graph.replay()
        return self.output[: len(inputs[0])]


class Graphs:
    """A Compute over another one on a CUDA device, which replays what `capture` has captured."""

    def __init__(self, compute: Compute, adapters: AdapterPool) -> None:
        self._compute = compute
        self._adapters = adapters
        self._graphs: dict[Hashable, _Graph] = {}
        self._shapes: set[tuple[torch.Size, torch.Size]] = set()  # of one row
        self._memory = torch.cuda.graph_pool_handle()
        self._needed = 0
        self._computed = 0

    @property
    def padding_share(self) -> float:
        """Of all rows computed, the share that were there to fill a call."""
        return 1 - self._needed / self._computed if self._computed else 0.0

    def capture(self, latents: torch.Tensor, states: torch.Tensor, most: int) -> None:
        """For calls of 1 to `most` rows like latents [C, h, w] and states [tokens, width].

        They may use the LoRAs there are now, and later ones that reach the same modules.
        """
        shape = latents.shape, states.shape
        self._shapes.add(shape)
        wanted = ROWS[: 1 + ROWS.index(_filled(most) or ROWS[-1])]
        # One place for the inputs of all: a prompt's states are megabytes a row, with keys and values.
        inputs = [
            each.expand(wanted[-1], *each.shape).clone() for each in (latents, latents.new_zeros(()), states)
        ]
        # The largest first: what the chosen pages are copied to then grows but once.
        for rows, pages in product(reversed(wanted), reversed(PAGES)):
            for choice in self._choices(pages):
                choices = [choice] * rows
                self._adapters.select(choices, pages)
                key = rows, shape, self._adapters.layout
                if key not in self._graphs:
                    self._graphs[key] = self._captured([each[:rows] for each in inputs], choices, pages)

    def __call__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: torch.Tensor,
        choices: Sequence[Choice],
        pages: int | None = None,
    ) -> torch.Tensor:
        """As Compute, but good only until the next call; `pages` is not looked at."""
        graph = self._select(len(latents), (latents.shape[1:], states.shape[1:]), choices)
        self._needed += len(latents)
        self._computed += len(latents) if graph is None else len(graph.output)
        if graph is None:
            return self._compute(latents, timesteps, states, choices)
        return graph.replay(latents, timesteps, states)

    def _select(
        self, count: int, shape: tuple[torch.Size, torch.Size], choices: Sequence[Choice]
    ) -> _Graph | None:
        """The graph for a call, with the pages chosen that it reads."""
        rows, most = _filled(count), max(map(self._adapters.pages, choices))
        pages = next((pages for pages in PAGES if pages >= most), None)
        if rows is None or pages is None or shape not in self._shapes:
            return None
        self._adapters.select([*choices, *[()] * (rows - count)], pages)
        return self._graphs.get((rows, shape, self._adapters.layout))

    def _choices(self, pages: int) -> list[Choice]:
        """Those that fill no more than so many pages, and between them reach all modules."""
        ones: list[Choice] = [((name, 1.0),) for name in self._adapters.names]
        return [one for one in ones if self._adapters.pages(one) <= pages] if pages else [()]

    def _captured(self, inputs: list[torch.Tensor], choices: Sequence[Choice], pages: int) -> _Graph:
        latents, timesteps, states = inputs
        # Once beforehand, and beside the default stream: libraries choose kernels and take memory at first.
        default, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(default)
        with torch.cuda.stream(beside):
            self._compute(latents, timesteps, states, choices, pages)
        default.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may pin memory meanwhile
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            output = self._compute(latents, timesteps, states, choices, pages)
        return _Graph(graph, inputs, output)


def _filled(rows: int) -> int | None:
    """How many rows a call of so many has; None: there is no graph of so many."""
    return next((each for each in ROWS if each >= rows), None)
