"""The command line of the transformer, as KServe's controller and people write it."""

from pathlib import Path

import pytest

from transformer.settings import Settings, read_settings


def test_the_controllers_flags_alone() -> None:
    """The controller gives no protocol; the SDK's default would be v1, which has no tensors."""
    argv = ["--model_name", "my-isvc", "--predictor_host", "my-isvc-predictor.ns", "--http_port", "8080"]
    settings = read_settings([*argv, "--workers", "7"], {})
    assert settings.predictor_protocol == "grpc-v2"
    assert (settings.model_name, settings.predictor_host) == ("my-isvc", "my-isvc-predictor.ns")
    assert (settings.server.http_port, settings.server.grpc_port) == (8080, 8081)
    assert settings.picture_threads == 7


def test_the_defaults_are_those_of_the_settings() -> None:
    assert read_settings(["--predictor_host", "x"], {}) == Settings("x")


def test_tls_to_the_predictor() -> None:
    argv = ["--predictor_host", "x", "--predictor_use_ssl", "true", "--predictor_protocol", "v2"]
    settings = read_settings(argv, {"REQUESTS_CA_BUNDLE": "/ca.pem"})
    assert (settings.predictor_use_ssl, settings.predictor_ca_file) == (True, Path("/ca.pem"))
    assert settings.predictor_protocol == "v2"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--predictor_host"),
        (["--predictor_host", "x", "--predictor_protocol", "v1"], "must be grpc-v2 or v2"),
        (["--predictor_host", "x", "--translator", "seq2seq"], "needs --translator_dir"),
        (["--predictor_host", "x", "--max_rows", "0"], "must be at least 1"),
        (["--predictor_host", "x", "--predictor_request_timeout_seconds", "0"], "must be at least 1"),
        (["--predictor_host", "x", "--predictor_request_retries", "-1"], "must be from 0 to 10"),
        (["--predictor_host", "x", "--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_flag_is_explained(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_settings(flags, {})
    assert message in capsys.readouterr().err
