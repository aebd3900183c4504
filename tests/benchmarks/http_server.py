"""A real HTTP server in another thread, for a client under test; a `Handler` says what it answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Its subclasses have `get` and `post`; each connection has a thread of its own."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.get()

    def do_POST(self) -> None:
        self.post(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def get(self) -> None:
        self.answer(404)

    def post(self, content: Any) -> None:
        """`content` is the request's JSON."""
        self.answer(404)

    def answer(self, status: int, content: object = None) -> None:
        """A reply with JSON, or with nothing."""
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(handler: type[Handler], **state: object) -> Iterator[ThreadingHTTPServer]:
    """A server on a free port; `state` becomes its attributes, for handler and test."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        vars(server).update(state)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
