"""A bounded cache before a translator: the same text is translated once, also when asked for concurrently.

Least recently used entries leave first. Failures are not kept. Knows nothing of languages or backends.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from transformer.translation.language import normalise
from transformer.translation.translator import Backend, Translation, Translator


@dataclass(slots=True)
class CacheStats:
    """Counts since the start. A text asked for is a hit, a miss, or joined to a translation under way."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    evictions: int = 0


_Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Asked:
    """One call of the translator behind, and how many callers wait for any of its texts."""

    futures: dict[_Key, asyncio.Future[Translation]]
    waiting: int = 0
    task: asyncio.Task[None] | None = None


class CachedTranslator:
    """A `Translator` that keeps the last `max_entries` translations of another one.

    The key is the backend and the text in its normal spelling.

    All calls must come from one event loop. A caller that is cancelled does not stop a translation others
    wait for; what nobody waits for any more is cancelled.
    """

    def __init__(self, translator: Translator, max_entries: int) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, not {max_entries}")
        self.stats = CacheStats()
        self._translator = translator
        self._max_entries = max_entries
        self._entries: OrderedDict[_Key, Translation] = OrderedDict()
        self._under_way: dict[_Key, _Asked] = {}

    @property
    def name(self) -> Backend:
        """The name of the translator behind it."""
        return self._translator.name

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Closes the translator behind it."""
        self._translator.close()

    async def translate(self, texts: Sequence[str]) -> list[Translation]:
        """One translation a text, in order; what is missing goes to the translator in one call."""
        answers: list[Translation | asyncio.Future[Translation]] = []
        missing = _Asked({})
        asked: set[_Asked] = set()
        for text in texts:
            key = self.name, normalise(text)
            if key in self._entries:
                self.stats.hits += 1
                self._entries.move_to_end(key)
                answers.append(self._entries[key])
                continue
            if key in self._under_way:
                self.stats.joined += 1
            else:
                self.stats.misses += 1
                missing.futures[key] = asyncio.get_running_loop().create_future()
                self._under_way[key] = missing
            asked.add(self._under_way[key])
            answers.append(self._under_way[key].futures[key])
        for call in asked:
            call.waiting += 1
        if missing.futures:
            missing.task = asyncio.create_task(self._fill(missing))
        try:
            return [
                await asyncio.shield(answer) if isinstance(answer, asyncio.Future) else answer
                for answer in answers
            ]
        finally:
            for call in asked:
                call.waiting -= 1
                if not call.waiting and call.task is not None:
                    self._forget(call)  # at once: whoever asks from now on has it translated anew
                    call.task.cancel()  # does nothing to one that is done

    async def _fill(self, missing: _Asked) -> None:
        try:
            translations = await self._translator.translate([text for _, text in missing.futures])
            for (key, future), translation in list(zip(missing.futures.items(), translations, strict=True)):
                self._keep(key, translation)
                future.set_result(translation)
        except Exception as error:
            for future in missing.futures.values():
                future.set_exception(error)
                future.exception()  # nobody may be left to ask: no "never retrieved" warning
        finally:
            self._forget(missing)
            for future in missing.futures.values():
                future.cancel()  # does nothing to one that is done

    def _forget(self, call: _Asked) -> None:
        for key in call.futures:
            if self._under_way.get(key) is call:
                del self._under_way[key]

    def _keep(self, key: _Key, translation: Translation) -> None:
        self._entries[key] = translation
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
            self.stats.evictions += 1
