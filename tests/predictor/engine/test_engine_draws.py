"""The engine with real diffusers: pictures, LoRAs, failures."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest
import torch

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.finite import Finite
from predictor.engine.engine import Engine
from predictor.errors import (
    ServingError,
    UnknownModel,
)
from tests.predictor.engine.recorder import Recorder, make_row, run, settle
from tests.tiny_models import make_lora


def test_concurrent_requests_get_the_pictures_they_get_alone(tiny_folders):
    diffuser = Diffuser.load(tiny_folders["emoji"])
    diffuser.add_adapter("a@1", make_lora(diffuser._denoiser._unet, seed=1))
    requests = [
        [make_row(seed=1), make_row(seed=2, prompt="dog", solver="dpmpp_2m", steps=5)],
        [make_row(seed=3, loras=(("a@1", 1.0),), guidance=1.0)],
        [
            make_row(seed=5, loras=(("a@1", 1.0),), steps=5, inner_every=2),
            make_row(seed=6, steps=4, inner_every=3),
        ],
        [make_row(seed=4, loras=(("a@1", 0.5),), height=24), make_row(seed=4, height=24)],
    ]

    async def main() -> None:
        engine = Engine(diffuser, max_batch_size=3, max_queue_rows=16)
        engine.start()
        together = await asyncio.gather(*map(engine.draw, requests))
        for rows, pictures in zip(requests, together, strict=True):
            assert pictures.shape == (len(rows), rows[0].height, rows[0].width, 3)
            for row, picture in zip(rows, pictures, strict=True):
                [alone] = await engine.draw([row])
                assert abs(picture.astype(int) - alone.astype(int)).max() <= 1
        await engine.stop(10)

    run(main)


def test_a_lora_may_come_and_go_while_the_engine_draws(tiny_folders):
    diffuser = Diffuser.load(tiny_folders["sd15"])

    async def main() -> None:
        engine = Engine(diffuser, max_batch_size=2, max_queue_rows=16)
        engine.start()
        base = asyncio.create_task(engine.draw([make_row(steps=10)]))
        await engine.add_adapter("b@1", make_lora(diffuser._denoiser._unet, seed=2))
        changed = await engine.draw([make_row(steps=10, loras=(("b@1", 1.0),))])
        assert not np.array_equal(changed, await base)
        await engine.remove_adapter("b@1")
        assert np.array_equal(await engine.draw([make_row(steps=10)]), await base)
        await engine.stop(10)

    run(main)


def test_no_step_waits_while_a_lora_is_checked(tiny_folders):
    """The check waits until pictures have been drawn; in the worker thread, neither could go on."""
    drawn = threading.Event()

    class Slow(Diffuser):
        def prepare_adapter(self, name, tensors):
            assert drawn.wait(60)
            return super().prepare_adapter(name, tensors)

    diffuser = Slow.load(tiny_folders["sd15"])
    tensors = make_lora(diffuser._denoiser._unet, seed=2)

    async def main() -> None:
        engine = Engine(diffuser, max_batch_size=2, max_queue_rows=16)
        engine.start()
        adding = asyncio.create_task(engine.add_adapter("b@1", tensors))
        await engine.draw([make_row()])
        assert not adding.done()
        with pytest.raises(UnknownModel):
            await engine.draw([make_row(loras=(("b@1", 1.0),))])
        drawn.set()
        await adding
        await engine.draw([make_row(loras=(("b@1", 1.0),))])
        await engine.stop(10)

    run(main)


def test_latents_that_are_not_finite_fail_alone(tiny_folders, caplog):
    diffuser = Diffuser.load(tiny_folders["sd15"])
    rows = [make_row(seed=seed) for seed in range(3)]

    async def main() -> None:
        engine = Engine(diffuser, max_batch_size=4, max_queue_rows=16)
        engine.start()
        alone = [await engine.draw([row]) for row in (rows[0], rows[2])]
        begin = diffuser.begin

        def poisoned(begun):
            samples = begin(begun)
            for sample in samples:
                if sample.row is rows[1]:
                    sample.stack = torch.full_like(sample.stack, torch.nan)
            return samples

        engine._batch._begin = dataclasses.replace(engine._batch._begin, work=poisoned)
        first, poison, last = await asyncio.gather(
            *(engine.draw([row]) for row in rows), return_exceptions=True
        )
        assert type(poison) is ServingError
        assert "not finite" in caplog.text
        for picture, wanted in zip((first, last), alone, strict=True):
            assert abs(picture.astype(int) - wanted.astype(int)).max() <= 1
        await engine.stop(10)

    run(main)


def test_a_lora_that_left_while_solver_tables_were_made_is_unknown():
    recorder = Recorder()

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=16)
        engine.start()
        asking = asyncio.create_task(engine.draw([make_row(prompt="new table", loras=(("a@1", 1.0),))]))
        await asyncio.sleep(0)  # now it waits for its table
        await engine.remove_adapter("a@1")
        recorder.table_gate.release()
        with pytest.raises(UnknownModel):
            await asking
        await engine.stop(10)

    run(main)


def test_more_loras_than_the_device_holds_are_drawn_alike(tiny_folders):
    few = Diffuser.load(tiny_folders["sd15"], max_resident_loras=2)
    many = Diffuser.load(tiny_folders["sd15"])
    for number in range(5):
        for diffuser in (few, many):
            diffuser.add_adapter(f"n@{number}", make_lora(many._denoiser._unet, seed=number))
    mixes = [((f"n@{number}", 0.5), (f"n@{(number + 2) % 5}", 1.0)) for number in range(5)]

    async def main() -> None:
        pictures = []
        for diffuser in (few, many):
            engine = Engine(diffuser, max_batch_size=2, max_queue_rows=16)
            engine.start()
            requests = [engine.draw([make_row(seed=seed, loras=mix)]) for seed, mix in enumerate(mixes)]
            pictures.append(await asyncio.gather(*requests))
            await engine.stop(10)
        for ours, theirs in zip(*pictures, strict=True):
            assert abs(ours.astype(int) - theirs.astype(int)).max() <= 1
        assert len(few.resident_adapters) <= 4 < len(many.resident_adapters)

    run(main)


@pytest.mark.parametrize("fixed_rows", [None, 8])
@pytest.mark.parametrize("solver", ["ddim", "euler_ancestral"])
def test_a_row_beside_one_that_fails_is_not_stepped_twice(tiny_folders, solver, fixed_rows):
    """The failure comes after the step's noise has been drawn and all has been computed."""
    diffuser = Diffuser.load(tiny_folders["sd15"], fixed_rows=fixed_rows)
    finite = Finite.of
    rows = [make_row(seed=seed, solver=solver, steps=6) for seed in range(4)]
    failures = iter([False, True, True, False, True])

    async def main() -> None:
        engine = Engine(diffuser, max_batch_size=4, max_queue_rows=16)
        engine.start()
        alone = [await engine.draw([row]) for row in rows]

        def failing(values):
            if len(values) > 1 and next(failures, False):
                raise RuntimeError("as late as it may come")
            return finite(values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Finite, "of", failing)
            together = await asyncio.gather(*(engine.draw([row]) for row in rows))
        for picture, wanted in zip(together, alone, strict=True):
            assert abs(picture.astype(int) - wanted.astype(int)).max() <= 1
        await engine.stop(10)

    run(main)
    assert next(failures, None) is None  # it did fail


def test_the_event_loop_goes_on_while_a_step_runs(tiny_folders):
    """The step waits inside the UNet until the loop has ticked; run on the loop, neither could go on."""
    diffuser = Diffuser.load(tiny_folders["sd15"])
    ticked = threading.Event()
    diffuser._denoiser._unet.register_forward_pre_hook(
        lambda *_: None if ticked.wait(60) else pytest.fail("no tick")
    )

    async def main() -> None:
        engine = Engine(diffuser, max_batch_size=2, max_queue_rows=16)
        engine.start()
        drawing = asyncio.create_task(engine.draw([make_row()]))
        await settle(lambda: engine.active_rows == 1)
        for _ in range(20):
            await asyncio.sleep(0.001)
        ticked.set()
        await drawing
        await engine.stop(10)

    run(main)
