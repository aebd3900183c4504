import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffuser import Diffuser
from predictor.engine import Engine
from predictor.errors import InvalidInput, NotReady, QueueFull, ServingError, UnknownModel
from predictor.row import Row
from tests.tiny_models import make_lora


def make_row(**changes) -> Row:
    row = {
        "prompt": "a cat",
        "negative_prompt": "",
        "seed": 0,
        "steps": 3,
        "guidance": 2.0,
        "loras": (),
        "height": 16,
        "width": 16,
        "solver": "ddim",
    }
    return Row(**{**row, **changes})


@dataclass
class Sample:
    row: Row
    call: int = 0

    @property
    def table(self):
        return type("Table", (), {"calls": self.row.steps})

    @property
    def finished(self) -> bool:
        return self.call == self.row.steps


@dataclass
class Recorder:
    """A diffuser without a model: keeps a record of what the engine asks for. A row's picture is its seed.

    Rows whose prompt is "fails at begin", "fails at step" or "fails at decode" fail there.
    `gate` holds up each step.
    """

    begun: list[int] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    gate: threading.Semaphore | None = None
    memory_rows: int = 1000
    table_gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    adapters: tuple[str, ...] = ("a@1",)

    def check(self, row: Row) -> None:
        for name, _ in row.loras:
            if name not in self.adapters:
                raise UnknownModel(name)

    def is_prepared(self, rows: Sequence[Row]) -> bool:
        return all(row.prompt != "new table" for row in rows)

    def prepare(self, rows: Sequence[Row]) -> None:
        self.table_gate.acquire()

    def begin(self, rows: Sequence[Row]) -> list[Sample]:
        self._may_fail(rows, "begin")
        self.begun += [row.seed for row in rows]
        return [Sample(row) for row in rows]

    def step(self, samples: Sequence[Sample]) -> list[Sample]:
        if self.gate is not None:
            self.gate.acquire()
        self._may_fail([sample.row for sample in samples], "step")
        if len(samples) > self.memory_rows:
            raise torch.OutOfMemoryError
        self.steps.append([sample.row.seed for sample in samples])
        self.sizes += {(sample.row.height, sample.row.width) for sample in samples}
        for sample in samples:
            sample.call += 1
        return list(samples)

    def decode(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        self._may_fail([sample.row for sample in samples], "decode")
        return [np.full((2, 2, 3), sample.row.seed, dtype=np.uint8) for sample in samples]

    def _may_fail(self, rows: Sequence[Row], where: str) -> None:
        if any(row.prompt == f"fails at {where}" for row in rows):
            raise RuntimeError("secret detail")

    def remove_adapter(self, name: str) -> None:
        self.adapters = tuple(other for other in self.adapters if other != name)


def run(main) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(bounded())


async def settle(condition) -> None:
    while not condition():  # noqa: ASYNC110 - the engine tells nobody of what is waited for here
        await asyncio.sleep(0.001)


@settings(deadline=None, max_examples=40)
@given(
    max_batch_size=st.integers(1, 5),
    requests=st.lists(
        st.lists(
            st.tuples(
                st.integers(1, 4),  # steps
                st.sampled_from(["fine"] * 6 + ["fails at begin", "fails at step", "fails at decode"]),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=6,
    ),
    sizes=st.lists(st.sampled_from([16, 24]), min_size=6, max_size=6),
)
def test_no_row_is_lost_and_no_batch_too_large(max_batch_size, requests, sizes):
    recorder = Recorder()
    numbers = iter(range(100))
    drawn = [
        [make_row(seed=next(numbers), steps=steps, prompt=prompt, height=size) for steps, prompt in request]
        for request, size in zip(requests, sizes, strict=False)
    ]

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=max_batch_size, max_queue_rows=100)
        engine.start()
        replies = await asyncio.gather(*map(engine.draw, drawn), return_exceptions=True)
        assert engine.queue_depth == engine.active_rows == 0
        await engine.stop(10)
        for rows, reply in zip(drawn, replies, strict=True):
            if any(row.prompt != "fine" for row in rows):
                assert type(reply) is ServingError
                assert "secret" not in str(reply)
            else:
                assert reply[:, 0, 0, 0].tolist() == [row.seed for row in rows]

    run(main)
    assert recorder.begun == sorted(recorder.begun)  # first come, first served
    assert all(len(step) <= max_batch_size for step in recorder.steps)
    for rows in drawn:
        if all(row.prompt == "fine" for row in rows):
            for row in rows:
                assert sum(step.count(row.seed) for step in recorder.steps) == row.steps


def test_rows_join_the_batch_between_steps_and_leave_when_done():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=10)
        engine.start()
        long = asyncio.create_task(engine.draw([make_row(seed=1, steps=4)]))
        await settle(lambda: engine.active_rows == 1)
        pair = asyncio.create_task(engine.draw([make_row(seed=2, steps=1), make_row(seed=3, steps=2)]))
        await settle(lambda: engine.queue_depth == 2)
        recorder.gate.release(100)
        await asyncio.gather(long, pair)
        await engine.stop(10)

    run(main)
    # The first step runs alone; then one row of the pair joins, and the other takes its place.
    assert recorder.steps == [[1], [1, 2], [1, 3], [1, 3]]


def test_a_row_that_waits_for_its_solver_table_holds_up_no_other():
    async def run() -> tuple[bool, int]:
        recorder = Recorder()
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=8)
        engine.start()
        waiting = asyncio.create_task(engine.draw([make_row(prompt="new table", seed=1)]))
        await asyncio.sleep(0)
        await engine.draw([make_row(seed=2)])  # ends although the first still waits
        early = waiting.done()
        recorder.table_gate.release()
        picture = await waiting
        await engine.stop(1.0)
        return early, int(picture[0, 0, 0, 0])

    assert asyncio.run(run()) == (False, 1)


