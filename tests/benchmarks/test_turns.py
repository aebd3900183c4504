"""The order of measurements: what slows the machine for a while must not slow one side alone."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench import interleaved


@settings(deadline=None)
@given(st.integers(1, 20), st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
def test_every_side_has_its_turn_in_each_repeat_and_is_first_as_often_as_others(repeats, sides):
    turns = list(interleaved(repeats, sides))
    assert Counter(turns) == Counter((repeat, side) for repeat in range(repeats) for side in sides)
    assert [repeat for repeat, _ in turns] == sorted(repeat for repeat, _ in turns)
    firsts = Counter(turns[repeat * len(sides)][1] for repeat in range(repeats))
    assert max(firsts.values()) - min(firsts[side] for side in sides) <= 1
