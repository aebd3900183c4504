from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.tiny_models import make_lora, make_pipeline
from tests.weights.lora_layouts import (
    as_accelerate_state,
    as_attention_processors,
    as_convolutions,
    as_diffusers,
    as_kohya,
    as_original_kohya,
    only_attention,
    path_of,
)
from weights.adapter_config import AdapterConfig
from weights.base import Base, read_base
from weights.canonical import canonicalize
from weights.errors import IncompatibleLora

Tensors = dict[str, torch.Tensor]
UNET = make_pipeline("sd15").unet
LORA = make_lora(UNET)
KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"
OTHER = KEY.replace("lora_A", "lora_B")
PATH = path_of(KEY)


@pytest.fixture(scope="module")
def base(tiny_folders: dict[str, Path]) -> Base:
    return read_base(tiny_folders["sd15"])


@pytest.mark.parametrize(
    ("tensors", "wanted", "factor"),
    [
        (as_attention_processors(LORA), only_attention(LORA), 1),
        (as_attention_processors(LORA, "unet."), only_attention(LORA), 1),
        (as_diffusers(LORA), LORA, 1),
        (LORA, LORA, 1),
        (as_convolutions(LORA, UNET), LORA, 1),
        (as_kohya(LORA, None), LORA, 1),
        (as_kohya(as_convolutions(LORA, UNET), 3.0), LORA, 1.5),
        (as_original_kohya(LORA, 3.0), {k: t for k, t in LORA.items() if ".attentions." in k}, 1.5),
        ({k: t for k, t in as_accelerate_state(LORA, UNET).items() if "lora" in k}, LORA, 1),
        (
            {
                **as_attention_processors(LORA),
                **{k: t for k, t in LORA.items() if k not in only_attention(LORA)},
            },
            LORA,
            1,
        ),
    ],
    ids=[
        "processor",
        "unet.processor",
        "diffusers",
        "peft",
        "conv",
        "kohya",
        "alpha",
        "original",
        "state",
        "mixed",
    ],
)
def test_every_layout_gives_the_same(base: Base, tensors: Tensors, wanted: Tensors, factor: float) -> None:
    lora = canonicalize(tensors, base)
    assert lora.tensors.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(lora.tensors[key], tensor * (factor if ".lora_B." in key else 1.0))
    assert set(lora.targets) == {path_of(key) for key in wanted}
    for path, target in lora.targets.items():
        assert (target.rank, target.alpha) == (2, 2 * factor)
        assert target.shape == base.matrix(path)


