from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from predictor.looks.sticky import choose

VERSIONS = st.text(min_size=1, max_size=8)
SHARES = st.dictionaries(VERSIONS, st.integers(0, 100), min_size=1, max_size=5).filter(
    lambda shares: any(shares.values())
)
KEYS = [f"user {number}" for number in range(4000)]


@given(SHARES, st.text(), st.text(), st.randoms())
def test_a_key_has_one_version_whatever_the_order(
    shares: dict[str, int], name: str, key: str, random: Random
) -> None:
    chosen = choose(name, shares, key)
    items = list(shares.items())
    random.shuffle(items)
    assert choose(name, dict(items), key) == chosen
    assert shares[chosen] > 0


@given(SHARES, st.data(), st.text(), st.integers(1, 100))
def test_a_growing_share_moves_keys_to_itself_only(
    shares: dict[str, int], data: st.DataObject, key: str, more: int
) -> None:
    growing = data.draw(st.sampled_from(sorted(shares)))
    before = choose("emoji", shares, key)
    after = choose("emoji", shares | {growing: shares[growing] + more}, key)
    assert after in (before, growing)


@given(st.text(), st.lists(st.integers(0, 100), min_size=2, max_size=6).map(sorted))
def test_a_canary_that_grows_step_by_step_takes_each_key_once(key: str, percents: list[int]) -> None:
    """From 0 to 100 %: once a key sees the canary, it never sees the former version again."""
    seen = [choose("emoji", {"old@1": 100 - p, "new@1": p}, key) for p in [0, *percents, 100]]
    assert seen == sorted(seen, key=["old@1", "new@1"].index)
    assert (seen[0], seen[-1]) == ("old@1", "new@1")


def test_the_shares_are_what_was_asked_for() -> None:
    shares = {"a@1": 60, "b@1": 30, "b@2": 10, "c@1": 0}
    counted = Counter(choose("emoji", shares, key) for key in KEYS)
    # the keys are fixed, and so is the result; 5 standard deviations is how far another hash could be
    for version, percent in shares.items():
        share = percent / 100
        assert abs(counted[version] - share * len(KEYS)) <= 5 * (len(KEYS) * share * (1 - share)) ** 0.5


def test_names_are_independent() -> None:
    half = {"a@1": 50, "b@1": 50}
    same = sum(choose("emoji", half, key) == choose("party", half, key) for key in KEYS)
    assert abs(same - len(KEYS) / 2) < 5 * (len(KEYS) / 4) ** 0.5


def test_a_key_keeps_its_version_over_releases() -> None:
    """Fixed values: another formula would give every user another look on the day of the upgrade."""
    half = {"notoemoji@1": 50, "openmoji@1": 50}
    assert [choose("emoji", half, key)[0] for key in KEYS[:12]] == list("onnonnnonooo")
