"""Judges a running service end to end: sentences in, pictures out, does each show one of the right emoji?

Speaks the Open Inference Protocol v2 over REST; knows nothing of how the service translates or draws.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from weights.eval.judge import Judge
from weights.glyphs.dataset import LOOKS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sentence in one look; `shown` is the emoji that the judge sees."""

    text: str
    english: str
    look: str
    shown: str
    right: bool


def draw(client: httpx.Client, look: str, text: str, seed: int) -> tuple[str, Image.Image]:
    """One sentence through the service: the English it used and the picture.

    A sentence that the service refuses (400) gives its reason and a white picture. Raises httpx.HTTPError.
    """
    inputs = [
        {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": [text]},
        {"name": "seed", "datatype": "INT64", "shape": [1], "data": [seed]},
    ]
    reply = client.post(f"/v2/models/{look}/infer", json={"inputs": inputs})
    if reply.status_code == httpx.codes.BAD_REQUEST:
        return reply.json()["error"], Image.new("RGB", (128, 128), "white")
    reply.raise_for_status()
    outputs = {output["name"]: output["data"][0] for output in reply.json()["outputs"]}
    return outputs["prompt"], Image.open(io.BytesIO(base64.b64decode(outputs["image"]))).convert("RGB")


def judge_service(url: str, sentences: Path, concurrency: int = 4) -> list[Outcome]:
    """Every sentence of a JSONL file (`text`, `emoji`: the characters that count as right), looks in turn."""
    rows = [json.loads(line) for line in sentences.read_text(encoding="utf-8").splitlines()]
    looks = [LOOKS[number % len(LOOKS)] for number in range(len(rows))]
    judge = Judge()
    with httpx.Client(base_url=url, timeout=120) as client, ThreadPoolExecutor(concurrency) as pool:
        drawn = list(
            pool.map(
                lambda job: draw(client, job[1], job[0]["text"], job[2]),
                zip(rows, looks, range(len(rows)), strict=True),
            )
        )
    verdicts = judge.judge(np.stack([np.asarray(picture.resize((128, 128))) for _, picture in drawn]))
    return [
        Outcome(row["text"], english, look, verdict.char, verdict.char in row["emoji"])
        for row, look, (english, _), verdict in zip(rows, looks, drawn, verdicts, strict=True)
    ]


def report(outcomes: Sequence[Outcome]) -> str:
    """The share that is right, and every failure, as Markdown."""
    right = sum(outcome.right for outcome in outcomes)
    lines = [f"Pictures judged right: {right} of {len(outcomes)}, {right / len(outcomes):.1%}", ""]
    lines += ["| sentence | English | look | shows |", "|---|---|---|---|"]
    lines += [f"| {o.text} | {o.english} | {o.look} | {o.shown} |" for o in outcomes if not o.right]
    return "\n".join(lines) + "\n"
