"""The client, against a real HTTP server in another thread."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.client import ERRORS, Client


class Handler(BaseHTTPRequestHandler):
    """Answers with what it was sent; on a certain path, by hanging up."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(404 if self.path == "/nothing" else 200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/hang-up":
            self.close_connection = True
            return
        self.answer(200, body)

    def answer(self, status: int, body: bytes) -> None:
        self.server.connections.add(self.client_address)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.connections = set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_all_requests_of_a_client_go_over_one_connection(server: ThreadingHTTPServer) -> None:
    with Client(f"http://127.0.0.1:{server.server_port}", timeout=60) as client:
        assert [client.get("/something"), client.get("/nothing")] == [200, 404]
        status, body = client.post("/echo", {"prompt": "빨간 사과"})
    assert (status, json.loads(body)) == (200, {"prompt": "빨간 사과"})
    assert len(server.connections) == 1


def test_after_a_failure_the_next_request_connects_again(server: ThreadingHTTPServer) -> None:
    with Client(f"http://127.0.0.1:{server.server_port}", timeout=60) as client:
        with pytest.raises(ERRORS):
            client.post("/hang-up", {})
        assert client.get("/something") == 200
