import json
from typing import Any

import pytest
from peft import LoraConfig

from weights.adapter_config import AdapterConfig
from weights.errors import IncompatibleLora


def written(**fields: Any) -> str:
    """What peft writes."""
    config = LoraConfig(target_modules=["to_q"], **fields).to_dict()
    return json.dumps({**config, "target_modules": ["to_q"]})


def test_alpha() -> None:
    config = AdapterConfig.from_json(written(r=4, lora_alpha=6))
    assert config.alpha_of("mid_block.attn.to_q", 4) == 6


def test_alpha_pattern_goes_by_the_end_of_the_path() -> None:
    config = AdapterConfig.from_json(written(r=4, lora_alpha=6, alpha_pattern={"attn1.to_q": 3}))
    assert config.alpha_of("mid_block.attn1.to_q", 4) == 3
    assert config.alpha_of("attn1.to_q", 4) == 3
    assert config.alpha_of("mid_block.xattn1.to_q", 4) == 6


def test_rank_stabilized() -> None:
    config = AdapterConfig.from_json(written(r=16, lora_alpha=6, use_rslora=True))
    assert config.alpha_of("to_q", 16) / 16 == pytest.approx(6 / 4)


def test_prefixes_of_diffusers() -> None:
    text = json.dumps({f"unet.{key}": value for key, value in json.loads(written(lora_alpha=5)).items()})
    assert AdapterConfig.from_json(text).alpha == 5


def test_nothing_told() -> None:
    assert AdapterConfig.from_json("{}").alpha_of("to_q", 4) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("lora_bias", True),
        ("bias", "all"),
        ("fan_in_fan_out", True),
        ("init_lora_weights", "pissa"),
        ("modules_to_save", ["conv_in"]),
        ("lora_alpha", "8"),
        ("lora_alpha", -1),
        ("lora_alpha", float("nan")),
        ("alpha_pattern", ["to_q"]),
        ("alpha_pattern", {"(a+)+$": 2}),
        ("alpha_pattern", {"to_q": None}),
    ],
)
def test_what_is_no_plain_lora_is_refused(field: str, value: Any) -> None:
    with pytest.raises(IncompatibleLora) as caught:
        AdapterConfig.from_json(json.dumps({**json.loads(written()), field: value}))
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, b"\xff"])
def test_what_is_no_configuration_is_refused(text: str | bytes) -> None:
    with pytest.raises(IncompatibleLora):
        AdapterConfig.from_json(text)
