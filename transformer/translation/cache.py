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


class CachedTranslator:
    """A `Translator` that keeps the last `max_entries` translations of another one.

    The key is the backend and the text in its normal spelling.

    All calls must come from one event loop. A caller that is cancelled does not stop a translation others
    may wait for.
    """

    def __init__(self, translator: Translator, max_entries: int) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, not {max_entries}")
        self.stats = CacheStats()
        self._translator = translator
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[str, str], Translation] = OrderedDict()
        self._under_way: dict[tuple[str, str], asyncio.Future[Translation]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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
        missing: dict[tuple[str, str], asyncio.Future[Translation]] = {}
        for text in texts:
            key = self.name, normalise(text)
            if key in self._entries:
                self.stats.hits += 1
                self._entries.move_to_end(key)
                answers.append(self._entries[key])
            elif key in self._under_way:
                self.stats.joined += 1
                answers.append(self._under_way[key])
            else:
                self.stats.misses += 1
                future = asyncio.get_running_loop().create_future()
                missing[key] = self._under_way[key] = future
                answers.append(future)
        if missing:
            task = asyncio.create_task(self._fill(missing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return [
            await asyncio.shield(answer) if isinstance(answer, asyncio.Future) else answer
            for answer in answers
        ]

    async def _fill(self, missing: dict[tuple[str, str], asyncio.Future[Translation]]) -> None:
        try:
            translations = await self._translator.translate([text for _, text in missing])
            for (key, future), translation in list(zip(missing.items(), translations, strict=True)):
                self._keep(key, translation)
                future.set_result(translation)
        except Exception as error:
            for future in missing.values():
                future.set_exception(error)
                future.exception()  # nobody may be left to ask: no "never retrieved" warning
        finally:
            for key, future in missing.items():
                future.cancel()  # does nothing to one that is done
                del self._under_way[key]

    def _keep(self, key: tuple[str, str], translation: Translation) -> None:
        self._entries[key] = translation
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
            self.stats.evictions += 1
