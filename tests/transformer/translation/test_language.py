"""Korean is found in every spelling that Unicode allows, and normalised to one."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.translation.language import contains_hangul, detect_language, normalise


@pytest.mark.parametrize(
    "text",
    [
        "고양이",
        "pizza 먹는 cat",
        "ㅋㅋㅋ",
        unicodedata.normalize("NFD", "고양이"),
        "\uffbe\uffd3",  # halfwidth
        "\ua960",  # Extended-A
        "\ud7b0",  # Extended-B
    ],
)
def test_any_hangul_makes_a_text_korean(text: str) -> None:
    assert detect_language(text) == "ko"


@pytest.mark.parametrize("text", ["", "a cat", "naïve café", "猫", "ねこ", "🐱", "1234", "кот"])
def test_text_without_hangul_is_not_korean(text: str) -> None:
    assert detect_language(text) == "en"


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        (unicodedata.normalize("NFD", "하트 눈을 한 고양이"), "하트 눈을 한 고양이"),
        ("ㄱㅗㅇㅑㅇㅇㅣ", "고양이"),
        ("ㅅㅏㄱㅗㅏ", "사고ㅏ"),  # a compound vowel typed as two letters is not guessed
        ("ㅂㅏㄹㄱㄷㅏ", "발ㄱ다"),
        ("\uffbe\uffc3\uffbe\uffc3", "해해"),
        ("ㅋㅋㅋ ㅠㅠ", "ㅋㅋㅋ ㅠㅠ"),
        ("ㅋㅋㅠㅠ", "ㅋㅋㅠㅠ"),
        ("  빨간 \t 사과\n", "빨간 사과"),
        ("Pizza 좋아", "Pizza 좋아"),
    ],
)
def test_spellings_of_the_same_text_become_one(typed: str, normal: str) -> None:
    assert normalise(typed) == normal


@given(st.text())
def test_normalise_is_a_fixed_point_and_keeps_the_language(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert contains_hangul(once) == contains_hangul(text)


@given(st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1))
def test_composed_and_decomposed_syllables_meet(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == text
