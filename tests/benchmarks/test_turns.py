"""The order of measurements: what slows the machine for a while must not slow one side alone."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench import turns


@settings(deadline=None)
@given(st.integers(1, 20), st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
def test_every_side_has_its_turn_in_each_repeat_and_is_first_as_often_as_others(repeats, sides):
    rounds = [turns(repeat, sides) for repeat in range(repeats)]
    assert all(Counter(each) == Counter(sides) for each in rounds)
    firsts = Counter(each[0] for each in rounds)
    assert max(firsts.values()) - min(firsts[side] for side in sides) <= 1
