"""A real predictor process on free ports, and a model folder of the true layout for it."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
from diffusers import UNet2DConditionModel
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.tiny_models import make_lora
from weights.manifest import Manifest, Target
from weights.store import Store

ROOT = Path(__file__).parents[2]


def write_store(root: Path, base: Path) -> Store:
    """notoemoji@1, notoemoji@2, openmoji@1, and notoemoji@stable for notoemoji@1."""
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    store = Store(root)
    for seed, name in enumerate(("notoemoji", "notoemoji", "openmoji"), start=1):
        tensors = make_lora(unet, seed=seed)
        targets = {}
        for key, a in tensors.items():
            if match := re.fullmatch(r"unet\.(.+)\.lora_A\.weight", key):
                b = tensors[key.replace("lora_A", "lora_B")]
                targets[match[1]] = Target(a.shape[0], float(a.shape[0]), (b.shape[0], a.shape[1]))
        manifest = Manifest(name, 1, "0" * 64, "2026-01-02T03:04:05Z", "b" * 64, targets, source="random")
        store.add(tensors, manifest)
    store.set_alias("stable", store.resolve("notoemoji@1"))
    return store


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Predictor:
    """`python -m predictor` with its clients; `log` is what it wrote to stderr."""

    def __init__(self, log: Path, *flags: str) -> None:
        self.http_port, self.grpc_port = free_port(), free_port()
        self.log_file = log
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.target = f"127.0.0.1:{self.grpc_port}"
        command = [sys.executable, "-m", "predictor", *flags]
        command += ["--http_port", str(self.http_port), "--grpc_port", str(self.grpc_port), "--threads", "1"]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        self.http = httpx.Client(base_url=self.url, timeout=120)
        self.channel = grpc.insecure_channel(self.target)
        self.grpc = GRPCInferenceServiceStub(self.channel)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        while self.process.poll() is None:
            try:
                if self.http.get("/v2/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.log)

    def gauge(self, name: str) -> float:
        match = re.search(rf"^{name} (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        assert match, name
        return float(match[1])

    def wait_for_rows(self, active: int, queued: int) -> None:
        """Until so many rows are being drawn and so many wait."""
        self.wait_until(
            lambda: (self.gauge("emoji_active_rows"), self.gauge("emoji_queue_rows")) == (active, queued)
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(self.log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        self.http.close()
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(log: Path, *flags: str) -> Iterator[Predictor]:
    """A predictor that is ready."""
    predictor = Predictor(log, *flags)
    try:
        predictor.wait_until_ready()
        yield predictor
    finally:
        predictor.close()
