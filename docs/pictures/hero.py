"""Draws the picture at the top of the README through a running service: `make run`, then `make pictures`."""

import argparse
import base64
import io
from pathlib import Path

import httpx
from PIL import Image

PROMPTS = (
    "a red apple",
    "하트 눈을 한 고양이",
    "a rocket",
    "우는 여우",
    "a blue car",
    "비 오는 날",
    "a slice of pizza",
    "왕관을 쓴 개구리",
)
LOOKS = ("notoemoji", "openmoji")
SEED = 7
GAP = 8


def draw_row(url: str, look: str) -> list[Image.Image]:
    """One picture a prompt, at the model's own size. Raises httpx.HTTPError."""
    count = len(PROMPTS)
    request = {
        "inputs": [
            {"name": "prompt", "datatype": "BYTES", "shape": [count], "data": PROMPTS},
            {"name": "seed", "datatype": "INT64", "shape": [count], "data": [SEED] * count},
        ]
    }
    reply = httpx.post(f"{url}/v2/models/{look}/infer", json=request, timeout=600).raise_for_status()
    files = next(output["data"] for output in reply.json()["outputs"] if output["name"] == "image")
    return [Image.open(io.BytesIO(base64.b64decode(file))).convert("RGB") for file in files]


def main() -> None:
    """A row a look, a column a prompt, on white."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="REST of the transformer (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    rows = [draw_row(arguments.url, look) for look in LOOKS]
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (len(PROMPTS) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * (width + GAP), y * (height + GAP)))
    sheet.save(arguments.out, optimize=True)
    print(arguments.out)


if __name__ == "__main__":
    main()
