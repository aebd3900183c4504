import dataclasses
import math
from pathlib import Path

import pytest

from predictor.settings import read_settings
from tests.permissions import shut


def test_the_defaults_are_a_laptops() -> None:
    settings = read_settings([], {})
    assert (settings.base_dir, settings.lora_dir) == (Path("/mnt/models/base"), Path("/mnt/models/loras"))
    assert (settings.server.host, settings.server.http_port, settings.server.grpc_port) == (
        "127.0.0.1",
        8080,
        8081,
    )
    assert settings.server.enable_docs
    assert not settings.log_prompts
    assert (settings.device, settings.dtype, settings.default_look) == ("auto", "auto", None)


def test_a_flag_beats_the_environment() -> None:
    assert read_settings([], {"MODEL_DIR": "/a"}).base_dir == Path("/a/base")
    assert read_settings(["--model_dir", "/b"], {"MODEL_DIR": "/a"}).base_dir == Path("/b/base")
    assert read_settings([], {"DEFAULT_LOOK": "a@1"}).default_look == "a@1"
    assert read_settings(["--default_look", "b"], {"DEFAULT_LOOK": "a@1"}).default_look == "b"


def test_an_empty_look_in_the_environment_is_none_given() -> None:
    assert read_settings([], {"DEFAULT_LOOK": ""}).default_look is None


def test_a_pipeline_folder_is_its_own_base(tmp_path: Path) -> None:
    assert read_settings(["--model_dir", str(tmp_path)], {}).base_dir == tmp_path / "base"
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    settings = read_settings(["--model_dir", str(tmp_path)], {})
    assert (settings.base_dir, settings.lora_dir) == (tmp_path, tmp_path / "loras")


def test_a_folder_that_may_not_be_read_is_left_to_who_reads_it(tmp_path: Path) -> None:
    with shut(tmp_path):
        assert read_settings(["--model_dir", str(tmp_path)], {}).base_dir == tmp_path / "base"


def test_folders_can_be_elsewhere() -> None:
    settings = read_settings(["--model_dir", "/m", "--base_dir", "/b", "--lora_dir", "/l"], {})
    assert (settings.base_dir, settings.lora_dir) == (Path("/b"), Path("/l"))
    assert settings.routes_file == Path("/l/routes.json")
    assert read_settings(["--routes", "/r/r.json"], {}).routes_file == Path("/r/r.json")


def test_every_flag_arrives() -> None:
    flags = {
        "device": "cpu",
        "dtype": "bfloat16",
        "default_look": "openmoji@1",
        "determinism": "fixed-bucket",
        "max_batch_size": 3,
        "max_latency": 4.5,
        "max_queue_rows": 5,
        "max_resident_loras": 6,
        "max_queue_seconds": 6.5,
        "max_rows": 4,
        "max_steps": 7,
        "max_size": 64,
        "max_prompt_chars": 9,
        "request_timeout": 1.5,
        "hang_timeout": 2.5,
        "threads": 2,
        "log_format": "json",
    }
    server = {
        "host": "0.0.0.0",
        "http_port": 1,
        "grpc_port": 2,
        "max_body_bytes": 10,
        "drain_delay": 0.5,
        "grace_period": 4.0,
        "timeout_keep_alive": 6,
    }
    argv = [word for name, value in {**flags, **server}.items() for word in (f"--{name}", str(value))]
    argv[argv.index("--timeout_keep_alive")] = "--timeout-keep-alive"
    settings = read_settings(
        [*argv, "--log_prompts", "--enable_grpc", "false", "--enable_docs_url", "false"], {}
    )
    assert {name: getattr(settings, name) for name in flags} == flags
    assert {name: getattr(settings.server, name) for name in server} == server
    assert settings.log_prompts
    assert (settings.server.enable_grpc, settings.server.enable_docs) == (False, False)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--workers", "2"], "--workers must be 1"),
        (["--max_rows", "9", "--max_queue_rows", "8"], "--max_rows must not be more"),
        (["--max_steps", "0"], "must be at least 1"),
        (["--tenant_weights", "acme"], "must be as acme=3,guests=0.5"),
        (["--tenant_weights", "acme=3,guests=0"], "a weight must be more than 0"),
        (["--tenant_weights", "acme=nan"], "a weight must be more than 0"),
        (["--drain_delay", "-1"], "must be from 0"),
        (["--grace_period", "nan"], "must be from 0"),
        (["--device", "tpu"], "invalid choice"),
        (["--max_step", "5"], "unrecognized arguments"),
        (["--ssl_certfile", "/nowhere"], "--ssl_certfile: /nowhere cannot be read"),
    ],
)
def test_a_wrong_command_line_ends_the_process(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(argv, {})
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_tenants_have_weights_and_the_queue_what_a_request_may_wait() -> None:
    settings = read_settings(["--tenant_weights", "acme=3, a=b=0.5", "--request_timeout", "9"], {})
    assert settings.tenant_weights == {"acme": 3, "a=b": 0.5}
    assert settings.max_queue_seconds == 9
    assert (read_settings([], {}).tenant_weights, read_settings([], {}).max_latency) == ({}, math.inf)


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_settings([], {}).max_rows = 3  # type: ignore[misc]


def endpoint(**environment: str) -> str | None:
    return read_settings(
        [], {f"OTEL_{name}": value for name, value in environment.items()}
    ).server.traces_endpoint


def test_opentelemetrys_variables_say_where_traces_go() -> None:
    base = {"EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert endpoint() is None
    assert endpoint(**base) == "http://collector:4318/v1/traces"
    assert endpoint(EXPORTER_OTLP_ENDPOINT="https://collector/otlp/") == "https://collector/otlp/v1/traces"
    assert endpoint(**base, EXPORTER_OTLP_TRACES_ENDPOINT="http://other/in") == "http://other/in"
    assert endpoint(**base, EXPORTER_OTLP_PROTOCOL="http/protobuf", TRACES_EXPORTER="otlp") is not None
    for off in ({"SDK_DISABLED": "true"}, {"TRACES_EXPORTER": "none"}):
        assert endpoint(**base, **off) is None
    assert endpoint(EXPORTER_OTLP_ENDPOINT="") is None


@pytest.mark.parametrize(
    "environment",
    [
        {"EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"EXPORTER_OTLP_ENDPOINT": "grpc://collector:4317"},
        {"EXPORTER_OTLP_ENDPOINT": "http://[collector"},
        {"EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
        {"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "TRACES_EXPORTER": "zipkin"},
    ],
)
def test_a_collector_that_cannot_be_spoken_to_is_refused(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        endpoint(**environment)
    assert "OTEL_" in capsys.readouterr().err
