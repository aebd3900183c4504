"""Draws one Korean sentence and checks that a PNG of it comes back: what `helm test` runs in the cluster.

    python draw.py http://emoji-transformer.emoji.svc.cluster.local

Waits for pods that are still starting. Needs Python's own library only.
"""

import base64
import json
import struct
import sys
import time
import urllib.error
import urllib.request

PATIENCE_S = 300
SENTENCE = "빨간 사과"


def draw(url: str) -> dict[str, str]:
    """The reply's tensors, the first value of each."""
    prompt = {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": [SENTENCE]}
    request = urllib.request.Request(
        f"{url}/v2/models/emoji/infer",
        json.dumps({"inputs": [prompt]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return {output["name"]: output["data"][0] for output in json.load(reply)["outputs"]}


def draw_patiently(url: str) -> dict[str, str]:
    """As `draw`; a server that is not there yet is asked again."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return draw(url)
        except urllib.error.HTTPError as error:
            if error.code not in (404, 502, 503, 504) or time.monotonic() > end:
                sys.exit(f"{url}: {error.code} {error.read(1000).decode(errors='replace')}")
        except OSError as error:
            if time.monotonic() > end:
                sys.exit(f"{url}: {error}")
        time.sleep(2)


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height from a PNG's header; ends the program where it is no whole PNG."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n") or png[12:16] != b"IHDR" or png[-8:-4] != b"IEND":
        sys.exit(f"no PNG but {png[:16]!r}")
    return struct.unpack(">II", png[16:24])


def main() -> None:
    """Draw, check, and say what came."""
    reply = draw_patiently(sys.argv[1])
    width, height = size_of(base64.b64decode(reply["image"], validate=True))
    if reply["language"] != "ko" or not reply["prompt"].isascii():
        sys.exit(f"not translated: {reply['language']} {reply['prompt']!r}")
    print(f"{SENTENCE} -> {reply['prompt']!r}: a PNG of {width} x {height}, drawn by {reply['lora']}")


if __name__ == "__main__":
    main()
