"""Prompts to text-encoder states, as StableDiffusionPipeline makes them, with a cache of the latest.

The text alone is the key: there is one text encoder, and LoRAs that would change it are refused at import.
It doesn't know rows, guidance or translation.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from predictor.diffusion.transfer import to_device


class PromptEncoder:
    """CLIP tokenizer and text encoder; `encode` belongs to one thread, `count_tokens` to any."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        *,
        cache_size: int = 512,
        apart: bool = False,
    ) -> None:
        """apart: each text in a call of its own, so that its states don't depend on the others."""
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._cache: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._cache_size = cache_size
        self._apart = apart
        self._tokenizing = Lock()  # the tokenizer keeps its padding and truncation as state
        self._length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)

    @property
    def max_tokens(self) -> int:
        """Tokens a prompt may have beside the start and end tokens; what is longer is cut off."""
        return self._length - 2

    def count_tokens(self, text: str) -> int:
        """The tokens of a text without the start and end tokens."""
        with self._tokenizing:
            return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def has(self, text: str) -> bool:
        """Whether a text's states are remembered. From any thread."""
        return text in self._cache

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """One [tokens, width] tensor a text, in the encoder's dtype and on its device."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._cache]
        for part in [[text] for text in missing] if self._apart else [missing] * bool(missing):
            self._cache.update(zip(part, self._run(part), strict=True))
        states = [self._cache[text] for text in texts]
        for text in texts:
            self._cache.move_to_end(text)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return states

    def _run(self, texts: list[str]) -> list[torch.Tensor]:
        with self._tokenizing:
            tokens = self._tokenizer(
                texts, padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
            )
        device = self._text_encoder.device
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        states = self._text_encoder(
            to_device(tokens.input_ids, device),
            attention_mask=to_device(tokens.attention_mask, device) if masked else None,
        )[0]
        return [state.clone() for state in states]
