"""What is in the built images, and the service that they make together."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from PIL import Image as Picture

from tests.images.container import ROOT, USER, Image, Volumes
from tests.quickstart_process import free_ports
from weights.store import Store

pytestmark = pytest.mark.images
SERVERS = ("predictor", "transformer")


class Server(NamedTuple):
    """The container of a predictor or transformer under way."""

    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    log: Path


@contextmanager
def serving(image: Image, log: Path, *arguments: str, volumes: Volumes | None = None) -> Iterator[Server]:
    """A server of this image; it is ready."""
    http_port, grpc_port = free_ports(2)
    ports = (f"--http_port={http_port}", f"--grpc_port={grpc_port}")
    with (
        log.open("w") as output,
        image.started([*ports, *arguments], volumes or {}, output=output.fileno()) as process,
    ):
        deadline = time.monotonic() + 600
        while not ready(http_port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        yield Server(process, http_port, grpc_port, log)


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/models/emoji/ready", timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def predictor(
    images: dict[str, Image], models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("predictor") / "log.txt"
    # one thread: on a busy machine several only wait for each other, for long
    with serving(images["predictor"], log, "--threads=1", volumes={"/mnt/models": (models, "ro")}) as server:
        yield server


@pytest.fixture(scope="module")
def transformer(
    images: dict[str, Image], predictor: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    upstream = (f"--predictor_host=127.0.0.1:{predictor.grpc_port}", "--predictor_protocol=grpc-v2")
    log = tmp_path_factory.mktemp("transformer") / "log.txt"
    with serving(images["transformer"], log, *upstream) as server:
        yield server


def draw(server: Server, prompt: str) -> InferResponse:
    """The reply to one prompt over gRPC, with the same seed each time."""

    async def ask() -> InferResponse:
        tensor = InferInput("prompt", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([prompt.encode()], dtype=object))
        async with InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}", timeout=300) as client:
            return await client.infer(InferRequest("openmoji", [tensor], parameters={"seed": 7}))

    return asyncio.run(ask())


def value(reply: InferResponse, name: str) -> np.ndarray:
    output = reply.get_output_by_name(name)
    assert output is not None
    return output.as_numpy()


def test_the_two_servers_draw_a_korean_sentence_over_grpc(transformer: Server, predictor: Server) -> None:
    reply = draw(transformer, "빨간 사과")
    assert value(reply, "prompt").tolist() == [b"red apple"]
    assert value(reply, "lora").tolist() == [b"openmoji@1"]
    picture = np.asarray(Picture.open(BytesIO(value(reply, "image")[0])).convert("RGB"))
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 10  # not one colour
    # the predictor alone gives the same pixels
    pixels = value(draw(predictor, "red apple"), "image")
    assert (pixels[0] == picture).all()


def test_the_store_of_the_filled_volume_is_whole(models: Path) -> None:
    store = Store(models / "loras")
    assert sorted(map(str, store.versions())) == ["notoemoji@1", "openmoji@1"]
    for version in store.versions():
        store.load(version)


def test_filling_the_volume_again_changes_nothing(images: dict[str, Image], models: Path) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in models.rglob("*") if path.is_file()}

    before = files()
    again = images["weights"].run("/mnt/models", volumes={"/mnt/models": (models, "rw")})
    assert again.returncode == 0, again.stderr
    assert "copied" not in again.stdout
    assert files() == before


def test_the_predictor_says_why_it_cannot_start(images: dict[str, Image], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = images["predictor"].run("--enable_grpc=false", volumes={"/mnt/models": (tmp_path, "ro")})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("predictor: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "importable"),
    [
        (
            "predictor",
            "diffusers kserve predictor.contract predictor.engine.engine torch transformers"
            " weights.store".split(),
        ),
        ("transformer", "kiwipiepy kserve predictor.contract transformer".split()),
    ],
)
def test_it_runs_without_rights_compiled_and_with_nothing_it_does_not_need(
    images: dict[str, Image], name: str, importable: list[str]
) -> None:
    probe = (ROOT / "tests/images/probe.py").read_text(encoding="utf-8")
    done = images[name].run("-c", probe, entrypoint=["python3"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "ids": [int(USER), int(USER)],
        "writable": ["/tmp"],
        "importable": importable,
        "uncompiled": [],
    }


@pytest.mark.parametrize("name", [*SERVERS, "weights"])
def test_its_configuration_fits_a_restricted_pod(images: dict[str, Image], name: str) -> None:
    config = images[name].config()
    assert config["User"] == f"{USER}:{USER}"
    labels = {key.removeprefix("org.opencontainers.image."): text for key, text in config["Labels"].items()}
    assert labels["title"] == f"emoji-{name}"
    assert labels["licenses"].startswith("Apache-2.0")
    assert labels["version"] == images[name].name.rpartition(":")[2]
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    assert bool(re.fullmatch("[0-9a-f]{40}", labels.get("revision", ""))) == (git.returncode == 0)


@pytest.mark.parametrize("name", SERVERS)
def test_its_bill_of_materials_is_what_is_locked(images: dict[str, Image], name: str) -> None:
    bill = json.loads(images[name].run(f"/usr/share/sbom/emoji-{name}.cdx.json", entrypoint=["cat"]).stdout)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == f"emoji-{name}"
    purls = [component["purl"] for component in bill["components"]]
    packages = {tuple(purl.removeprefix("pkg:pypi/").split("@")) for purl in purls if "pkg:pypi/" in purl}
    lock = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8")
    locked = {tuple(pin) for pin in re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE)}
    assert {"kserve", "numpy", "pillow"} <= {package for package, _ in packages & locked}
    of_the_base = {"pip", "setuptools", "wheel"}
    of_torch = {
        package for package, _ in packages if package.startswith(("torch", "triton", "nvidia", "cuda"))
    }
    assert {package for package, _ in packages - locked} <= of_the_base | of_torch
    assert ("torch" in of_torch) == (name == "predictor")
    assert any(purl.startswith("pkg:deb/") for purl in purls)


def test_the_bill_of_materials_of_the_weights_names_their_licences(images: dict[str, Image]) -> None:
    printed = images["weights"].run("/usr/share/sbom/emoji-weights.cdx.json", entrypoint=["cat"]).stdout
    models = {
        component["name"]: component["licenses"][0]["license"]["id"]
        for component in json.loads(printed)["components"]
        if component["type"] == "machine-learning-model"
    }
    assert models == {"notoemoji": "OFL-1.1", "openmoji": "CC-BY-SA-4.0"}


def test_sigterm_stops_the_servers_gracefully(transformer: Server, predictor: Server) -> None:
    # the last test of this file: both servers are gone after it
    for server in (transformer, predictor):
        server.process.terminate()
        assert server.process.wait(120) == 0, server.log.read_text()
