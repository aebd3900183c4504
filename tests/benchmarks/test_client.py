"""The client, against a real HTTP server in another thread."""

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from benchmarks.client import ERRORS, Client
from tests.benchmarks.http_server import Handler, serving


class Echo(Handler):
    """Answers with what it was sent; on a certain path, by hanging up."""

    def get(self) -> None:
        self.server.connections.add(self.client_address)
        self.answer(404 if self.path == "/nothing" else 200)

    def post(self, content: object) -> None:
        if self.path == "/hang-up":
            self.close_connection = True
            return
        self.server.connections.add(self.client_address)
        self.answer(200, content)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with serving(Echo, connections=set()) as server:
        yield server


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
