"""The backends by name: builds the one that was chosen, with the cache in front of it.

Knows nothing of what is translated.
"""

from pathlib import Path
from typing import Literal, get_args

from transformer.translation.cache import CachedTranslator
from transformer.translation.glossary import GlossaryTranslator

TranslatorName = Literal["glossary", "seq2seq"]
TRANSLATOR_NAMES: tuple[str, ...] = get_args(TranslatorName)


def build_translator(
    name: TranslatorName, model_dir: Path | None = None, cache_size: int = 10_000
) -> CachedTranslator:
    """The named backend with a cache in front of it. It loads its data, for seconds: call it before serving.

    `model_dir` is the local Hugging Face encoder-decoder folder of `"seq2seq"`, unused by `"glossary"`.
    Raises `ValueError` for an unknown name, a missing folder or a folder that holds no such model.
    """
    if name == "glossary":
        return CachedTranslator(GlossaryTranslator(), max_entries=cache_size)
    if name == "seq2seq":
        if model_dir is None:
            raise ValueError("the seq2seq translator needs a model folder")
        # Imported only when chosen: it brings torch and transformers.
        from transformer.translation.seq2seq import Seq2SeqTranslator

        return CachedTranslator(Seq2SeqTranslator(model_dir), max_entries=cache_size)
    raise ValueError(f"unknown translator {name!r}; known: {', '.join(TRANSLATOR_NAMES)}")
