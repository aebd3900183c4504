"""The key layouts of LoRA files in the wild, read as (module path, part).

    down_blocks.….attn1.processor.to_q_lora.down.weight       load_attn_procs, diffusers until 0.17
    unet.down_blocks.….attn1.to_q.lora.down.weight            diffusers until 0.2x
    unet.down_blocks.….attn1.to_q.lora_A[.default].weight     diffusers with peft, peft, accelerate states
    lora_unet_down_blocks_…_attn1_to_q.lora_down.weight       kohya, with diffusers' or the original names

Knows names only: no tensors, shapes or files. Each key is judged by itself, since mixed files exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from weights.base import Base
from weights.errors import IncompatibleLora


class PartKind(Enum):
    """Which part of an adapted module a tensor is."""

    A = "lora_A"
    B = "lora_B"
    ALPHA = "alpha"


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor's place: the UNet module, the part, and the adapter's name where the key tells it."""

    path: str
    kind: PartKind
    adapter: str | None = None


MAX_KEY = 512
KINDS = {"down": PartKind.A, "up": PartKind.B, "A": PartKind.A, "B": PartKind.B}

ATTENTION_PROCESSOR = re.compile(
    r"(?P<path>.+?)(\.processor)?\.(?P<projection>to_[qkv]|to_out)_lora\.((?P<kind>down|up)\.weight|alpha)"
)
DIFFUSERS = re.compile(r"(?P<path>.+)\.lora\.(?P<kind>down|up)\.weight")
PEFT = re.compile(r"(?P<path>.+)\.lora_(?P<kind>A|B)(\.(?P<adapter>[^.]+))?\.weight")
KOHYA = re.compile(r"lora_unet_(?P<flat>[^.]+)\.(lora_(?P<kind>down|up)\.weight|alpha)")
DOTTED_ALPHA = re.compile(r"(?P<path>.+)\.alpha")
# What wrappers put before a module's path: peft, DistributedDataParallel, torch.compile, a pipeline.
WRAPPERS = re.compile(r"((base_model\.model|module|_orig_mod|unet)\.)*")
# Blocks as the original Stable Diffusion code names them, as some kohya files keep: number, then 0 for a
# resnet and 1 for an attention.
ORIGINAL_BLOCK = re.compile(r"(?P<side>input|output)_blocks_(?P<number>\d{1,2})_(?P<place>[01])_(?P<rest>.+)")
ORIGINAL_MIDDLE = re.compile(r"middle_block_(?P<place>[012])_(?P<rest>.+)")
ORIGINAL_RESNET = {"emb_layers_1": "time_emb_proj", "skip_connection": "conv_shortcut"}

# Kinds of adapter that are not low-rank matrices beside a linear module, by what gives them away in a key.
UNSUPPORTED = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa (LyCORIS)",
    "lokr_": "LoKr (LyCORIS)",
    "lora_mid": "a Tucker-decomposed convolution (LyCORIS)",
    "lora_embedding_": "a LoRA of an embedding",
    "custom_diffusion": "Custom Diffusion",
    "oft_": "OFT",
    "boft_": "BOFT",
    "ia3_": "IA3",
    ".bias": "a LoRA with a bias",
    ".diff": "a full difference",
}
TEXT_ENCODER = re.compile(r"(text_encoder(_\d)?\.|lora_te\d?_|text_model\.)")


class Layouts:
    """Reads keys against the module names of one base, which flattened kohya names need."""

    def __init__(self, base: Base) -> None:
        self._layers = base.layers_per_block
        self._flat: dict[str, list[str]] = {}
        for path in base.shapes:
            self._flat.setdefault(path.replace(".", "_"), []).append(path)

    def read(self, keys: Iterable[str]) -> dict[str, Part]:
        """Every key's part.

        Raises:
            IncompatibleLora: naming the first key that is of an unknown layout or an unsupported kind.
        """
        return {key: self._part(key) for key in sorted(keys)}

    def _part(self, key: str) -> Part:
        if len(key) > MAX_KEY:
            raise IncompatibleLora(
                f"is {len(key)} characters long", key=f"{key[:80]}…", remedy=f"Keys have at most {MAX_KEY}"
            )
        if TEXT_ENCODER.match(key):
            raise IncompatibleLora(
                "belongs to a LoRA of the text encoder, which is not supported",
                key=key,
                remedy="Export or train the UNet's LoRA alone",
            )
        for sign, kind in UNSUPPORTED.items():
            if sign in key:
                raise IncompatibleLora(
                    f"is {kind}, which is not supported", key=key, remedy="Train or extract a plain LoRA"
                )
        if found := KOHYA.fullmatch(key):
            return Part(self._resolve(key, found["flat"]), KINDS.get(found["kind"], PartKind.ALPHA))
        bare = key[WRAPPERS.match(key).end() :]  # type: ignore[union-attr]  # it matches nothing, too
        if found := ATTENTION_PROCESSOR.fullmatch(bare):
            projection = "to_out.0" if found["projection"] == "to_out" else found["projection"]
            return Part(f"{found['path']}.{projection}", KINDS.get(found["kind"], PartKind.ALPHA))
        if found := DIFFUSERS.fullmatch(bare) or PEFT.fullmatch(bare):
            return Part(found["path"], KINDS[found["kind"]], found.groupdict().get("adapter"))
        if found := DOTTED_ALPHA.fullmatch(bare):
            return Part(found["path"], PartKind.ALPHA)
        raise IncompatibleLora(
            "is no key of a known LoRA layout",
            key=key,
            remedy="Known are load_attn_procs, diffusers, peft and kohya; convert the file to one of them",
        )

    def _resolve(self, key: str, flat: str) -> str:
        paths = self._flat.get(self._modern(flat), [])
        if len(paths) != 1:
            problem = "names more than one module of the base" if paths else "names no module of the base"
            raise IncompatibleLora(problem, key=key, remedy="Give the base that the LoRA was trained on")
        return paths[0]

    def _modern(self, flat: str) -> str:
        """The flattened diffusers name of a flattened original one; any other name as it is."""
        if found := ORIGINAL_MIDDLE.fullmatch(flat):
            block, place = "mid_block", int(found["place"])
            branch = "attentions_0" if place == 1 else f"resnets_{place // 2}"
        elif (found := ORIGINAL_BLOCK.fullmatch(flat)) and self._layers is not None:
            # An input block starts with conv_in and closes each level with a downsampler: both count.
            offset, side = (1, "down") if found["side"] == "input" else (0, "up")
            level, layer = divmod(int(found["number"]) - offset, self._layers + 1)
            block, place = f"{side}_blocks_{level}", int(found["place"])
            branch = f"attentions_{layer}" if place == 1 else f"resnets_{layer}"
        else:
            return flat
        rest = found["rest"] if place == 1 else ORIGINAL_RESNET.get(found["rest"], found["rest"])
        return f"{block}_{branch}_{rest}"
