"""The server's ports."""

import socket

import pytest
from kserve import ModelRepository

from predictor.edge import PortInUse, Server, ServerSettings
from tests.predictor.edge.failing import API, Steady


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_port_in_use_is_named(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        ports = {"http_port": free, "grpc_port": free, f"{kind}_port": port}
        server = Server(ModelRepository(), Steady(), ServerSettings(**ports), API)
        with pytest.raises(PortInUse, match=rf"cannot listen on 127\.0\.0\.1:{port} .*--{kind}_port"):
            server.start()


def test_replies_do_not_wait_for_acknowledgements() -> None:
    """Head and body are written apart; Nagle's algorithm would hold the body back for 40 ms."""
    server = Server(ModelRepository(), Steady(), ServerSettings(http_port=0), API)
    with server._bind() as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
