"""The cache keeps what was asked last, asks for a text once, and counts exactly."""

import asyncio
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.translation.cache import CachedTranslator, CacheStats
from transformer.translation.translator import Backend, Translation


class SlowTranslator:
    """Translates by shouting, one turn of the event loop later; remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def name(self) -> Backend:
        return "glossary"

    async def translate(self, texts: Sequence[str]) -> list[Translation]:
        self.calls.append(list(texts))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(texts))
            raise
        if "fail" in texts:
            raise RuntimeError("no luck")
        return [Translation(text.upper(), "glossary", "ko") for text in texts]

    def close(self) -> None:
        self.closed = True


def test_a_text_is_translated_once_in_any_spelling() -> None:
    async def ask() -> None:
        inner = SlowTranslator()
        cache = CachedTranslator(inner, max_entries=10)
        await cache.translate(["고양이", "a"])
        answers = await cache.translate([unicodedata.normalize("NFD", "고양이"), " a ", "b"])
        assert [answer.english for answer in answers] == ["고양이", "A", "B"]
        assert inner.calls == [["고양이", "a"], ["b"]]
        assert cache.stats == CacheStats(hits=2, misses=3)
        assert cache.name == "glossary"

    asyncio.run(ask())


def test_concurrent_askers_share_one_translation() -> None:
    async def ask() -> None:
        inner = SlowTranslator()
        inner.gate.clear()
        cache = CachedTranslator(inner, max_entries=10)
        askers = [asyncio.create_task(cache.translate(["a", "b"])) for _ in range(3)]
        await asyncio.sleep(0.01)
        inner.gate.set()
        answers = await asyncio.gather(*askers)
        assert all([a.english for a in answer] == ["A", "B"] for answer in answers)
        assert inner.calls == [["a", "b"]]
        assert cache.stats == CacheStats(hits=0, misses=2, joined=4)

    asyncio.run(ask())


def test_the_same_text_twice_in_one_call_is_asked_once() -> None:
    async def ask() -> None:
        inner = SlowTranslator()
        cache = CachedTranslator(inner, max_entries=10)
        assert [t.english for t in await cache.translate(["a", "a"])] == ["A", "A"]
        assert inner.calls == [["a"]]
        assert cache.stats == CacheStats(misses=1, joined=1)

    asyncio.run(ask())


def test_an_asker_who_leaves_does_not_stop_the_others() -> None:
    async def ask() -> None:
        inner = SlowTranslator()
        inner.gate.clear()
        cache = CachedTranslator(inner, max_entries=10)
        first = asyncio.create_task(cache.translate(["a"]))
        second = asyncio.create_task(cache.translate(["a"]))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        inner.gate.set()
        assert (await second)[0].english == "A"
        assert inner.calls == [["a"]]

    asyncio.run(ask())


def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    async def ask() -> None:
        inner = SlowTranslator()
        inner.gate.clear()
        cache = CachedTranslator(inner, max_entries=10)
        leaving = [asyncio.create_task(cache.translate([text])) for text in "aab"]
        staying = asyncio.create_task(cache.translate(["b", "c"]))
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        again = asyncio.create_task(cache.translate(["a"]))  # not by the call that is being cancelled
        await asyncio.sleep(0.01)
        assert inner.cancelled == [["a"]], "somebody waits for b"
        inner.gate.set()
        assert [answer.english for answer in await staying + await again] == ["B", "C", "A"]
        assert inner.calls == [["a"], ["b"], ["c"], ["a"]]

    asyncio.run(ask())


def test_a_failure_reaches_every_asker_and_is_not_kept() -> None:
    async def ask() -> None:
        inner = SlowTranslator()
        cache = CachedTranslator(inner, max_entries=10)
        outcomes = await asyncio.gather(
            cache.translate(["fail"]), cache.translate(["fail"]), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes] == ["no luck", "no luck"]
        with pytest.raises(RuntimeError, match="no luck"):
            await cache.translate(["fail"])
        assert len(inner.calls) == 2
        assert len(cache) == 0

    asyncio.run(ask())


def test_it_closes_what_is_behind_it() -> None:
    inner = SlowTranslator()
    CachedTranslator(inner, max_entries=1).close()
    assert inner.closed


def test_it_must_hold_something() -> None:
    with pytest.raises(ValueError, match="max_entries"):
        CachedTranslator(SlowTranslator(), max_entries=0)


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True), max_size=30),
    st.integers(3, 5),
)
def test_it_behaves_like_a_least_recently_used_map(requests: list[list[str]], size: int) -> None:
    """Against a model: an ordered map with the same counts (calls are no larger than the cache)."""
    model: OrderedDict[str, None] = OrderedDict()
    expected = CacheStats()
    for request in requests:
        absent = [text for text in request if text not in model]
        expected.hits += len(request) - len(absent)
        expected.misses += len(absent)
        for text in request:
            if text in model:
                model.move_to_end(text)
        for text in absent:
            model[text] = None
            if len(model) > size:
                model.popitem(last=False)
                expected.evictions += 1

    async def ask() -> tuple[CacheStats, int]:
        cache = CachedTranslator(SlowTranslator(), max_entries=size)
        for request in requests:
            answers = await cache.translate(request)
            assert [answer.english for answer in answers] == [text.upper() for text in request]
        return cache.stats, len(cache)

    assert asyncio.run(ask()) == (expected, len(model))
