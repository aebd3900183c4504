"""What all models of one process share: the translator, the way to the predictor, the threads for pictures.

It knows neither KServe's requests nor its replies.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from predictor.edge import Statistics, span
from predictor.errors import InvalidInput
from transformer.metrics import Metrics
from transformer.pictures import Finish, Provenance, finish
from transformer.request import Wish
from transformer.settings import Settings
from transformer.translation.language import LANGUAGE_CHOICES, Language, LanguageChoice
from transformer.translation.translator import Translation, Translator, translate_prompts
from transformer.upstream import Upstream, connect

SHOWN_CHARS = 80
"""Of the words in a refusal. gRPC has nine bytes for a syllable there, and no room for more than 8 KiB."""


@dataclass(frozen=True, slots=True)
class English:
    """What is drawn for one wish, and where its words come from."""

    prompt: str
    negative_prompt: str
    language: Language
    """Of the prompt as it came."""
    backend: str
    """What translated the prompt; "none" if it was English."""
    unknown_words: tuple[str, ...]
    """Of both prompts, in their order, each once."""


class Studio:
    """Starts and ends with the server: its `Backend`."""

    alive = True
    """There is no work of its own here that could hang."""

    upstream: Upstream
    _threads: ThreadPoolExecutor

    def __init__(self, settings: Settings, translator: Translator, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.statistics = Statistics()
        self._translator = translator
        self.healthy = False

    async def start(self) -> None:
        """Open the way to the predictor, which itself may come later."""
        self._threads = ThreadPoolExecutor(self.settings.picture_threads, thread_name_prefix="pictures")
        self.upstream = connect(self.settings)
        self.healthy = True

    async def stop(self, drain_s: float) -> None:
        """Close everything; the server has let the requests under way end by now."""
        if self.healthy:
            self.healthy = False
            self._translator.close()
            await self.upstream.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def translate(self, wishes: Sequence[Wish]) -> list[English]:
        """Both prompts of every wish in English; the Korean ones are translated together, each once.

        Raises:
            InvalidInput: nothing of a prompt could be translated.
        """
        with span("translate", {"emoji.rows": len(wishes)}):
            return await self._translate(wishes)

    async def _translate(self, wishes: Sequence[Wish]) -> list[English]:
        found: dict[tuple[LanguageChoice, str], Translation] = {}
        for choice in cast("tuple[LanguageChoice, ...]", LANGUAGE_CHOICES):
            texts = {
                text
                for wish in wishes
                for text in (wish.picture.prompt, wish.picture.negative_prompt)
                if wish.language == choice and text.strip()
            }
            ordered = sorted(texts)
            translations = await translate_prompts(self._translator, ordered, choice)
            found |= zip([(choice, text) for text in ordered], translations, strict=True)
        nothing = Translation(english="", backend="none", language="en")
        return [
            _english(
                found[wish.language, wish.picture.prompt],
                found.get((wish.language, wish.picture.negative_prompt), nothing),
            )
            for wish in wishes
        ]

    async def encode(
        self, pixels: Iterable[NDArray[np.uint8]], how: Iterable[Finish], origins: Iterable[Provenance]
    ) -> list[bytes]:
        """Picture files of pixels [H, W, 3], made in threads."""
        loop = asyncio.get_running_loop()
        rows = list(zip(pixels, how, origins, strict=True))
        with span("encode pictures", {"emoji.rows": len(rows)}):
            return await asyncio.gather(*(loop.run_in_executor(self._threads, finish, *row) for row in rows))


def _english(prompt: Translation, negative: Translation) -> English:
    if not prompt.english.strip():
        words = " ".join(prompt.unknown)[:SHOWN_CHARS]
        raise InvalidInput("prompt", f"no word of it could be translated: {words}")
    return English(
        prompt=prompt.english,
        negative_prompt=negative.english,
        language=prompt.language,
        backend=prompt.backend,
        unknown_words=tuple(dict.fromkeys(prompt.unknown + negative.unknown)),
    )
