import pytest

from rollout.__main__ import main

CANARY = ["canary", "--to", "openmoji@1"]
AUTO = ["auto", "--to", "openmoji@1"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "required: COMMAND"),
        ([*CANARY], "required: --percent"),
        ([*CANARY, "--percent", "0"], "from 1 to 99"),
        ([*CANARY, "--percent", "100"], "for 100, promote"),
        ([*CANARY, "--percent", "ten"], "from 1 to 99"),
        (["canary", "--to", "Open Moji", "--percent", "10"], "such as openmoji@1"),
        ([*AUTO, "--steps", "10,,100"], "whole numbers from 1 to 100"),
        ([*AUTO, "--steps", "50,10"], "must rise"),
        ([*AUTO, "--every", "soon"], "such as 500ms, 60s or 10m"),
        ([*AUTO, "--every", "0s"], "such as 500ms, 60s or 10m"),
        ([*AUTO, "--max-error-rate", "2"], "from 0 to 1"),
        ([*AUTO, "--max-error-rate", "nan"], "from 0 to 1"),
        ([*AUTO, "--max-p95-times-stable", "nan"], "such as 1.5"),
        ([*AUTO, "--min-requests", "-1"], "whole number"),
    ],
)
def test_wrong_arguments_end_with_64_and_say_why(arguments, why, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 64
    assert why in capsys.readouterr().err
