"""The second backend: any local Hugging Face encoder-decoder folder, such as Marian, M2M100 or NLLB.

The only module of the transformer that imports torch, so it is imported only when chosen. Reads safetensors
from the local folder alone: no hub, no pickles, no code from the folder. Knows no vocabulary and no cache.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

from predictor.errors import QueueFull
from transformer.translation.language import normalise
from transformer.translation.translator import Backend, Translation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _LanguageCodes:
    """How one family of tokenizers names Korean and English; `target_token` must be in its vocabulary."""

    source: str
    target_token: str


_FAMILIES = (
    _LanguageCodes("kor_Hang", "eng_Latn"),  # NLLB
    _LanguageCodes("ko_KR", "en_XX"),  # mBART-50
    _LanguageCodes("ko", "__en__"),  # M2M100
)
_MARIAN_TARGET = ">>eng<<"  # Marian models with several target languages want it in front of the text

_RESTRICTED_LICENCE = re.compile(r"cc-by-nc|non-?commercial|nllb|hunyuan|tencent", re.IGNORECASE)


class Seq2SeqTranslator:
    """Translates in batches on one worker thread: what arrives during one batch makes up the next.

    `max_batch_size` texts a batch, `max_new_tokens` tokens a translation; a text longer than the model can
    take is cut. At most `max_waiting` texts wait for their batch. Raises `ValueError` for a folder that is
    no local encoder-decoder model in safetensors. Warns in the log of a licence that restricts the use of
    the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        max_batch_size: int = 16,
        max_new_tokens: int = 64,
        max_waiting: int = 256,
    ) -> None:
        _check_folder(folder)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self._model = model.to(device).eval()
        self._device = device
        self._max_batch_size = max_batch_size
        self._max_waiting = max_waiting
        self._batch_s = 1.0  # how long the last batch took
        self._max_input_tokens = min(
            self._tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512)
        )
        self._generation = {"max_new_tokens": max_new_tokens, "max_length": None}
        self._prefix = ""
        self._set_languages()
        self._waiting: list[tuple[str, asyncio.Future[Translation]]] = []
        self._runner: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="seq2seq")

    @property
    def name(self) -> Backend:
        """The backend's name in every `Translation`."""
        return "seq2seq"

    async def translate(self, texts: Sequence[str]) -> list[Translation]:
        """English for each text; `unknown` holds the words for which the model has no token.

        Cancelled, its texts leave the queue. Raises QueueFull where more would wait than may.
        """
        waiting = sum(not future.done() for _, future in self._waiting)
        if waiting + len(texts) > self._max_waiting:
            batches = math.ceil(waiting / self._max_batch_size)
            raise QueueFull(batches * self._batch_s, "too many texts wait for their translation")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Translation]] = [loop.create_future() for _ in texts]
        self._waiting += zip(map(normalise, texts), futures, strict=True)
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run())
        return list(await asyncio.gather(*futures))

    def close(self) -> None:
        """Ends the worker thread; the batch in it is still finished."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # callers that are ready now join this batch
            wanted = [(text, future) for text, future in self._waiting if not future.done()]
            batch, self._waiting = wanted[: self._max_batch_size], wanted[self._max_batch_size :]
            if not batch:
                continue
            began = time.monotonic()
            try:
                translations = await asyncio.get_running_loop().run_in_executor(
                    self._worker, self._translate_batch, [text for text, _ in batch]
                )
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            self._batch_s = time.monotonic() - began
            for (_, future), translation in zip(batch, translations, strict=True):
                if not future.done():  # its caller may have gone
                    future.set_result(translation)

    @torch.inference_mode()
    def _translate_batch(self, texts: list[str]) -> list[Translation]:
        inputs = self._tokenizer(
            [self._prefix + text for text in texts],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._max_input_tokens,
        )
        tokens = self._model.generate(**inputs.to(self._device), **self._generation)
        english = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [
            Translation(" ".join(translated.split()), "seq2seq", "ko", self._find_unknown(text))
            for text, translated in zip(texts, english, strict=True)
        ]

    def _find_unknown(self, text: str) -> tuple[str, ...]:
        unknown_id = self._tokenizer.unk_token_id
        words = dict.fromkeys(text.split())
        return tuple(
            word for word in words if unknown_id in self._tokenizer(word, add_special_tokens=False).input_ids
        )

    def _set_languages(self) -> None:
        """Sets Korean as the source and English as the first token, in the codes of the folder's family."""
        for family in _FAMILIES:
            if self._has_token(family.target_token):
                self._tokenizer.src_lang = family.source
                target = self._tokenizer.convert_tokens_to_ids(family.target_token)
                self._generation["forced_bos_token_id"] = target
                return
        if self._has_token(_MARIAN_TARGET):
            self._prefix = f"{_MARIAN_TARGET} "

    def _has_token(self, token: str) -> bool:
        return self._tokenizer.convert_tokens_to_ids(token) not in (None, self._tokenizer.unk_token_id)


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no Hugging Face model folder: it has no config.json")
    if not list(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} has no *.safetensors; convert it: from_pretrained(folder), save_pretrained(new_folder)"
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not config.is_encoder_decoder:
        raise ValueError(f"{folder} holds a {config.model_type} model, which is no encoder-decoder")
    card = folder / "README.md"
    stated = card.read_text(encoding="utf-8", errors="replace")[:4000] if card.is_file() else ""
    name = f"{folder.name} {getattr(config, 'name_or_path', '')}"
    if _RESTRICTED_LICENCE.search(f"{name} {stated}"):
        logger.warning(
            "the licence of the translation model %s may forbid commercial use or use in some countries "
            "(NLLB is CC BY-NC; some Tencent licences leave out South Korea): read it before you serve it",
            folder.name,
        )