def test_alpha_comes_from_the_tensors_then_the_configuration_then_the_user(base: Base) -> None:
    pair = {key: LORA[key] for key in (KEY, OTHER)}
    config = AdapterConfig(alpha=6.0)

    def alpha_of(tensors: Tensors, **options: object) -> tuple[float, bool]:
        lora = canonicalize(tensors, base, **options)  # type: ignore[arg-type]
        assert torch.allclose(lora.tensors[OTHER], LORA[OTHER] * lora.targets[PATH].alpha / 2)
        return lora.targets[PATH].alpha, lora.assumed_alpha

    assert alpha_of(as_kohya(pair, 3.0), config=config) == (3.0, False)
    assert alpha_of(pair, config=config) == (6.0, False)
    assert alpha_of(pair, alpha=5.0) == (5.0, False)
    assert alpha_of(pair) == (2.0, True)
    with pytest.raises(IncompatibleLora, match="alpha is 3 in the file, not 5"):
        canonicalize(as_kohya(pair, 3.0), base, alpha=5.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(base: Base, dtype: torch.dtype) -> None:
    pair = {key: LORA[key].to(dtype) for key in (KEY, OTHER)}
    own = torch.float32 if dtype is torch.float64 else dtype
    assert canonicalize(pair, base).tensors[OTHER].dtype in (own, torch.float32)
    assert canonicalize(pair, base, alpha=4.0).tensors[OTHER].dtype in (own, torch.float32)
    # One third cannot be folded exactly into fewer bits than float32 has.
    assert canonicalize(pair, base, alpha=2 / 3).tensors[OTHER].dtype is torch.float32
    assert canonicalize(pair, base, dtype=torch.float16).tensors[OTHER].dtype is torch.float16


def test_half_precision_stays_where_folding_is_exact(base: Base) -> None:
    pair = {key: LORA[key].half() for key in (KEY, OTHER)}
    lora = canonicalize(pair, base, alpha=4.0)
    assert lora.tensors[OTHER].dtype is torch.float16
    assert torch.equal(lora.tensors[OTHER], pair[OTHER] * 2)


def test_results_are_copies(base: Base) -> None:
    large = torch.randn(1000, 1000)
    pair = {KEY: large[:2, :8], OTHER: LORA[OTHER]}
    result = canonicalize(pair, base).tensors[KEY]
    assert result.is_contiguous()
    assert result.untyped_storage().nbytes() == 2 * 8 * 4


def without(key: str) -> Callable[[Tensors], Tensors]:
    return lambda lora: {other: tensor for other, tensor in lora.items() if other != key}


def replaced(key: str, tensor: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda lora: {**lora, key: tensor}


def both(a: torch.Tensor, b: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda lora: {**lora, KEY: a, OTHER: b}


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        (without(OTHER), KEY, "has no lora_B beside it"),
        (without(KEY), OTHER, "has no lora_A beside it"),
        (replaced("unet.x.alpha", torch.ones(1)), "unet.x.alpha", "has no lora_A beside it"),
        (replaced(KEY, torch.full((2, 8), torch.nan)), KEY, "NaN"),
        (replaced(OTHER, torch.full((8, 2), torch.inf)), OTHER, "infinity"),
        (replaced(KEY, torch.ones(2, 8, dtype=torch.int8)), KEY, "int8"),
        (replaced(KEY, torch.ones(2, 8, dtype=torch.float8_e4m3fn)), KEY, "float8"),
        (replaced(KEY, torch.ones(2)), KEY, r"shape \[2\]"),
        (replaced(KEY, torch.ones(2, 8, 3, 3)), KEY, "no 1x1 convolution"),
        (replaced(KEY, torch.ones(3, 8)), OTHER, "rank 2, but"),
        (both(torch.ones(0, 8), torch.ones(8, 0)), KEY, "rank 0"),
        (both(torch.ones(257, 8), torch.ones(8, 257)), KEY, "rank 257"),
        (both(torch.ones(2, 320), torch.ones(320, 2)), KEY, "does not fit the base"),
        (replaced(OTHER, torch.ones(9, 2)), OTHER, "does not fit the base"),
        (replaced(f"unet.{PATH}.alpha", torch.tensor(torch.nan)), f"unet.{PATH}.alpha", "alpha"),
        (replaced(f"unet.{PATH}.alpha", torch.tensor(0.0)), f"unet.{PATH}.alpha", "alpha"),
        (replaced(f"unet.{PATH}.alpha", torch.tensor(1j)), f"unet.{PATH}.alpha", "alpha"),
        (replaced(f"unet.{PATH}.alpha", torch.ones(2)), f"unet.{PATH}.alpha", "alpha"),
        (replaced(KEY.replace("lora_A", "lora.down"), LORA[KEY]), KEY, "gives the same matrix"),
        (replaced("unet.../../etc/x.lora_A.weight", LORA[KEY]), "unet.../../etc/x.lora_A.weight", "lora_B"),
        (replaced("global_step", torch.ones(1)), "global_step", "no key of a known LoRA layout"),
    ],
)
def test_what_is_refused(base: Base, change: Callable[[Tensors], Tensors], key: str, problem: str) -> None:
    with pytest.raises(IncompatibleLora, match=problem) as caught:
        canonicalize(change(LORA), base)
    assert caught.value.key == key
    assert caught.value.remedy


def test_modules_that_cannot_be_adapted(base: Base) -> None:
    for path, problem in (("conv_in", "neither linear nor"), ("mid_block.nothing", "no module of the base")):
        tensors = {
            f"unet.{path}.lora_A.weight": torch.ones(2, 4),
            f"unet.{path}.lora_B.weight": torch.ones(4, 2),
        }
        with pytest.raises(IncompatibleLora, match=problem):
            canonicalize(tensors, base)


def test_several_adapters_are_refused(base: Base) -> None:
    tensors = {
        key.replace(".weight", ".one.weight" if "attn1" in key else ".two.weight"): t
        for key, t in LORA.items()
    }
    with pytest.raises(IncompatibleLora, match="several adapters: one, two"):
        canonicalize(tensors, base)


def test_overflow_is_refused(base: Base) -> None:
    pair = {KEY: LORA[KEY], OTHER: torch.full((8, 2), 60_000.0)}
    with pytest.raises(IncompatibleLora, match="overflows"):
        canonicalize(pair, base, alpha=4.0, dtype=torch.float16)


def test_too_many_or_no_tensors(base: Base) -> None:
    for tensors in ({}, {f"{number}.lora_A.weight": torch.ones(1) for number in range(16_385)}):
        with pytest.raises(IncompatibleLora, match="LoRA tensors"):
            canonicalize(tensors, base)


def test_another_base(tiny_folders: dict[str, Path]) -> None:
    with pytest.raises(IncompatibleLora, match=r"does not fit|no module of the base") as caught:
        canonicalize(LORA, read_base(tiny_folders["emoji"]))
    assert caught.value.remedy == "Give the base that the LoRA was trained on"
