"""Starting and stopping, and what can't be started."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.server import UnusableDevice, build_server
from predictor.settings import read_settings
from tests.predictor.server.asking import body, drawn, message
from tests.predictor.serving import ROOT, running


def test_a_plain_base_is_served_under_one_name_and_stops_on_ctrl_c(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    with running(tmp_path / "log", "--model_dir", str(tiny_folders["sd15"]), "--log_prompts") as server:
        assert server.http.get("/v2/models").json() == {"models": ["emoji"]}
        assert server.http.get("/v2/models/emoji").json()["versions"] == []
        reply = server.http.post("/v2/models/emoji/infer", json=body("a cat"))
        assert drawn(reply)["lora"] == ["none"]
        assert reply.json()["model_version"] == ""
        assert server.http.get("/v2/models/emoji/versions/1").status_code == 404
        assert server.stop(signal.SIGINT) == 0
        assert "Traceback" not in server.log
        assert "prompts=['a cat']" in server.log


def test_with_fixed_buckets_a_picture_is_the_same_in_every_byte_whoever_is_drawn_beside_it(
    model_dir: Path, tmp_path: Path
) -> None:
    flags = ["--determinism", "fixed-bucket", "--max_batch_size", "4"]
    with running(tmp_path / "log", "--model_dir", str(model_dir), *flags) as server:

        def draw(number: int) -> bytes:
            names = ("notoemoji", "openmoji", "notoemoji:0.5+openmoji:0.5", "none")
            asked = body(
                "a", seed=number, steps=2 + number % 5, lora=names[number % 4], guidance_scale=number % 3
            )
            reply = httpx.post(f"{server.url}/v2/models/emoji/infer", json=asked, timeout=120)
            image: bytes = drawn(reply)["image"].tobytes()
            return image

        alone = list(map(draw, range(8)))
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(draw, range(8))) == alone
        assert 0 < server.gauge("emoji_padding_ratio") < 1


def test_a_stopping_server_is_not_ready_and_finishes_what_it_began(model_dir: Path, tmp_path: Path) -> None:
    flags = ["--drain_delay", "10", "--grace_period", "120", "--hang_timeout", "0.0001"]
    with running(tmp_path / "log", "--model_dir", str(model_dir), *flags) as server:
        assert server.http.get("/v2/health/live").status_code == 200
        replies: list[Any] = []

        def ask() -> None:
            replies.append(
                httpx.post(f"{server.url}/v2/models/emoji/infer", json=body("a", steps=100), timeout=120)
            )

        def call() -> None:
            replies.append(server.grpc.ModelInfer(message("a", steps=100)))

        askers = [threading.Thread(target=ask), threading.Thread(target=call)]
        for asker in askers:
            asker.start()
        server.wait_for_rows(2, 0)
        # one step takes longer than this server's hang timeout allows
        server.wait_until(lambda: server.http.get("/v2/health/live").status_code == 503)
        assert not server.grpc.ServerLive(pb.ServerLiveRequest()).live

        server.process.send_signal(signal.SIGTERM)
        server.wait_until(lambda: server.http.get("/v2/health/ready").status_code == 503)
        reply = server.http.get("/v2/health/ready")
        assert (reply.status_code, reply.json()) == (503, {"error": "the server is not ready"})
        assert server.http.get("/v2/models/emoji/ready").status_code == 503
        assert not server.grpc.ServerReady(pb.ServerReadyRequest()).ready
        # balancers need a moment to notice; what they still send is served, and its connection given up
        late = server.http.post("/v2/models/emoji/infer", json=body("a", steps=1))
        assert (late.status_code, late.headers["connection"]) == (200, "close")
        server.grpc.ModelInfer(message("a", steps=1))

        assert server.process.wait(120) == 0
        for asker in askers:
            asker.join()
        assert {getattr(reply, "status_code", 200) for reply in replies} == {200}
        assert len(replies) == 2
        assert "Traceback" not in server.log


def refusal(*flags: str, **environment: str) -> str:
    command = [sys.executable, "-m", "predictor", *flags]
    env = os.environ | environment
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("predictor: ")
    return line


def test_what_cannot_be_served_is_refused_with_the_reason(model_dir: Path, tmp_path: Path) -> None:
    assert "model_index.json" in refusal("--model_dir", str(tmp_path))
    missing = refusal("--model_dir", str(model_dir), DEFAULT_LOOK="openmoji@2")
    assert "default look 'openmoji@2': the store has notoemoji, openmoji, " in missing
    shutil.copytree(model_dir, tmp_path / "models")
    adapter = tmp_path / "models" / "loras" / "openmoji" / "1" / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    damaged = refusal("--model_dir", str(tmp_path / "models"), DEFAULT_LOOK="openmoji@1")
    assert f"{adapter}: SHA-256 is " in damaged


def test_a_device_that_is_not_there_is_named(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnusableDevice, match="no CUDA device"):
        build_server(read_settings(["--model_dir", str(model_dir), "--device", "cuda"], {}))


def test_damaged_loras_that_are_not_the_default_look_are_left_out(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "models")
    adapter = tmp_path / "models" / "loras" / "openmoji" / "1" / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    manifest = tmp_path / "models" / "loras" / "notoemoji" / "2" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with running(tmp_path / "log", "--model_dir", str(tmp_path / "models")) as server:
        assert f"openmoji@1 is not served: {adapter}: SHA-256 is " in server.log
        assert f"notoemoji@2 is not served: {manifest}: is not JSON" in server.log
        assert server.http.get("/v2/models/notoemoji/ready").status_code == 200
        assert server.http.get("/v2/models/openmoji@1/ready").status_code == 404
        assert server.http.get("/v2/models/notoemoji@2/ready").status_code == 404
