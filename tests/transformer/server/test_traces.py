"""One trace through transformer and predictor, as a collector gets it from both processes."""

import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve import InferInput, InferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.otlp_receiver import Receiver, receiving
from tests.predictor.serving import write_store
from tests.transformer.serving import Process, serving

PREDICTOR, TRANSFORMER = "emoji-predictor", "emoji-transformer"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
CALLER = "b7ad6b7169203331"

HTTP = "POST /v2/models/{model_name}/infer"
GRPC = "inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def predictor(
    tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, collector: Receiver
) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("traced")
    flags = ["--base_dir", str(tiny_folders["emoji"]), "--device", "cpu"]
    flags += ["--lora_dir", str(write_store(root / "loras", tiny_folders["emoji"]).root)]
    with serving(
        "predictor",
        *flags,
        log=root / "log",
        wait_for="/v2/health/ready",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        **QUICK,
    ) as process:
        yield process


@pytest.fixture(scope="module")
def transformers(
    tmp_path_factory: pytest.TempPathFactory, predictor: Process, collector: Receiver
) -> Iterator[dict[str, Process]]:
    """One for each way to the predictor."""
    with ExitStack() as stack:
        yield {
            protocol: stack.enter_context(
                serving(
                    "transformer",
                    *("--predictor_host", f"127.0.0.1:{port}", "--predictor_protocol", protocol),
                    log=tmp_path_factory.mktemp("traced") / "log",
                    wait_for="/v2/health/ready",
                    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
                    **QUICK,
                )
            )
            for protocol, port in (("grpc-v2", predictor.grpc_port), ("v2", predictor.http_port))
        }


def body(prompt: str, **parameters: Any) -> dict[str, Any]:
    data = {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": [prompt]}
    return {"inputs": [data], "parameters": {"num_inference_steps": 2, "seed": 1, **parameters}}


def ask(
    server: Process, headers: dict[str, str] | None = None, prompt: str = "빨간 사과", **parameters: Any
) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v2/models/emoji/infer",
        json=body(prompt, **parameters),
        headers=headers,
        trust_env=False,
        timeout=120,
    )


def new_trace() -> tuple[str, dict[str, str]]:
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{CALLER}-01", "tracestate": "vendor=1"}


def is_call(span: Span) -> bool:
    return span.kind in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)


def servers(collector: Receiver, trace: str) -> dict[str, Span]:
    """The requests' spans of one trace, by service."""
    return {service: span for service, span in collector.of(trace) if span.kind == Span.SPAN_KIND_SERVER}


def attributes(span: Span) -> dict[str, Any]:
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


@pytest.mark.parametrize("protocol", ["grpc-v2", "v2"])
def test_a_request_is_one_trace_through_both_processes(
    collector: Receiver, transformers: dict[str, Process], protocol: str
) -> None:
    trace, headers = new_trace()
    assert ask(transformers[protocol], headers).status_code == 200
    collector.wait_for(lambda: len(collector.of(trace)) == 10)
    call = GRPC if protocol == "grpc-v2" else HTTP
    parts = {(service, span.name): span for service, span in collector.of(trace) if not is_call(span)}
    server = servers(collector, trace)
    (client,) = (span for service, span in collector.of(trace) if span.kind == Span.SPAN_KIND_CLIENT)
    assert (client.name, server[PREDICTOR].name, server[TRANSFORMER].name) == (call, call, HTTP)
    assert server[TRANSFORMER].parent_span_id.hex() == CALLER
    assert client.parent_span_id == server[TRANSFORMER].span_id
    assert server[PREDICTOR].parent_span_id == client.span_id
    assert parts.keys() == {
        *((TRANSFORMER, part) for part in ("translate", "encode pictures", "encode reply")),
        *((PREDICTOR, part) for part in ("admit", "steps", "decode", "encode reply")),
    }
    for (service, _), part in parts.items():
        assert part.parent_span_id == server[service].span_id
    assert {span.trace_state for _, span in collector.of(trace)} == {"vendor=1"}

    in_order = [
        *(server[TRANSFORMER], parts[TRANSFORMER, "translate"], client, server[PREDICTOR]),
        *(parts[PREDICTOR, part] for part in ("admit", "steps", "decode", "encode reply")),
        parts[TRANSFORMER, "encode pictures"],
    ]
    starts = [span.start_time_unix_nano for span in in_order]
    assert starts == sorted(starts)
    assert attributes(parts[PREDICTOR, "steps"]) == {
        "emoji.steps": 2,
        "emoji.batch_rows_mean": 1.0,
        "emoji.loras": ["notoemoji@1"],
    }
    assert attributes(server[TRANSFORMER])["http.response.status_code"] == 200
    told = attributes(server[PREDICTOR])
    assert told["rpc.response.status_code" if protocol == "grpc-v2" else "http.response.status_code"] in (
        "OK",
        200,
    )


