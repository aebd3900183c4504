"""What every translation backend offers, and the one door through which the transformer uses it.

Knows neither how a backend translates nor what happens to the English afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from transformer.translation.language import Language, LanguageChoice, detect_language

Backend = Literal["none", "glossary", "seq2seq"]


@dataclass(frozen=True, slots=True)
class Translation:
    """One prompt in English, and where that English came from.

    `backend` is `"none"` for a prompt that was English already (`english` is then the prompt itself, byte
    for byte). `unknown` holds the Korean words that the backend left out because it does not know them: as
    typed, verbs and adjectives in their dictionary form.
    """

    english: str
    backend: Backend
    language: Language
    unknown: tuple[str, ...] = ()


class Translator(Protocol):
    """A Korean-to-English backend. `translate` may be called concurrently, on one event loop."""

    @property
    def name(self) -> Backend:
        """The backend that every `Translation` of it carries."""

    async def translate(self, texts: Sequence[str]) -> list[Translation]:
        """One translation a text, in order; `english` is empty where nothing could be translated."""

    def close(self) -> None:
        """Ends the worker thread; a later `translate` fails."""


async def translate_prompts(
    translator: Translator, prompts: Sequence[str], language: LanguageChoice = "auto"
) -> list[Translation]:
    """Translates the Korean ones among `prompts`; one `Translation` a prompt, in order.

    `language` `"auto"` decides prompt by prompt, `"ko"` sends every prompt through the backend, `"en"` none.
    """
    languages = [detect_language(prompt) if language == "auto" else language for prompt in prompts]
    korean = [prompt for prompt, found in zip(prompts, languages, strict=True) if found == "ko"]
    translated = iter(await translator.translate(korean) if korean else [])
    return [
        next(translated) if found == "ko" else Translation(english=prompt, backend="none", language="en")
        for prompt, found in zip(prompts, languages, strict=True)
    ]
