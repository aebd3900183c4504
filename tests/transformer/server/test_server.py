"""Starting and stopping, and what can't be started."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from prometheus_client import CollectorRegistry

from predictor.edge import PortInUse, ServerSettings
from tests.transformer.server.asking import body, get, message, over_http, post
from tests.transformer.serving import ROOT, Process, calls, free_port, serving, wait_until
from transformer.server import build_server
from transformer.settings import Settings


def test_without_a_predictor_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    host = f"127.0.0.1:{free_port()}"
    flags = ("--predictor_host", host, "--predictor_connect_timeout_seconds", "0.2")
    with serving("transformer", *flags, log=tmp_path / "log") as server:
        assert get(server, "/v2/health/live").json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/emoji/ready"):
            assert get(server, path).status_code == 503
        for path, request in (
            ("/v2/models/emoji/infer", body("a cat")),
            ("/v2/models/notoemoji/infer", body("a cat")),
            ("/kor_submit", {"prompt": "a cat"}),
        ):
            reply = post(server, path, request)
            assert (reply.status_code, reply.json()["error"][:31]) == (503, "the predictor cannot be reached")
            assert "127.0.0.1" not in reply.text
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) == 0
        assert "Traceback" not in server.log.read_text()


def test_sigterm_lets_requests_finish_and_ends_with_zero(small_predictor: Process, tmp_path: Path) -> None:
    prompt = "sleep 1.5"
    flags = ("--predictor_host", f"127.0.0.1:{small_predictor.grpc_port}")
    with serving("transformer", *flags, log=tmp_path / "log", wait_for="/v2/health/ready") as server:
        with socket.create_connection(("127.0.0.1", server.http_port)) as client:
            client.sendall(over_http(prompt))
            wait_until(lambda: len(calls(small_predictor, prompt)) == 1)
            server.process.send_signal(signal.SIGTERM)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert server.process.wait(15) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_stopping_server_is_not_ready_and_serves_what_still_arrives(
    small_predictor: Process, tmp_path: Path
) -> None:
    flags = ("--predictor_host", f"127.0.0.1:{small_predictor.grpc_port}", "--drain_delay", "8")
    ask = "/v2/models/emoji/infer"
    with (
        serving("transformer", *flags, log=tmp_path / "log", wait_for="/v2/health/ready") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        stub = GRPCInferenceServiceStub(channel)
        longer = pool.submit(post, server, ask, body("sleep 5.1"))
        longer_call = stub.ModelInfer.future(message("sleep 5.2"), timeout=60)
        for prompt in ("sleep 5.1", "sleep 5.2"):
            wait_until(lambda: len(calls(small_predictor, prompt)) == 1)  # noqa: B023
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/v2/health/ready").status_code == 503)
        late = post(server, ask, body("a cat"))
        assert (late.status_code, late.headers["connection"]) == (200, "close")
        assert stub.ModelInfer(message("a cat"), timeout=30).model_name == "emoji"
        assert longer.result().status_code == 200
        assert longer_call.result().model_name == "emoji"
        assert server.process.wait(60) == 0


def test_a_translator_that_is_not_there_ends_the_start_with_the_reason() -> None:
    flags = ["--predictor_host", "x", "--translator", "seq2seq", "--translator_dir", "/nowhere"]
    command = [sys.executable, "-m", "transformer", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("transformer: ")
    assert "/nowhere" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_certificates_that_are_not_there_end_the_start_with_the_reason() -> None:
    flags = ["--predictor_host", "x", "--predictor_use_ssl", "true"]
    flags += ["--http_port", str(free_port()), "--grpc_port", str(free_port())]
    command = [sys.executable, "-m", "transformer", *flags]
    environment = os.environ | {"REQUESTS_CA_BUNDLE": "/nowhere.pem"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("transformer: ")
    assert "/nowhere.pem" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_port_in_use_is_named(kind: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        ports = {"http_port": free_port(), "grpc_port": free_port()}
        ports[f"{kind}_port"] = taken.getsockname()[1]
        server = build_server(Settings("nowhere", ServerSettings(**ports)), CollectorRegistry())
        with pytest.raises(PortInUse, match=f"choose another with --{kind}_port"):
            server.start()


def test_the_server_needs_no_torch() -> None:
    code = "import sys, transformer.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0
