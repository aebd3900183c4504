"""What a server draws: ranges, and fields that go together."""

from typing import Any

import pytest

from predictor.contract import Limits, PictureRequest, check_pictures
from predictor.errors import InvalidInput

LIMITS = Limits(solvers=("ddim", "euler"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": " \n"}, "prompt: must not be empty"),
        ({"prompt": "a" * 1001}, "prompt: must have at most 1000 characters, has 1001"),
        ({"negative_prompt": "a" * 1001}, "negative_prompt: must have at most 1000 characters, has 1001"),
        ({"seed": -1}, "seed: must be from 0 to 9223372036854775807, got -1"),
        ({"seed": 2**63}, f"seed: must be from 0 to 9223372036854775807, got {2**63}"),
        ({"num_inference_steps": 0}, "num_inference_steps: must be from 1 to 100, got 0"),
        ({"num_inference_steps": 101}, "num_inference_steps: must be from 1 to 100, got 101"),
        ({"guidance_scale": -0.5}, "guidance_scale: must be from 0 to 30.0, got -0.5"),
        ({"guidance_scale": float("nan")}, "guidance_scale: must be from 0 to 30.0, got nan"),
        ({"lora_scale": 2.5}, "lora_scale: must be from 0 to 2.0, got 2.5"),
        ({"height": 2048}, "height: must be from 8 to 1024, got 2048"),
        ({"width": 100}, "width: must be a multiple of 8, got 100"),
        ({"solver": "magic"}, "solver: must be one of ddim, euler"),
        ({"timeout": 0.0}, "timeout: must be more than 0 and at most 3600 seconds, got 0.0"),
        ({"timeout": float("nan")}, "timeout: must be more than 0 and at most 3600 seconds, got nan"),
        ({"priority": -4}, "priority: must be from -3 to 3, got -4"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_pictures([{"prompt": "a", **row}], LIMITS)
    assert caught.value.message == message


def test_the_ends_of_the_ranges_are_accepted() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "seed": 0, "num_inference_steps": 1, "guidance_scale": 0.0, "height": 8},
        {"prompt": "a" * 1000, "seed": 2**63 - 1, "num_inference_steps": 100, "lora_scale": 2.0, "height": 8},
    ]
    terms: list[dict[str, Any]] = [{"timeout": 0.001, "priority": -3}, {"timeout": 3600.0, "priority": 3}]
    for own in terms:
        assert check_pictures([{**row, **own} for row in rows], LIMITS)[0].timeout == own["timeout"]
    assert check_pictures(rows, LIMITS) == [PictureRequest(**row) for row in rows]


@pytest.mark.parametrize(
    ("field", "values"), [("width", (8, 16)), ("timeout", (1.0, 2.0)), ("priority", (0, 1))]
)
def test_all_pictures_of_a_request_have_one_size_and_the_same_terms(field: str, values: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: must be the same"):
        check_pictures([{"prompt": "a", field: value} for value in values], LIMITS)


def test_which_approximations_there_are_depends_on_the_server() -> None:
    def check(**fields: Any) -> PictureRequest:
        limits = Limits(solvers=("ddim",), approximations=("none", "block-cache:2", "few-steps"))
        return check_pictures([{"prompt": "a", **fields}], limits)[0]

    assert not check().approximated
    assert not check(approximation="none", num_inference_steps=3).approximated
    assert check(approximation="block-cache:2", num_inference_steps=3, solver="ddim").approximated
    assert check(approximation="few-steps", guidance_scale=2.0).approximated
    for wrong in ("", "block-cache", "block-cache:1", "None"):
        with pytest.raises(InvalidInput, match=r"^approximation: .*none, block-cache:2, few-steps$"):
            check(approximation=wrong)
    for chosen in ({"num_inference_steps": 3}, {"solver": "ddim"}):
        with pytest.raises(InvalidInput, match=r"^approximation: few-steps chooses"):
            check(approximation="few-steps", **chosen)
