"""A solver as a table of numbers, one matrix a step, read off a diffusers scheduler by running it on unit
vectors.

What a row carries from step to step is a stack of latents: the sample x, then whatever the scheduler
remembers of earlier steps. A linear scheduler maps that stack, the model output m and a noise z to the next
stack:

    [x', memory'] = matrix @ [x, memory, m, z]

So the beta schedule, spacing, prediction type, sigmas, orders and warm-up stay diffusers' own, and no
formula is written twice. It doesn't know which solvers are served, nor what the numbers are applied to.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin

Key = tuple[str, int]  # attribute of the scheduler, place in it where it is a list
SAMPLE: Key = ("sample", 0)


class UnsupportedSolver(ValueError):
    """The scheduler can't be written as a table, or can't take that number of steps."""


@dataclass(frozen=True, slots=True)
class SolverTable:
    """One solver at one number of steps; float32 on the CPU. Read only, shared by all rows that use it.

    timesteps: [calls], what the UNet is told. There may be more calls than steps (PNDM: one more).
    input_scale: [calls], the factor on x before the UNet (Euler divides by sqrt(sigma² + 1)).
    matrices: [calls, width, width + 2]; the columns are the stack (x first), the model output, the noise.
    draws_noise: [calls], whether the row's generator gives a noise at that call.
    init_noise_sigma: the factor on the first noise.
    """

    timesteps: tuple[float, ...]
    input_scale: tuple[float, ...]
    matrices: torch.Tensor
    draws_noise: tuple[bool, ...]
    init_noise_sigma: float

    @property
    def calls(self) -> int:
        """UNet calls a row needs."""
        return len(self.timesteps)

    @property
    def width(self) -> int:
        """Latents a row carries from call to call."""
        return self.matrices.shape[1]


def tabulate(scheduler: SchedulerMixin, steps: int, step_arguments: Mapping[str, Any]) -> SolverTable:
    """The table of a scheduler at `steps` inference steps; `step_arguments` go to its `step` (DDIM's eta).

    Raises UnsupportedSolver if the scheduler refuses the number of steps, or turns out not to be linear.
    """
    sounding = scheduler.from_config(scheduler.config)
    silent = scheduler.from_config(scheduler.config)
    try:
        sounding.set_timesteps(steps)
        silent.set_timesteps(steps)
        probes = [_probe(sounding, silent, timestep, step_arguments) for timestep in sounding.timesteps]
    except Exception as error:  # schedulers fail in many ways on numbers of steps they weren't made for
        raise UnsupportedSolver(f"{type(scheduler).__name__} can't take {steps} steps: {error}") from error
    table = _assemble(probes, float(sounding.init_noise_sigma))
    if not torch.isfinite(table.matrices).all():
        raise UnsupportedSolver(
            f"{type(scheduler).__name__} divides by zero with this configuration at {steps} steps"
        )
    _verify(table, scheduler.from_config(scheduler.config), steps, step_arguments)
    return table


@dataclass(frozen=True, slots=True)
class _Probe:
    """One call as the scheduler does it: a row of coefficients for each thing it remembers afterwards."""

    timestep: float
    input_scale: float
    columns: tuple[Key, ...]
    rows: dict[Key, torch.Tensor]  # each [len(columns) + 1]: the stack, then the model output
    draws_noise: bool
    noise: float


def _probe(
    scheduler: SchedulerMixin,
    silent: SchedulerMixin,
    timestep: torch.Tensor,
    step_arguments: Mapping[str, Any],
) -> _Probe:
    """Steps on unit vectors [1, D, 1, 1]: channel k of a result is its coefficient on vector k.

    `silent` takes the same step on zeros, so what it gives is the noise alone.
    """
    columns = (SAMPLE, *_memory(scheduler))
    units = torch.eye(len(columns) + 1)[:, None, :, None, None].unbind()
    zero = torch.zeros_like(units[0])
    for key, unit in zip(columns[1:], units[1:-1], strict=True):
        _remember(scheduler, key, unit.clone())
        _remember(silent, key, zero.clone())
    input_scale = float(scheduler.scale_model_input(units[0].clone(), timestep)[0, 0])
    silent.scale_model_input(zero.clone(), timestep)
    generator = torch.Generator().manual_seed(0)
    untouched = generator.get_state()
    after = _step(scheduler, units[-1], timestep, units[0], generator, step_arguments)
    draws_noise = not torch.equal(generator.get_state(), untouched)
    noise = _step(silent, zero, timestep, zero, generator.manual_seed(0), step_arguments)
    drawn = torch.randn(zero.shape, generator=generator.manual_seed(0))
    return _Probe(
        timestep=float(timestep),
        input_scale=input_scale,
        columns=columns,
        rows={SAMPLE: (after - noise).flatten()}
        | {key: tensor.flatten() for key, tensor in _memory(scheduler).items()},
        draws_noise=draws_noise,
        noise=float((noise * drawn).sum() / drawn.square().sum()) if draws_noise else 0.0,
    )


def _memory(scheduler: SchedulerMixin) -> dict[Key, torch.Tensor]:
    """What the scheduler remembers of earlier steps: its attributes that are shaped like a sample, alone or
    in lists.
    """
    memory = {}
    for name, value in vars(scheduler).items():
        for place, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, torch.Tensor) and item.ndim == 4:
                memory[name, place] = item
    return memory


def _remember(scheduler: SchedulerMixin, key: Key, tensor: torch.Tensor) -> None:
    name, place = key
    if isinstance(getattr(scheduler, name), list):
        getattr(scheduler, name)[place] = tensor
    else:
        setattr(scheduler, name, tensor)


def _step(
    scheduler: SchedulerMixin,
    model_output: torch.Tensor,
    timestep: torch.Tensor,
    sample: torch.Tensor,
    generator: torch.Generator,
    step_arguments: Mapping[str, Any],
) -> torch.Tensor:
    arguments = dict(step_arguments)
    if "generator" in inspect.signature(scheduler.step).parameters:
        arguments["generator"] = generator
    result = scheduler.step(model_output.clone(), timestep, sample.clone(), **arguments, return_dict=False)
    return result[0]


def _assemble(probes: list[_Probe], init_noise_sigma: float) -> SolverTable:
    """Keeps of the memory only what reaches a later sample, and gives it places in the stack."""
    kept: list[list[Key]] = [[SAMPLE]]  # from the last call backwards
    for probe in reversed(probes):
        reach = torch.stack([probe.rows[key] for key in kept[-1]]).ne(0).any(0)
        kept.append(
            [key for key, used in zip(probe.columns, reach[:-1], strict=True) if used or key == SAMPLE]
        )
    kept.reverse()
    width = max(map(len, kept))
    matrices = torch.zeros(len(probes), width, width + 2)
    for probe, before, after, matrix in zip(probes, kept[:-1], kept[1:], matrices, strict=True):
        columns = [probe.columns.index(key) for key in before]
        for place, key in enumerate(after):
            matrix[place, : len(before)] = probe.rows[key][columns]
            matrix[place, width] = probe.rows[key][-1]
        matrix[0, width + 1] = probe.noise
    return SolverTable(
        timesteps=tuple(probe.timestep for probe in probes),
        input_scale=tuple(probe.input_scale for probe in probes),
        matrices=matrices,
        draws_noise=tuple(probe.draws_noise for probe in probes),
        init_noise_sigma=init_noise_sigma,
    )


def _verify(
    table: SolverTable, scheduler: SchedulerMixin, steps: int, step_arguments: Mapping[str, Any]
) -> None:
    """Compares the table with the scheduler on random numbers: whatever isn't linear shows."""
    scheduler.set_timesteps(steps)
    generator, twin = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    inputs = torch.Generator().manual_seed(2)
    sample = table.init_noise_sigma * torch.randn(1, 4, 4, 4, generator=inputs)
    stack = torch.zeros(table.width, 4, 4, 4)
    stack[0] = sample[0]
    for call, timestep in enumerate(scheduler.timesteps):
        model_output = torch.randn(sample.shape, generator=inputs)
        scheduler.scale_model_input(sample, timestep)
        sample = _step(scheduler, model_output, timestep, sample, generator, step_arguments)
        noise = torch.zeros_like(sample)
        if table.draws_noise[call]:
            noise = torch.randn(sample.shape, generator=twin)
        stack = torch.tensordot(table.matrices[call], torch.cat([stack, model_output, noise]), dims=1)
        # Wide: near zero SNR float32 leaves the scheduler itself few digits. What isn't linear is far off.
        if not torch.allclose(stack[0], sample[0], rtol=0.05, atol=0.05 * float(sample.abs().max())):
            raise UnsupportedSolver(f"{type(scheduler).__name__} isn't linear with this configuration")
