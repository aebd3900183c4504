import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample, advanced, stacked
from predictor.diffusion.solver_table import SolverTable, UnsupportedSolver, tabulate
from predictor.diffusion.solvers import SOLVERS, Solvers
from tests.tiny_models import SCHEDULE

SHAPE = (3, 4, 4)


def model(x: torch.Tensor, timestep: float) -> torch.Tensor:
    """Stands for a UNet: bounded, not linear, different at every timestep."""
    return torch.tanh(0.7 * x + 0.001 * timestep) + 0.1 * x.flip(-1)


def run_scheduler(solvers: Solvers, name: str, steps: int, seed: int = 3) -> torch.Tensor:
    """The loop of StableDiffusionPipeline around a fresh diffusers scheduler."""
    scheduler = solvers.scheduler(name)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    arguments = dict(SOLVERS[name].step_arguments)
    if name not in ("pndm", "deis", "unipc"):
        arguments["generator"] = generator
    x = torch.randn(1, *SHAPE, generator=generator) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        output = model(scheduler.scale_model_input(x, timestep), float(timestep))
        x = scheduler.step(output, timestep, x, **arguments, return_dict=False)[0]
    return x[0]


def begin(table: SolverTable, seed: int = 3) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    stack = torch.zeros(table.width, *SHAPE)
    stack[0] = torch.randn(SHAPE, generator=generator) * table.init_noise_sigma
    row = Row("", "", seed, 1, 1.0, (), 8, 8, "ddim")
    return Sample(row, table, generator, stack, torch.empty(0), None)


def step(samples: list[Sample]) -> None:
    stacks = stacked(samples)
    outputs = [
        model(sample.latents * sample.table.input_scale[sample.call], sample.table.timesteps[sample.call])
        for sample in samples
    ]
    moved = advanced(samples, stacks, torch.stack(outputs))
    for sample, stack in zip(samples, moved, strict=True):
        sample.advance(stack)


def run_table(table: SolverTable, seed: int = 3) -> torch.Tensor:
    sample = begin(table, seed)
    while not sample.finished:
        step([sample])
    return sample.latents


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_table_does_what_the_scheduler_does(name, steps):
    solvers = Solvers("DDIMScheduler", {**SCHEDULE, "clip_sample": False})
    assert_equal(run_table(solvers.table(name, steps)), run_scheduler(solvers, name, steps))


# Plain DDIM with noise is 0/0 at zero terminal SNR, in diffusers too.
ZERO_SNR = [name for name in SOLVERS if name != "ddim_stochastic"]


@pytest.mark.parametrize("name", ZERO_SNR)
def test_v_prediction_with_zero_terminal_snr_and_trailing_spacing(name):
    config = {
        **SCHEDULE,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
    }
    solvers = Solvers("DDIMScheduler", config)
    ours, theirs = run_table(solvers.table(name, 10)), run_scheduler(solvers, name, 10)
    # Euler starts at sigma 4096 there, where a float32 has four digits after the point.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3 if "euler" in name else 1e-4)


def test_noise_at_zero_terminal_snr_is_refused_for_ddim():
    config = {
        **SCHEDULE,
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
    }
    with pytest.raises(UnsupportedSolver, match="divides by zero"):
        Solvers("DDIMScheduler", config).table("ddim_stochastic", 10)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(SOLVERS)),
    steps=st.integers(1, 25),
    config=st.fixed_dictionaries(
        {
            "beta_schedule": st.sampled_from(["linear", "scaled_linear"]),
            "prediction_type": st.sampled_from(["epsilon", "v_prediction"]),
            "timestep_spacing": st.sampled_from(["leading", "trailing", "linspace"]),
            "steps_offset": st.integers(0, 1),
            "set_alpha_to_one": st.booleans(),
        }
    ),
)
def test_every_schedule_option_is_the_schedulers_own(name, steps, config):
    solvers = Solvers("DDIMScheduler", {"num_train_timesteps": 1000, "clip_sample": False, **config})
    try:
        table = solvers.table(name, steps)
    except UnsupportedSolver:  # only where diffusers' own result is no number, or it raises
        try:
            theirs = run_scheduler(solvers, name, steps)
        except Exception:
            return
        assert not torch.isfinite(theirs).all()
        return
    theirs = run_scheduler(solvers, name, steps)
    scale = float(theirs.abs().max())
    torch.testing.assert_close(run_table(table), theirs, rtol=1e-4, atol=1e-4 * max(1.0, scale))


