"""What the glossary makes of Korean: word order, particles, endings, and words it owns up to not knowing."""

import asyncio
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.translation.backends import build_translator
from transformer.translation.cache import CachedTranslator
from transformer.translation.glossary import GlossaryTranslator
from transformer.translation.lexicon import WORDS, Lexicon
from transformer.translation.translator import Translation, translate_prompts


@pytest.fixture(scope="module")
def glossary() -> Iterator[GlossaryTranslator]:
    glossary = GlossaryTranslator()
    yield glossary
    glossary.close()


@pytest.mark.parametrize(
    ("korean", "english"),
    [
        ("하트 눈을 한 고양이", "cat with heart eyes"),
        ("빨간 사과", "red apple"),
        ("웃는 강아지", "smiling dog"),
        ("비 오는 날", "cloud with rain"),
        ("안녕 로봇", "hello robot"),
        ("선글라스 낀 강아지", "dog with sunglasses"),
        ("파란 하트", "blue heart"),
        ("우는 얼굴", "crying face"),
        ("생일 케이크", "birthday cake"),
        ("소방차", "fire engine"),
        ("햄버거", "hamburger"),
    ],
)
def test_the_prompts_it_was_made_for(glossary: GlossaryTranslator, korean: str, english: str) -> None:
    assert glossary.translate_one(korean) == Translation(english, "glossary", "ko")


@pytest.mark.parametrize(
    ("korean", "english"),
    [
        # worn and had, in every way to say it
        ("왕관 쓴 고양이", "cat with crown"),
        ("왕관을 쓰고 있는 고양이", "cat with crown"),
        ("고양이가 왕관을 썼어요", "cat with crown"),
        ("왕관 고양이", "cat with crown"),
        ("눈이 하트인 고양이", "cat with heart eyes"),
        ("눈이 빨간 토끼", "rabbit with red eyes"),
        ("코끼리는 코가 길어요", "elephant with long nose"),
        ("왕관을 쓰고 선글라스를 낀 사자", "lion with crown and sunglasses"),
        ("빨간 모자를 쓴 파란 고양이", "blue cat with red hat"),
        ("안경 안 쓴 부엉이", "owl without glasses"),
        # doings
        ("우리 집 고양이가 자고 있어", "sleeping cat"),
        ("자는 고양이", "sleeping cat"),
        ("곰이 꿀을 먹고 있어요", "bear eating honey"),
        ("기타를 치면서 노래하는 곰", "singing bear playing guitar"),
        ("달리는 말", "running horse"),
        ("뿔 달린 말", "horse with horns"),
        ("울지 않는 아기", "baby"),
        ("초록색 눈의 검은 고양이", "black cat with green eyes"),
        # colours
        ("사과를 빨간색으로 그려줘", "red apple"),
        ("이 사과는 빨간색이에요", "red apple"),
        ("하늘색 하트", "light blue heart"),
        # joined, struck out, left out
        ("검은 고양이와 하얀 강아지", "black cat and white dog"),
        ("고양이랑 강아지가 놀고 있어요", "playing cat and dog"),
        ("당근 대신 사과", "apple"),
        ("오늘 피자가 먹고 싶어요", "pizza"),
        ("파티 모자 쓰고 있는 펭귄 그려 주실 수 있나요?", "penguin with party hat"),
        # feelings without a noun
        ("너무 졸려", "sleeping face"),
        ("진짜 화났어", "enraged face"),
        ("ㅠㅠ", "crying face"),
        ("화가 난 표정의 고양이", "angry cat"),
        ("눈 감은 고양이", "cat with closed eyes"),
        # where things are
        ("나무 위의 새", "bird on tree"),
        ("바다에서 돌고래를 봤어요", "dolphin"),
        ("바다", "ocean"),
    ],
)
def test_grammar(glossary: GlossaryTranslator, korean: str, english: str) -> None:
    assert glossary.translate_one(korean).english == english


