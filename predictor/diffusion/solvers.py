"""The solvers that are served, and their tables over one folder's scheduler configuration.

It doesn't know how a table is read off a scheduler, nor what it is applied to.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import diffusers
from diffusers import SchedulerMixin

from predictor.diffusion.solver_table import SolverTable, UnsupportedSolver, tabulate

NONLINEAR = ("thresholding", "clip_sample")


@dataclass(frozen=True, slots=True)
class Solver:
    """A diffusers scheduler class, options for folders of another class, and arguments of its `step`."""

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    step_arguments: Mapping[str, Any] = field(default_factory=dict)


SOLVERS: Mapping[str, Solver] = {
    "ddim": Solver("DDIMScheduler"),
    "ddim_stochastic": Solver("DDIMScheduler", step_arguments={"eta": 1.0}),
    "deis": Solver("DEISMultistepScheduler"),
    "dpmpp_2m": Solver(
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"},
    ),
    "euler": Solver("EulerDiscreteScheduler"),
    "euler_ancestral": Solver("EulerAncestralDiscreteScheduler"),
    "pndm": Solver("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": Solver("UniPCMultistepScheduler"),
}


class Solvers:
    """Every solver over one folder's scheduler configuration; a table is made when first asked for, then
    kept, whichever threads ask.

    The folder's own scheduler class keeps the folder's options; the others take from it what they know, as
    diffusers' `from_config` does.
    """

    def __init__(self, class_name: str, config: Mapping[str, Any]) -> None:
        """`class_name` and `config` describe the folder's scheduler. Raises UnsupportedSolver if it's no
        scheduler, or none with such a configuration.
        """
        own_class = getattr(diffusers, class_name, None)
        if not (isinstance(own_class, type) and issubclass(own_class, SchedulerMixin)):
            raise UnsupportedSolver(f"diffusers has no scheduler {class_name}")
        self._class_name = class_name
        self._config = _make(own_class, dict(config)).config
        # Some classes clip x0 to ±1 unless told not to, which suits pixels; latents have no such range.
        self._unclipped = {} if "clip_sample" in config else {"clip_sample": False}
        self._tables: dict[tuple[str, int], SolverTable] = {}
        self._making = Lock()

    @property
    def own(self) -> str | None:
        """The name of the folder's own scheduler class; None if it isn't among SOLVERS."""
        return next((name for name, solver in SOLVERS.items() if solver.class_name == self._class_name), None)

    @property
    def max_steps(self) -> int:
        """The number of training timesteps; no row may take more steps."""
        return int(self._config.num_train_timesteps)

    def scheduler(self, name: str) -> SchedulerMixin:
        """A fresh diffusers scheduler, as the tables are made from. Raises UnsupportedSolver."""
        if name not in SOLVERS:
            raise UnsupportedSolver(f"no solver {name!r}; there are {', '.join(SOLVERS)}")
        solver = SOLVERS[name]
        scheduler_class = getattr(diffusers, solver.class_name)
        options = {} if solver.class_name == self._class_name else {**solver.options, **self._unclipped}
        known = inspect.signature(scheduler_class).parameters
        known_options = {key: value for key, value in options.items() if key in known}
        scheduler = _make(scheduler_class, self._config, **known_options)
        for option in NONLINEAR:
            if scheduler.config.get(option):
                raise UnsupportedSolver(
                    f"{solver.class_name}: {option} isn't linear; set it to false in scheduler_config.json"
                )
        return scheduler

    def refusal(self, name: str) -> str | None:
        """Why a solver can't be used with this folder; None where it can."""
        try:
            self.scheduler(name)
        except UnsupportedSolver as error:
            return str(error)
        return None

    @cached_property
    def usable(self) -> tuple[str, ...]:
        """The names of the solvers that can."""
        return tuple(name for name in SOLVERS if self.refusal(name) is None)

    def has_table(self, name: str, steps: int) -> bool:
        """Whether `table` will answer at once."""
        return (name, steps) in self._tables

    def table(self, name: str, steps: int) -> SolverTable:
        """The table of one solver at `steps` inference steps. Raises UnsupportedSolver."""
        if not 1 <= steps <= self.max_steps:
            raise UnsupportedSolver(f"{steps} steps are not from 1 to {self.max_steps}")
        key = (name, steps)
        if key not in self._tables:
            with self._making:  # one at a time, since they all need Python's own lock
                if key not in self._tables:
                    self._tables[key] = tabulate(self.scheduler(name), steps, SOLVERS[name].step_arguments)
        return self._tables[key]


def _make(scheduler_class: Any, config: Mapping[str, Any], **options: Any) -> Any:
    """A scheduler of this class. Raises UnsupportedSolver where the class can't take the configuration."""
    try:
        return scheduler_class.from_config(config, **options)
    except Exception as error:  # each class has its own checks, and errors
        raise UnsupportedSolver(
            f"{scheduler_class.__name__} refuses scheduler_config.json: {error}"
        ) from error
