"""Transformer and predictor together, with a tiny untrained Stable Diffusion of the true architecture."""

import io
import json
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
from PIL import Image

from tests.predictor.serving import write_store
from tests.transformer.serving import serving


def test_a_korean_sentence_becomes_a_picture(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    weights = (
        "--base_dir",
        str(tiny_folders["emoji"]),
        "--lora_dir",
        str(write_store(tmp_path / "loras", tiny_folders["emoji"]).root),
        "--device",
        "cpu",
    )
    with (
        serving("predictor", *weights, log=tmp_path / "predictor", wait_for="/v2/health/ready") as predictor,
        serving(
            "transformer",
            *("--predictor_host", f"127.0.0.1:{predictor.grpc_port}"),
            log=tmp_path / "transformer",
            wait_for="/v2/health/ready",
        ) as transformer,
        httpx.Client(base_url=transformer.url, trust_env=False, timeout=120) as client,
    ):
        prompt = {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["빨간 사과"]}
        request = {
            "inputs": [prompt],
            "parameters": {"seed": 5, "num_inference_steps": 2, "guidance_scale": 3.5},
        }

        def draw(**parameters: object) -> httpx.Response:
            body = request | {"parameters": request["parameters"] | parameters}
            return client.post("/v2/models/emoji/infer", json=body, headers={"accept": "image/png"})

        reply = draw()
        assert reply.status_code == 200, reply.text
        assert (reply.headers["emoji-prompt"], reply.headers["emoji-seed"]) == ("red apple", "5")
        assert reply.headers["emoji-lora"] == "notoemoji@1"
        picture = np.asarray(Image.open(io.BytesIO(reply.content)))
        assert picture.shape == (16, 16, 3)
        assert picture.std() > 0
        assert draw().content == reply.content
        assert draw(seed=6).content != reply.content
        mix = draw(lora="notoemoji:0.7+openmoji:0.3", metadata=True)
        assert unquote(mix.headers["emoji-lora"]) == "notoemoji@1:0.7+openmoji@1:0.3"
        assert "notoemoji@1:0.7+openmoji@1:0.3" in Image.open(io.BytesIO(mix.content)).info.values()
        near = draw(approximation="block-cache:2", num_inference_steps=6, metadata=True)
        label = {"name": "block-cache:2", "quality": "not measured"}
        assert json.loads(unquote(near.headers["emoji-approximation"])) == label
        assert Image.open(io.BytesIO(near.content)).info["approximation"] == "block-cache:2"
        assert near.content != draw(num_inference_steps=6, metadata=True).content
        assert "emoji-approximation" not in draw(approximation="none").headers
        wrong = draw(approximation="tiny-vae")
        assert wrong.status_code == 400
        assert wrong.json()["error"] == "approximation: must be one of none, block-cache:2, block-cache:3"
        assert Image.open(io.BytesIO(draw(size=100, background="transparent").content)).size == (100, 100)

        refused = draw(num_inference_steps=1000)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("num_inference_steps: must be from 1 to ")
        old = client.post(
            "/kor_submit", json={"model": "emoji", "prompt": "빨간 사과", "num_inference_steps": 2}
        )
        assert old.json().keys() == {"images", "removes"}
