"""Every code block of the README is run as it stands, against the service that `make run` starts."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from PIL import Image

import predictor.settings
from tests.quickstart_process import PORTS, Quickstart
from tests.tiny_models import write_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)\n```", re.DOTALL
)


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"line {self.line}: {self.language}"


BLOCKS = [
    Block(
        README.count("\n", 0, match.start("language")) + 1, match["language"], match["code"], match["reason"]
    )
    for match in BLOCK.finditer(README)
]
RUN = [block for block in BLOCKS if block.language in ("bash", "python") and block.reason is None]
REPLIES = [(asked, reply) for asked, reply in pairwise(BLOCKS) if reply.language == "json"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstart]:
    """`make run` on free ports, with the embedded model."""
    with Quickstart(ROOT / "weights" / "embedded", tmp_path_factory.mktemp("service")) as quickstart:
        quickstart.wait_for("Serving; Ctrl-C stops.")
        yield quickstart


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: the virtual environment, a Stable Diffusion folder, a checkpoint of a LoRA."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    write_folder(folder / "path" / "to" / "stable-diffusion", "sd15")
    write_checkpoint(folder / "path" / "to" / "stable-diffusion", folder / "path" / "to" / "checkpoint")
    return folder


def write_checkpoint(base: Path, folder: Path) -> None:
    """A LoRA on the base's UNet as the replaced system left it: accelerate's state and the LoRA, pickled."""
    import torch
    from accelerate import Accelerator
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW([p for p in unet.parameters() if p.requires_grad], lr=1e-3)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    accelerator.save_state(str(folder), safe_serialization=False)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(accelerator.unwrap_model(unet)))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state, safe_serialization=False)


def run_block(block: Block, service: Quickstart, folder: Path) -> str:
    code = block.code
    for port in PORTS:
        code = code.replace(f"127.0.0.1:{port.default}", f"127.0.0.1:{service.ports[port.variable]}")
    if block.language == "bash":
        # -e and a failing curl: one refused request fails the block.
        command = [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            f'curl() {{ command curl --fail-with-body "$@"; echo; }}\n{code}',
        ]
    else:
        command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_runs_and_leaves_real_pictures(block: Block, service: Quickstart, folder: Path) -> None:
    run_block(block, service, folder)
    for name in re.findall(r"\b([\w-]+\.(?:png|webp))\b", block.code):
        with Image.open(folder / name) as picture:
            picture.load()
            assert picture.format == Path(name).suffix[1:].upper()
            assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 16


@pytest.mark.parametrize(("block", "reply"), REPLIES, ids=str)
def test_a_reply_is_as_shown(block: Block, reply: Block, service: Quickstart, folder: Path) -> None:
    lines = [line for line in run_block(block, service, folder).splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert_like(json.loads(reply.code), json.loads(line), "reply")


def assert_like(shown: object, real: object, where: str) -> None:
    """The same keys, lengths and types; texts equal, up to an ellipsis; a lone list item stands for all."""
    assert type(shown) is type(real), where
    if isinstance(shown, dict) and isinstance(real, dict):
        assert shown.keys() == real.keys(), where
        for key in shown:
            assert_like(shown[key], real[key], f"{where}.{key}")
    elif isinstance(shown, list) and isinstance(real, list):
        assert len(real) == len(shown) or len(shown) == 1, where
        for number, item in enumerate(real):
            assert_like(shown[min(number, len(shown) - 1)], item, f"{where}[{number}]")
    elif isinstance(shown, str) and isinstance(real, str):
        if shown.endswith("…"):
            assert real.startswith(shown[:-1]), where
        else:
            assert real == shown, where


def test_blocks_are_found_and_what_is_not_run_is_counted() -> None:
    assert README.count("\n```") == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} == {"bash", "python", "json", "text"}
    not_run = [block.code for block in BLOCKS if block.reason is not None]
    *local, cluster = not_run
    assert local == ["make run", "make test", "make run MODEL_DIR=my-model DEVICE=cuda"]
    assert "kubectl apply -k" in cluster, "tests/cluster runs the same"
    assert README.count("<!--") == len(not_run) + 2, (
        "beside them only where the benchmarks' results begin and end"
    )
    assert len(RUN) + len(not_run) + len(REPLIES) + 1 == len(BLOCKS)  # 1: the tree


def test_the_make_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", README, re.MULTILINE))
    assert {"run", "test"} <= named <= targets


def test_the_tree_is_the_repository() -> None:
    tree = next(block.code for block in BLOCKS if block.language == "text")
    shown = set(re.findall(r"^[├└]── ([\w.]+)/?", tree, re.MULTILINE))
    assert all((ROOT / name).exists() for name in shown)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= shown


def test_the_limits_are_the_defaults() -> None:
    settings = predictor.settings.read_settings([])
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| `--(\w+)` \|$", README, re.MULTILINE)
    assert len(rows) >= 7
    for value, flag in rows:
        owner = settings if hasattr(settings, flag) else settings.server
        assert getattr(owner, flag) == int(value), flag


def test_nothing_is_left_to_fill_in() -> None:
    assert "{{" not in README
    assert all(
        (ROOT / path).exists() for path in re.findall(r"\]\(((?:docs|LICENSE|NOTICE)[^)#]*)\)", README)
    )


def test_the_first_pictures_are_there(service: Quickstart) -> None:
    names = {
        f"{language}-{look}.png" for language in ("english", "korean") for look in ("notoemoji", "openmoji")
    }
    assert {path.name for path in service.out.glob("*.png")} == names
    for name in names:
        assert str(service.out / name) in service.printed()
        with Image.open(service.out / name) as picture:
            assert picture.size == (128, 128)


def test_the_printed_curl_works(service: Quickstart) -> None:
    command = re.search(r"^  curl.*?-o \S+$", service.printed(), re.DOTALL | re.MULTILINE)
    assert command is not None
    subprocess.run(["bash", "-ec", command[0].replace("curl ", "curl --fail-with-body ", 1)], check=True)
    with Image.open(shlex.split(command[0])[-1]) as picture:
        assert picture.format == "PNG"


def test_swagger_describes_what_the_readme_names(service: Quickstart) -> None:
    url = f"http://127.0.0.1:{service.ports['HTTP_PORT']}"
    assert httpx.get(f"{url}/docs").status_code == httpx.codes.OK
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    assert {
        "/v2/models/{model_name}/infer",
        "/v1/models/{model_name}:predict",
        "/eng_submit",
        "/kor_submit",
    } <= set(paths)