@pytest.mark.parametrize(
    ("class_name", "name", "options"),
    [
        ("DPMSolverMultistepScheduler", "dpmpp_2m", {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", {"solver_order": 3, "final_sigmas_type": "sigma_min"}),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", {"algorithm_type": "sde-dpmsolver++"}),
        ("EulerDiscreteScheduler", "euler", {"use_karras_sigmas": True}),
        (
            "EulerDiscreteScheduler",
            "euler",
            {"final_sigmas_type": "sigma_min", "timestep_type": "continuous"},
        ),
        ("DEISMultistepScheduler", "deis", {"solver_order": 3, "use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", "unipc", {"solver_order": 3, "use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", "unipc", {"predict_x0": False, "final_sigmas_type": "sigma_min"}),
        ("PNDMScheduler", "pndm", {"skip_prk_steps": False}),
        ("DDIMScheduler", "ddim", {"prediction_type": "sample", "clip_sample": False}),
    ],
)
def test_the_folders_own_class_keeps_the_folders_options(class_name, name, options):
    solvers = Solvers(class_name, {**SCHEDULE, **options})
    assert solvers.own == name
    for key, value in options.items():
        assert solvers.scheduler(name).config[key] == value
    assert_equal(run_table(solvers.table(name, 12)), run_scheduler(solvers, name, 12))


def test_rows_of_different_solvers_and_steps_move_together():
    solvers = Solvers("DDIMScheduler", {**SCHEDULE, "clip_sample": False})
    wanted = [(name, steps) for name in SOLVERS for steps in (3, 8)]
    samples = [begin(solvers.table(name, steps), seed) for seed, (name, steps) in enumerate(wanted)]
    while running := [sample for sample in samples if not sample.finished]:
        step(running)
    for seed, ((name, steps), sample) in enumerate(zip(wanted, samples, strict=True)):
        assert_equal(sample.latents, run_scheduler(solvers, name, steps, seed))


def test_a_table_is_made_once_and_keeps_no_more_than_it_needs():
    solvers = Solvers("DDIMScheduler", {**SCHEDULE, "clip_sample": False})
    assert solvers.table("dpmpp_2m", 10) is solvers.table("dpmpp_2m", 10)
    widths = {name: solvers.table(name, 10).width for name in SOLVERS}
    assert widths == {
        "ddim": 1,
        "ddim_stochastic": 1,
        "deis": 2,
        "dpmpp_2m": 2,
        "euler": 1,
        "euler_ancestral": 1,
        "pndm": 4,
        "unipc": 4,
    }
    assert solvers.table("pndm", 10).calls == 11


@pytest.mark.parametrize("option", ["thresholding", "clip_sample"])
def test_what_is_not_linear_is_refused_by_name(option):
    solvers = Solvers("DDIMScheduler", {**SCHEDULE, "clip_sample": False, option: True})
    with pytest.raises(UnsupportedSolver, match=option):
        solvers.table("ddim", 5)


@pytest.mark.parametrize("option", ["thresholding", "clip_sample"])
def test_a_scheduler_that_is_not_linear_is_found_out(option):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**{**SCHEDULE, "clip_sample": False, option: True})
    with pytest.raises(UnsupportedSolver, match="isn't linear"):
        tabulate(scheduler, 5, {})


@pytest.mark.parametrize("name", SOLVERS)
def test_a_schedule_that_ends_near_zero_snr_is_taken_for_linear(name):
    config = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "clip_sample": False}
    table = Solvers("DDIMScheduler", config).table(name, 8)
    assert torch.isfinite(run_table(table)).all()


def test_a_folder_that_says_nothing_about_clipping_is_not_clipped_by_another_class():
    solvers = Solvers("PNDMScheduler", SCHEDULE)
    assert solvers.scheduler("ddim").config.clip_sample is False


@pytest.mark.parametrize(("name", "steps"), [("ddim", 1001), ("euler", 0), ("nonsense", 5)])
def test_what_diffusers_cannot_do_is_refused(name, steps):
    with pytest.raises(UnsupportedSolver):
        Solvers("DDIMScheduler", {**SCHEDULE, "clip_sample": False}).table(name, steps)


@pytest.mark.parametrize("class_name", ["NoSuchScheduler", "UNet2DModel"])
def test_a_class_that_is_no_scheduler_is_refused(class_name):
    with pytest.raises(UnsupportedSolver, match="no scheduler"):
        Solvers(class_name, SCHEDULE)


def test_a_scheduler_outside_the_list_has_no_name():
    assert Solvers("HeunDiscreteScheduler", SCHEDULE).own is None


def test_a_table_that_many_threads_ask_for_is_made_once(monkeypatch):
    made = []

    def slowly(*arguments) -> SolverTable:
        made.append(arguments)
        time.sleep(0.2)  # so that all the others ask meanwhile
        return tabulate(*arguments)

    monkeypatch.setattr("predictor.diffusion.solvers.tabulate", slowly)
    ours = Solvers("DDIMScheduler", {**SCHEDULE, "clip_sample": False})
    with ThreadPoolExecutor(6) as threads:
        tables = list(threads.map(ours.table, ["ddim"] * 6, [5] * 6))
    assert len(made) == 1
    assert all(table is tables[0] for table in tables)
