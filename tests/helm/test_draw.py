"""The script of `helm test`, against a small server on this machine."""

import base64
import json
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.manifests.render import CHART

Reply = tuple[int, Any]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(bytes(2 * (1 + 9))))
    + _chunk(b"IEND", b"")
)


def _outputs(image: bytes = PNG, prompt: str = "red apple", language: str = "ko") -> Reply:
    values = {
        "image": base64.b64encode(image).decode(),
        "prompt": prompt,
        "language": language,
        "lora": "notoemoji@1",
    }
    return 200, {"outputs": [{"name": name, "data": [value]} for name, value in values.items()]}


@contextmanager
def _server(*replies: Reply) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives these replies in turn, and the requests that it got."""
    waiting, seen = list(replies), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = waiting.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


def _draw(url: str) -> subprocess.CompletedProcess[str]:
    script = CHART / "files" / "draw.py"
    return subprocess.run([sys.executable, script, url], capture_output=True, text=True, check=False)


def test_a_png_is_good() -> None:
    with _server(_outputs()) as (url, seen):
        done = _draw(url)
    assert done.returncode == 0, done.stderr
    assert "'red apple': a PNG of 3 x 2, drawn by notoemoji@1" in done.stdout
    assert seen == [
        {"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["빨간 사과"]}]}
    ]


def test_a_server_that_is_starting_is_asked_again() -> None:
    with _server((503, {"error": "starting"}), _outputs()) as (url, seen):
        assert _draw(url).returncode == 0
    assert len(seen) == 2


def test_what_is_no_whole_png_is_a_failure() -> None:
    for image in (b"GIF89a" + PNG, PNG[:-9]):
        with _server(_outputs(image)) as (url, _):
            done = _draw(url)
        assert done.returncode == 1
        assert "no PNG" in done.stderr


def test_a_sentence_that_was_not_translated_is_a_failure() -> None:
    for reply in (_outputs(language="en"), _outputs(prompt="빨간 사과")):
        with _server(reply) as (url, _):
            done = _draw(url)
        assert done.returncode == 1
        assert "not translated" in done.stderr


def test_a_refusal_is_a_failure_that_says_why() -> None:
    with _server((400, {"error": "prompt: too long"})) as (url, _):
        done = _draw(url)
    assert done.returncode == 1
    assert "prompt: too long" in done.stderr