def test_cancelling_frees_the_rows_at_the_next_step():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=10)
        engine.start()
        unwanted = asyncio.create_task(engine.draw([make_row(seed=seed, steps=50) for seed in (1, 2, 3)]))
        await settle(lambda: engine.active_rows == 2)
        wanted = asyncio.create_task(engine.draw([make_row(seed=4, steps=2)]))
        await settle(lambda: engine.queue_depth == 2)
        unwanted.cancel()
        await settle(unwanted.done)
        assert engine.queue_depth == 1  # the waiting row of the cancelled request is gone at once
        recorder.gate.release(100)
        assert (await wanted)[0, 0, 0, 0] == 4
        await engine.stop(10)

    run(main)
    assert recorder.steps == [[1, 2], [4], [4]]


def test_sizes_take_turns():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=10)
        engine.start()
        draws = [engine.draw([make_row(seed=height, steps=3, height=height)]) for height in (16, 24, 32)]
        tasks = [asyncio.create_task(draw) for draw in draws]
        await settle(lambda: engine.queue_depth + engine.active_rows == 3)
        recorder.gate.release(100)
        await asyncio.gather(*tasks)
        await engine.stop(10)

    run(main)
    assert [size[0] for size in recorder.sizes] == [16, 24, 32] * 3


def test_a_full_queue_says_when_to_come_back():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=2)
        engine.start()
        first = asyncio.create_task(engine.draw([make_row()]))
        await settle(lambda: engine.active_rows == 1)
        second = asyncio.create_task(engine.draw([make_row(), make_row()]))
        await settle(lambda: engine.queue_depth == 2)
        with pytest.raises(QueueFull) as caught:
            await engine.draw([make_row()])
        assert caught.value.retry_after >= 1
        recorder.gate.release(100)
        await asyncio.gather(first, second)
        await engine.draw([make_row()])  # there is room again
        await engine.stop(10)

    run(main)


def test_the_wait_grows_with_the_work_ahead():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=4)
        engine.start()
        engine._step_seconds = 2.0
        draws = [asyncio.create_task(engine.draw([make_row(steps=10)] * 4))]
        await settle(lambda: engine.active_rows == 2)
        with pytest.raises(QueueFull) as caught:
            await engine.draw([make_row()] * 4)
        assert caught.value.retry_after == 40  # 4 rows of 10 steps, 2 at a time, 2 s a step
        recorder.gate.release(100)
        await asyncio.gather(*draws)
        await engine.stop(10)

    run(main)


def test_rows_that_do_not_fit_the_device_are_stepped_in_smaller_batches():
    recorder = Recorder(memory_rows=2)

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=8, max_queue_rows=8)
        engine.start()
        pictures = await engine.draw([make_row(seed=seed, steps=2) for seed in range(8)])
        assert pictures[:, 0, 0, 0].tolist() == list(range(8))
        recorder.memory_rows = 0
        with pytest.raises(ServingError, match="memory"):
            await engine.draw([make_row()])
        recorder.memory_rows = 2
        await engine.draw([make_row()])
        await engine.stop(10)

    run(main)