def test_a_grpc_caller_is_continued_too(collector: Receiver, transformers: dict[str, Process]) -> None:
    trace, headers = new_trace()
    request = InferRequest("emoji", [InferInput("prompt", [1], "BYTES", ["a cat"])]).to_grpc()
    with grpc.insecure_channel(f"127.0.0.1:{transformers['grpc-v2'].grpc_port}") as channel:
        GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=tuple(headers.items()))
    collector.wait_for(lambda: len(collector.of(trace)) == 10)
    server = servers(collector, trace)[TRANSFORMER]
    assert (server.name, server.parent_span_id.hex()) == (GRPC, CALLER)
    assert attributes(server)["rpc.response.status_code"] == "OK"


@pytest.mark.parametrize("traceparent", [None, "broken", f"00-{'0' * 32}-{CALLER}-01"])
def test_without_a_context_that_can_be_read_a_trace_begins(
    collector: Receiver, predictor: Process, traceparent: str | None
) -> None:
    before = len(collector.spans)
    headers = {"traceparent": traceparent} if traceparent else {}
    assert ask(predictor, headers, "a cat").status_code == 200
    collector.wait_for(lambda: len(collector.spans) >= before + 5)
    (root,) = [span for _, span in collector.spans[before:] if span.kind == Span.SPAN_KIND_SERVER]
    assert (root.name, root.parent_span_id) == (HTTP, b"")


def test_what_goes_wrong_is_on_the_spans_but_no_word_of_the_caller(
    collector: Receiver, transformers: dict[str, Process]
) -> None:
    late, headers = new_trace()
    assert ask(transformers["grpc-v2"], headers, num_inference_steps=90, timeout=0.02).status_code == 504
    refused, headers = new_trace()
    assert ask(transformers["grpc-v2"], headers, num_inference_steps=10_000).status_code == 400
    for trace, status, error in ((late, 504, True), (refused, 400, False)):
        collector.wait_for(lambda trace=trace: TRANSFORMER in servers(collector, trace))
        server = servers(collector, trace)[TRANSFORMER]
        assert attributes(server)["http.response.status_code"] == status
        assert (server.status.code == Status.STATUS_CODE_ERROR) == error
    for _, span in list(collector.spans):
        assert "사과" not in str(span)
        assert "apple" not in str(span)
        assert not span.events


def test_an_unsampled_caller_stays_unsampled_and_probes_have_no_spans(
    collector: Receiver, transformers: dict[str, Process]
) -> None:
    transformer = transformers["grpc-v2"]
    trace, headers = new_trace()
    headers["traceparent"] = headers["traceparent"][:-1] + "0"
    assert ask(transformer, headers).status_code == 200
    for path in ("/v2/health/ready", "/v2/models/emoji", "/v2/models/emoji/ready", "/metrics", "/v2"):
        assert httpx.get(transformer.url + path, headers=headers, trust_env=False).status_code == 200
    last, headers = new_trace()
    assert ask(transformer, headers).status_code == 200
    collector.wait_for(lambda: len(collector.of(last)) == 10)  # what came before has been sent by now
    assert collector.of(trace) == []


def test_the_process_says_who_it_is(collector: Receiver, predictor: Process) -> None:
    before = len(collector.resources)
    assert ask(predictor, prompt="a cat").status_code == 200
    collector.wait_for(lambda: len(collector.resources) > before)
    resource = collector.resources[-1]
    assert (resource["service.name"], resource["deployment.environment.name"]) == (PREDICTOR, "test")
    assert resource["service.version"]


@pytest.mark.parametrize("kind", ["nobody listens", "nobody answers"])
def test_a_collector_that_is_away_harms_nothing(small_predictor: Process, tmp_path: Path, kind: str) -> None:
    """Neither the requests nor the end of the process, which the SDK alone would hold up for 30 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if kind == "nobody listens":
            silent.close()
        with serving(
            "transformer",
            *("--predictor_host", f"127.0.0.1:{small_predictor.grpc_port}"),
            log=tmp_path / "log",
            wait_for="/v2/health/ready",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_TIMEOUT="600",
            **QUICK,
        ) as transformer:
            for _ in range(5):
                assert ask(transformer).status_code == 200
            transformer.process.send_signal(signal.SIGTERM)
            try:
                assert transformer.process.wait(25) == 0
            except subprocess.TimeoutExpired:
                pytest.fail(transformer.log.read_text())
            log = transformer.log.read_text()
            assert "Traceback" not in log
            assert log.count("opentelemetry") + log.count("Failed to export") <= 2
