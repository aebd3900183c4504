"""Mixes of LoRAs as they are written: name:weight+name:weight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.contract import Limits, check_pictures, read_mix, write_mix
from predictor.errors import InvalidInput

references = st.from_regex(r"[a-z][a-z0-9-]{0,5}(@[a-z0-9]{1,3})?", fullmatch=True).filter("none".__ne__)
weights = st.integers(0, 20000).map(lambda number: number / 10000)


@given(st.dictionaries(references, weights, max_size=4))
def test_what_is_written_is_read_again(mix):
    assert read_mix(write_mix(tuple(mix.items())), 2.0) == tuple(mix.items())


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("none", ()),
        ("notoemoji", (("notoemoji", 1.0),)),
        ("notoemoji@stable:0.5", (("notoemoji@stable", 0.5),)),
        ("notoemoji:0.7+openmoji@1:0.3", (("notoemoji", 0.7), ("openmoji@1", 0.3))),
        ("a+b:0", (("a", 1.0), ("b", 0.0))),
        ("a:2+b:2.0000+c+d", (("a", 2.0), ("b", 2.0), ("c", 1.0), ("d", 1.0))),
    ],
)
def test_the_form(text, mix):
    assert read_mix(text, 2.0) == mix


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:", "like name"),
        (":0.5", "like name"),
        ("+", "like name"),
        ("a+", "like name"),
        ("a:0.5+", "like name"),
        ("a:0.5 + b:0.5", "like name"),
        ("a:-0.5", "like name"),
        ("a:+0.5", "like name"),
        ("a:.5", "like name"),
        ("a:1.", "like name"),
        ("a:1e-1", "like name"),
        ("a:nan", "like name"),
        ("a:inf", "like name"),
        ("a:0,5", "like name"),
        ("a:\u0661", "like name"),
        ("a:0.5\n", "like name"),
        ("a:0.12345", "like name"),
        ("a:0.5:0.5", "like name"),
        ("a:2.0001", "from 0 to 2"),
        ("a:0.5+a:0.5", "named twice"),
        ("a+none:0.5", "stands alone"),
        ("none:0.5", "stands alone"),
        ("a+b+c+d+e", "at most 4"),
    ],
)
def test_what_is_not_a_mix_is_refused_with_the_field_and_the_remedy(text, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        check_pictures([{"prompt": "a", "lora": text}], Limits())
    assert caught.value.field == "lora"
