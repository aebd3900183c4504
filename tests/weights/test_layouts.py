from pathlib import Path

import pytest

from weights.base import Base
from weights.errors import IncompatibleLora
from weights.layouts import Layouts, Part, PartKind

Q = "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0"
UP = "up_blocks.1.attentions.0.proj_in"
EMBEDDING = "down_blocks.0.resnets.1.time_emb_proj"
MIDDLE = "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"
# An SD 1.x UNet as far as names go: two layers a block.
BASE = Base(
    Path("base"),
    "0" * 64,
    dict.fromkeys(
        (Q, OUT, UP, EMBEDDING, MIDDLE, "mid_block.resnets.1.time_emb_proj", "a.b_c", "a_b.c"), (8, 8)
    ),
    2,
)
A, B, ALPHA = PartKind.A, PartKind.B, PartKind.ALPHA


def flat(path: str) -> str:
    return "lora_unet_" + path.replace(".", "_")


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (Q.replace(".to_q", ".processor.to_q_lora.down.weight"), Part(Q, A)),
        (OUT.replace(".to_out.0", ".processor.to_out_lora.up.weight"), Part(OUT, B)),
        ("unet." + Q.replace(".to_q", ".processor.to_q_lora.up.weight"), Part(Q, B)),
        (Q.replace(".to_q", ".to_q_lora.down.weight"), Part(Q, A)),
        (Q.replace(".to_q", ".processor.to_q_lora.alpha"), Part(Q, ALPHA)),
        (f"unet.{Q}.lora.down.weight", Part(Q, A)),
        (f"unet.{MIDDLE}.lora.up.weight", Part(MIDDLE, B)),
        (f"unet.{Q}.lora_A.weight", Part(Q, A)),
        (f"{OUT}.lora_B.default.weight", Part(OUT, B, "default")),
        (f"module.{OUT}.lora_B.default.weight", Part(OUT, B, "default")),
        (f"_orig_mod.{OUT}.lora_A.weight", Part(OUT, A)),
        (f"base_model.model.{OUT}.lora_A.weight", Part(OUT, A)),
        (f"base_model.model.unet.{OUT}.lora_A.weight", Part(OUT, A)),
        (f"unet.{Q}.alpha", Part(Q, ALPHA)),
        (f"{flat(Q)}.lora_down.weight", Part(Q, A)),
        (f"{flat(OUT)}.lora_up.weight", Part(OUT, B)),
        (f"{flat(MIDDLE)}.alpha", Part(MIDDLE, ALPHA)),
        ("lora_unet_input_blocks_5_1_transformer_blocks_0_attn1_to_q.lora_down.weight", Part(Q, A)),
        ("lora_unet_output_blocks_3_1_proj_in.lora_up.weight", Part(UP, B)),
        ("lora_unet_middle_block_1_transformer_blocks_0_ff_net_0_proj.alpha", Part(MIDDLE, ALPHA)),
        ("lora_unet_input_blocks_2_0_emb_layers_1.lora_down.weight", Part(EMBEDDING, A)),
        ("lora_unet_middle_block_2_emb_layers_1.alpha", Part("mid_block.resnets.1.time_emb_proj", ALPHA)),
    ],
)
def test_known_keys(key: str, part: Part) -> None:
    assert Layouts(BASE).read([key]) == {key: part}


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", "text encoder"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "text encoder"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "text encoder"),
        (f"{flat(Q)}.dora_scale", "DoRA"),
        (f"unet.{Q}.lora_magnitude_vector.default.weight", "DoRA"),
        (f"{flat(Q)}.hada_w1_a", "LoHa"),
        (f"{flat(Q)}.lokr_w1", "LoKr"),
        (f"{flat(Q)}.lora_mid.weight", "Tucker"),
        (f"unet.{Q}.lora_B.bias", "bias"),
        (f"{flat(Q)}.diff", "difference"),
        ("lora_unet_no_such_module.lora_down.weight", "no module of the base"),
        ("lora_unet_a_b_c.lora_down.weight", "more than one module"),
        ("lora_unet_input_blocks_99_1_proj_in.lora_down.weight", "no module of the base"),
        (f"{Q}.weight", "no key of a known LoRA layout"),
        ("", "no key of a known LoRA layout"),
        ("epoch", "no key of a known LoRA layout"),
        ("unet.unet.", "no key of a known LoRA layout"),
    ],
)
def test_refused_keys(key: str, problem: str) -> None:
    with pytest.raises(IncompatibleLora, match=problem) as caught:
        Layouts(BASE).read([f"unet.{Q}.lora_A.weight", key])
    assert caught.value.key == key
    assert caught.value.remedy


def test_endless_keys_are_refused() -> None:
    with pytest.raises(IncompatibleLora, match="100000 characters"):
        Layouts(BASE).read(["a." * 50_000])
