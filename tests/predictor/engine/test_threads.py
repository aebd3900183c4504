from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.threads import FIRST_PAUSE_S, LAST_PAUSE_S, ThreadPolicy


class Machine:
    """Calls of `work` seconds on one thread. Where others want the cores, all threads are hindered."""

    def __init__(self, threads: int, work: float) -> None:
        self.now = 0.0
        self.count = threads
        self.work = work
        self.policy = ThreadPolicy(threads, lambda: self.now)

    def call(self, crowded: bool) -> int:
        threads = self.policy.threads
        seconds = self.work if threads == 1 else self.work * 10 if crowded else self.work / threads
        self.now += seconds
        self.policy.observe(
            threads, seconds, seconds * (threads - 0.8 if crowded and threads > 1 else threads)
        )
        return threads

    def run(self, seconds: float, crowded: bool) -> list[int]:
        until, threads = self.now + seconds, []
        while self.now < until:
            threads.append(self.call(crowded))
        return threads


counts = st.integers(2, 64)
works = st.floats(0.05, 2.0)


@settings(deadline=None)
@given(counts, works)
def test_all_threads_compute_while_the_cores_are_theirs(count: int, work: float) -> None:
    assert set(Machine(count, work).run(100.0, crowded=False)) == {count}


@settings(deadline=None)
@given(counts, works)
def test_two_hindered_calls_are_chance_at_every_try(count: int, work: float) -> None:
    machine = Machine(count, work)
    machine.run(200.0, crowded=True)
    while machine.policy.threads != 1:
        machine.call(crowded=True)
    machine.now += LAST_PAUSE_S
    for crowded in (True, True, False, True, True, False):
        assert machine.call(crowded) == count


@settings(deadline=None)
@given(counts, works)
def test_on_a_crowded_machine_one_thread_computes_nearly_all(count: int, work: float) -> None:
    threads = Machine(count, work).run(1000.0, crowded=True)
    assert threads[:4] == [count, count, count, 1]
    tries = threads.count(count)
    assert tries <= 3 * 24  # the first, then after 1, 2, 4 … s, then one a minute
    assert threads.count(1) >= 1000.0 / work - 10 * tries - 1


@settings(deadline=None)
@given(counts, works, st.floats(0, 500))
def test_all_compute_again_once_the_others_have_gone(count: int, work: float, crowded: float) -> None:
    machine = Machine(count, work)
    machine.run(crowded, crowded=True)
    machine.run(LAST_PAUSE_S + work, crowded=False)
    assert set(machine.run(100.0, crowded=False)) == {count}


@settings(deadline=None)
@given(counts, works)
def test_a_try_that_went_well_makes_it_patient_again(count: int, work: float) -> None:
    machine = Machine(count, work)
    machine.run(500.0, crowded=True)
    machine.run(2 * LAST_PAUSE_S, crowded=False)
    began = machine.now
    while machine.policy.threads == count:
        machine.call(crowded=True)
    assert machine.now - began >= 3 * 10 * work * 0.99
    alone = machine.now
    while machine.policy.threads == 1:
        machine.now += FIRST_PAUSE_S / 10
    assert machine.now - alone <= FIRST_PAUSE_S * 1.11


@settings(deadline=None)
@given(counts, works)
def test_while_even_one_thread_is_kept_from_its_core_no_more_are_tried(count: int, work: float) -> None:
    machine = Machine(count, work)
    machine.run(100.0, crowded=True)
    while machine.policy.threads != 1:
        machine.call(crowded=True)
    machine.policy.observe(1, work, work / 2)
    for _ in range(100):
        machine.now += FIRST_PAUSE_S / 2
        assert machine.policy.threads == 1
        machine.policy.observe(1, work, work / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100))))
def test_one_thread_stays_one(calls: list[tuple[float, float]]) -> None:
    policy = ThreadPolicy(1, lambda: 0.0)
    for seconds, cpu_seconds in calls:
        policy.observe(1, seconds, cpu_seconds)
        assert policy.threads == 1
