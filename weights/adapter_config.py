"""What peft and diffusers write down beside a LoRA's tensors: its alpha, and variants of the method.

Knows the fields of peft's LoraConfig; does not know tensors or where the text came from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weights.errors import IncompatibleLora
from weights.manifest import MODULE_PATH

# Fields of LoraConfig that change what the tensors mean, with the values under which they do not.
PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "init_lora_weights": (True, False, None, "gaussian", "eva"),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False, None),
    "target_parameters": (None, []),
    "use_bdlora": (False, None),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "lora_ga_config": (None,),
    "monteclora_config": (None,),
    "velora_config": (None,),
}


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The alpha of each module, as far as a configuration tells it.

    Args:
        alpha: of every module that `patterns` does not name; None when unknown.
        patterns: module path, or the end of one, to its alpha.
        root_scaling: whether the factor is alpha / sqrt(rank), as in rank-stabilized LoRA.
    """

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    root_scaling: bool = False

    def alpha_of(self, path: str, rank: int) -> float | None:
        """The alpha of one module such that alpha / rank is its factor; None when unknown."""
        found = [alpha for end, alpha in self.patterns.items() if f".{path}".endswith(f".{end}")]
        alpha = found[0] if found else self.alpha
        return alpha * math.sqrt(rank) if alpha is not None and self.root_scaling else alpha

    @classmethod
    def from_json(cls, text: str | bytes) -> AdapterConfig:
        """Parses adapter_config.json, or diffusers' "lora_adapter_metadata" with its "unet." prefixes.

        Raises:
            IncompatibleLora: when a field is malformed or makes it more than a plain LoRA.
        """
        remedy = "Correct the configuration, or export the LoRA again as a plain one"
        try:
            document = json.loads(text)
            if not isinstance(document, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            raise IncompatibleLora(f"is no configuration of a LoRA ({error})", remedy=remedy) from None
        if any(key.startswith("unet.") for key in document):
            document = {key[5:]: value for key, value in document.items() if key.startswith("unet.")}
        for name, plain in PLAIN.items():
            value = document.get(name)
            if not any(value == good and type(value) is type(good) for good in plain):
                raise IncompatibleLora(f"{json.dumps(value)[:80]} is not supported", key=name, remedy=remedy)
        patterns = document.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise IncompatibleLora("is not a JSON object", key="alpha_pattern", remedy=remedy)
        for pattern, value in [("lora_alpha", document.get("lora_alpha", 1)), *patterns.items()]:
            # peft takes regular expressions here; a stranger's are unsafe to run, and plain paths usual.
            known = MODULE_PATH.fullmatch(pattern)
            if not known or type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
                raise IncompatibleLora(
                    "must be a module path with a number above 0", key=pattern, remedy=remedy
                )
        alpha = document.get("lora_alpha")
        return cls(
            None if alpha is None else float(alpha),
            {pattern: float(value) for pattern, value in patterns.items()},
            document.get("use_rslora") is True,
        )