@pytest.mark.parametrize(
    ("korean", "english"),
    [
        ("눈 오는 날", "cloud with snow"),
        ("눈 오는 날 눈사람", "snowman in the snow"),
        ("파란 눈을 가진 고양이", "cat with blue eyes"),
        ("배가 고파요", "hamburger"),
        ("배를 타고 바다로", "sailboat"),
        ("배가 먹고 싶어", "pear"),
        ("사과", "apple"),
        ("사과할게요", "folded hands"),
        ("새 운동화", "running shoe"),
        ("노래하는 새", "singing bird"),
        ("개가 짖어요", "barking dog"),
        ("초콜릿 두 개", "chocolate bar"),
    ],
)
def test_words_with_two_meanings(glossary: GlossaryTranslator, korean: str, english: str) -> None:
    assert glossary.translate_one(korean).english == english


@pytest.mark.parametrize(
    ("mixed", "english"),
    [
        ("pizza 먹는 고양이", "cat eating pizza"),
        ("파란 apple", "blue apple"),
        ("cute한 강아지", "cute dog"),
        ("red apple 먹는 bear", "bear eating red apple"),
        ("🍎 먹는 토끼", "rabbit eating red apple"),
    ],
)
def test_mixed_text_keeps_its_english(glossary: GlossaryTranslator, mixed: str, english: str) -> None:
    assert glossary.translate_one(mixed).english == english


def test_unknown_words_are_left_out_and_reported(glossary: GlossaryTranslator) -> None:
    translation = glossary.translate_one("쀍뛟한 고양이가 뷁꿿을 먹어요")
    assert translation.english == "eating cat"
    assert translation.unknown == ("쀍뛟하다", "뷁꿿")


def test_decomposed_text_is_the_same_text(glossary: GlossaryTranslator) -> None:
    typed = unicodedata.normalize("NFD", "선글라스 낀 강아지")
    assert glossary.translate_one(typed).english == "dog with sunglasses"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_makes_it_raise(glossary: GlossaryTranslator, text: str) -> None:
    translation = glossary.translate_one(text)
    assert translation.backend == "glossary"


WORDS_OF_PROMPTS = (
    "고양이 강아지가 사과를 눈이 하트 빨간 웃는 먹는 쓴 없는 말고 와 그리고 위에 의 자고 있어 그려줘 "
    "비 오는 날 것 때 ㅋㅋ ㅠㅠ 안 "
    "바다에서 선글라스 낀 처럼 예쁘게 pizza 🍎 , . ! 뷁꿿 한 마리 색으로 이에요 좋아 쀍뛟한"
).split()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS_OF_PROMPTS), max_size=12))
def test_no_order_of_words_makes_it_raise(glossary: GlossaryTranslator, words: list[str]) -> None:
    translation = glossary.translate_one(" ".join(words))
    assert "  " not in translation.english


def test_prompts_are_told_apart_by_language(glossary: GlossaryTranslator) -> None:
    translator = CachedTranslator(glossary, max_entries=10)
    english = "  a  cat, naïve "
    korean, passed = asyncio.run(translate_prompts(translator, ["고양이", english]))
    assert korean == Translation("cat", "glossary", "ko")
    assert passed == Translation(english, "none", "en")
    (kept,) = asyncio.run(translate_prompts(translator, ["고양이"], language="en"))
    assert kept == Translation("고양이", "none", "en")
    (forced,) = asyncio.run(translate_prompts(translator, ["red apple"], language="ko"))
    assert forced == Translation("red apple", "glossary", "ko")


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, transformer.translation.glossary as g; g.GlossaryTranslator().translate_one('고양이'); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="known: glossary, seq2seq"):
        build_translator("magic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model folder"):
        build_translator("seq2seq")


def test_a_malformed_row_is_named(tmp_path: Path) -> None:
    words = tmp_path / "words.tsv"
    words.write_text("# a comment\n고양이\tnoun\tcat\n강아지\tnuon\tdog\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3"):
        Lexicon(words)


def test_no_word_stands_twice_in_the_table() -> None:
    rows = [
        line.split("\t")[0] for line in WORDS.read_text(encoding="utf-8").splitlines() if line[:1] not in "#"
    ]
    counts = Counter(spelling for row in rows for spelling in row.split("|"))
    assert [spelling for spelling, count in counts.items() if count > 1] == []