def test_stopping_lets_accepted_rows_end_and_takes_no_more():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        assert not engine.accepting
        with pytest.raises(NotReady):
            await engine.draw([make_row()])
        engine.start()
        assert engine.accepting
        accepted = asyncio.create_task(engine.draw([make_row(seed=1), make_row(seed=2)]))
        await settle(lambda: engine.active_rows == 1)
        stopping = asyncio.create_task(engine.stop(60))
        await settle(lambda: not engine.accepting)
        with pytest.raises(NotReady):
            await engine.draw([make_row()])
        recorder.gate.release(100)
        assert len(await accepted) == 2
        await stopping

    run(main)


def test_stopping_in_a_hurry_fails_what_is_left():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        engine.start()
        accepted = asyncio.create_task(engine.draw([make_row(steps=1000)] * 2))
        await settle(lambda: engine.active_rows == 1)
        stopping = asyncio.create_task(engine.stop(0))
        with pytest.raises(NotReady):
            await accepted
        recorder.gate.release(1)  # the step under way ends; no other follows
        await stopping
        assert engine.active_rows == engine.queue_depth == 0

    run(main)


def test_an_idle_engine_stops_and_its_heart_beats_until_then():
    async def main() -> None:
        engine = Engine(Recorder(), max_batch_size=1, max_queue_rows=1)
        engine.start()
        await engine.draw([make_row()])
        await asyncio.sleep(0)
        before = time.monotonic()
        assert engine.last_step_at >= before
        await engine.stop(60)
        assert engine.last_step_at <= time.monotonic()
        stopped = engine.last_step_at
        assert engine.last_step_at == stopped  # no longer moves

    run(main)


def test_the_heart_stands_still_while_a_step_hangs():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=1)
        engine.start()
        task = asyncio.create_task(engine.draw([make_row()]))
        await settle(lambda: engine.active_rows == 1)
        await asyncio.sleep(0.01)
        beat = engine.last_step_at
        await asyncio.sleep(0.01)
        assert engine.last_step_at == beat
        recorder.gate.release(100)
        await task
        await engine.stop(10)

    run(main)


def test_a_lora_leaves_when_its_rows_have_ended():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        engine.start()
        using = asyncio.create_task(engine.draw([make_row(loras=(("a@1", 1.0),))]))
        await settle(lambda: engine.active_rows == 1)
        leaving = asyncio.create_task(engine.remove_adapter("a@1"))
        await asyncio.sleep(0)
        with pytest.raises(UnknownModel):
            await engine.draw([make_row(loras=(("a@1", 1.0),))])
        assert recorder.adapters == ("a@1",)
        recorder.gate.release(100)
        await asyncio.gather(using, leaving)
        assert recorder.adapters == ()
        with pytest.raises(UnknownModel):
            await engine.remove_adapter("a@1")
        await engine.stop(10)

    run(main)


@pytest.mark.parametrize("rows", [[], [make_row()] * 5, [make_row(), make_row(height=32)]])
def test_rows_that_cannot_go_together_are_refused(rows):
    async def main() -> None:
        engine = Engine(Recorder(), max_batch_size=1, max_queue_rows=4)
        engine.start()
        with pytest.raises(InvalidInput):
            await engine.draw(rows)
        await engine.stop(10)

    run(main)


# With the real diffuser


def test_concurrent_requests_get_the_pictures_they_get_alone(tiny_folders):
    diffuser = Diffuser.load(tiny_folders["emoji"])
    diffuser.add_adapter("a@1", make_lora(diffuser._unet, seed=1))
    requests = [
        [make_row(seed=1), make_row(seed=2, prompt="dog", solver="dpmpp_2m", steps=5)],
        [make_row(seed=3, loras=(("a@1", 1.0),), guidance=1.0)],
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
        await engine.add_adapter("b@1", make_lora(diffuser._unet, seed=2))
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
    tensors = make_lora(diffuser._unet, seed=2)

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
            diffuser.add_adapter(f"n@{number}", make_lora(many._unet, seed=number))
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


def test_the_event_loop_goes_on_while_a_step_runs(tiny_folders):
    """The step waits inside the UNet until the loop has ticked; run on the loop, neither could go on."""
    diffuser = Diffuser.load(tiny_folders["sd15"])
    ticked = threading.Event()
    diffuser._unet.register_forward_pre_hook(lambda *_: None if ticked.wait(60) else pytest.fail("no tick"))

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
