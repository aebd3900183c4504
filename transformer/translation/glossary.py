"""The default backend: emoji names and everyday words, put into English by rules. Offline and without torch.

It is a translator for pictures: what says nothing about the picture ("오늘", "그려 주세요") is known and
left out; a content word that is not known is left out and reported. Knows no requests and no cache.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from transformer.translation.english import Piece, Sentence
from transformer.translation.language import normalise
from transformer.translation.lexicon import Entry, Lexicon, Part
from transformer.translation.morphology import Morphology, Word
from transformer.translation.translator import Backend, Translation

_KNOWN_EMPTY = ("NNB", "NR", "SN", "MM")  # counters and numbers: one emoji is drawn anyway
_FULL_STOPS = ("SF", "SE")


class GlossaryTranslator:
    """Translates on one worker thread, so that a long text does not hold up the event loop.

    Loads Kiwi's model and the word lists in the constructor (1 to 5 s). No text makes `translate` raise.
    """

    def __init__(self) -> None:
        self._morphology = Morphology()
        self._lexicon = Lexicon()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="glossary")

    @property
    def name(self) -> Backend:
        """The backend's name in every `Translation`."""
        return "glossary"

    async def translate(self, texts: Sequence[str]) -> list[Translation]:
        """English for each text, empty where nothing could be translated."""
        return await asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: [self.translate_one(text) for text in texts]
        )

    def close(self) -> None:
        """Ends the worker thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def translate_one(self, text: str) -> Translation:
        """The same for one text, on the calling thread."""
        text = normalise(text)
        words = self._morphology.analyse(text)
        pieces: list[Piece] = []
        unknown: dict[str, None] = {}
        position = 0
        while position < len(words):
            entry, length = self._lexicon.match(text, words, position)
            first, last = words[position], words[position + length - 1]
            if entry is None and first.category == "predicate" and first.stem:
                entry = self._lexicon.match(text, [first.stem], 0)[0]  # "축구하다" by way of "축구"
            if entry is None:
                entry = _read_foreign(text, first.stem or first, "before" if first.stem else "noun")
            if entry is None and _carries_meaning(first):
                typed = text[first.start : first.end]
                unknown[first.lemma if first.category == "predicate" else typed] = None
            if entry is None and first.category in ("predicate", "adverb"):
                entry = Entry("drop", "")  # unknown as well, but it holds the nouns around it together
            final = first.category == "break" and first.tag in _FULL_STOPS
            pieces.append(Piece(entry, last.role, "final" if final else last.ending, last.negated))
            position += length
        return Translation(str(Sentence(pieces)), "glossary", "ko", tuple(unknown))


def _read_foreign(text: str, word: Word, part: Part) -> Entry | None:
    """A word in Latin letters stays as typed; numbers and counters are known to say nothing."""
    if word.tag == "SL":
        return Entry(part, text[word.start : word.end])
    if word.tag in _KNOWN_EMPTY or word.category == "symbol":
        return Entry("drop", "")
    return None


def _carries_meaning(word: Word) -> bool:
    return word.category in ("noun", "predicate", "adverb") and not word.tag.startswith(("IC", "MAJ"))
