"""What the edge does with a model that misbehaves, and with requests that are cut off."""

import asyncio
import contextlib
import itertools
import json
import logging
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from kserve import InferResponse, Model, ModelRepository
from kserve.errors import InvalidInput as SdkInvalidInput
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.edge import Api, PortInUse, Server, ServerSettings, ServingDataPlane, time_left
from predictor.edge.gate import Gate, request_id
from predictor.edge.grpc import grpc_server
from predictor.edge.logs import JsonFormatter, TextFormatter
from predictor.edge.rest import rest_app
from predictor.errors import DeadlineExceeded, QueueFull

SECRET = "/mnt/models/secret.safetensors"


class Failing(Model):
    """Raises in place of drawing."""

    platform = "none"
    versions: tuple[str, ...] = ()

    def __init__(self, error: BaseException) -> None:
        super().__init__("emoji")
        self.error = error

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        raise self.error

    def validate(self, payload: Any) -> Any:
        return payload


class Steady:
    """A backend that is well."""

    alive = healthy = True

    async def start(self) -> None: ...

    async def stop(self, drain_s: float) -> None: ...


def dataplane(error: BaseException) -> ServingDataPlane:
    models = ModelRepository()
    models.update(Failing(error))
    plane = ServingDataPlane(models, Steady(), "test", "0")
    plane.started = True
    return plane


def gate(error: BaseException) -> Gate:
    api = Api(title="test", version="0", description="", infer_description="")
    return Gate(rest_app(dataplane(error), api, docs=True), max_body_bytes=1000)


def post(error: BaseException) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(gate(error))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(
                "/v2/models/emoji/infer", json={"inputs": []}, headers={"x-request-id": "id-1"}
            )

    return asyncio.run(ask())


def call(error: BaseException) -> grpc.aio.AioRpcError:
    async def ask() -> grpc.aio.AioRpcError:
        server = grpc_server(dataplane(error), max_request_bytes=1000)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await GRPCInferenceServiceStub(channel).ModelInfer(
                    pb.ModelInferRequest(model_name="emoji"), metadata=(("x-request-id", "id-1"),)
                )
        await server.stop(None)
        return caught.value

    return asyncio.run(ask())


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_grpc_calls_deadline_is_known_where_it_is_served(timeout: float | None) -> None:
    class Patient(Failing):
        left: float

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            Patient.left = time_left()
            raise self.error

    async def ask() -> None:
        plane = dataplane(QueueFull(7))
        plane.model_registry.update(Patient(QueueFull(7)))
        server = grpc_server(plane, max_request_bytes=1000)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await GRPCInferenceServiceStub(channel).ModelInfer(
                    pb.ModelInferRequest(model_name="emoji"), timeout=timeout
                )
        await server.stop(None)

    asyncio.run(ask())
    assert 0 < Patient.left <= (timeout or math.inf) + 1  # gRPC rounds
    assert math.isinf(Patient.left) == (timeout is None)
    assert math.isinf(time_left())  # of that call only


@pytest.mark.parametrize(
    "error",
    [RuntimeError(SECRET), KeyError(SECRET), NotImplementedError(SECRET), FileNotFoundError(2, "no", SECRET)],
)
def test_an_unexpected_error_is_told_by_its_request_id_only(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    reply = post(error)
    assert (reply.status_code, reply.json()) == (500, {"error": "internal error (request id-1)"})
    raised = call(error)
    assert raised.code() is grpc.StatusCode.INTERNAL
    assert raised.details() == "internal error (request id-1)"
    logged = [record for record in caplog.records if record.message == "unexpected error"]
    assert [record.exc_info[1] for record in logged if record.exc_info] == [error, error]
    assert {record.__dict__["fields"]["request_id"] for record in logged} == {"id-1"}


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (SdkInvalidInput("no good"), 400, grpc.StatusCode.INVALID_ARGUMENT, "request: no good"),
        (DeadlineExceeded("too long"), 504, grpc.StatusCode.DEADLINE_EXCEEDED, "too long"),
        (QueueFull(2), 429, grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full; try again in 2 s"),
    ],
)
def test_a_known_error_has_its_statuses(error: Exception, status: int, code: Any, message: str) -> None:
    reply = post(error)
    assert (reply.status_code, reply.json()) == (status, {"error": message})
    raised = call(error)
    assert (raised.code(), raised.details()) == (code, message)
    if isinstance(error, QueueFull):
        assert reply.headers["retry-after"] == dict(raised.trailing_metadata())["retry-after"] == "2"


def test_a_server_that_starts_answers_not_ready() -> None:
    plane = dataplane(RuntimeError())
    plane.started = False
    api = Api(title="test", version="0", description="", infer_description="")

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(Gate(rest_app(plane, api, docs=False), max_body_bytes=1000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                await client.get("/v2/health/live"),
                await client.get("/docs"),
                await client.get("/v2/health/ready"),
                await client.get("/v2/models/emoji/ready"),
                await client.post("/v2/models/emoji/infer", json={"inputs": []}),
            ]

    assert [reply.status_code for reply in asyncio.run(ask())] == [200, 404, 503, 503, 503]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_port_in_use_is_named(kind: str) -> None:
    api = Api(title="test", version="0", description="", infer_description="")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        ports = {"http_port": free, "grpc_port": free, f"{kind}_port": port}
        server = Server(ModelRepository(), Steady(), ServerSettings(**ports), api)
        with pytest.raises(PortInUse, match=rf"cannot listen on 127\.0\.0\.1:{port} .*--{kind}_port"):
            server.start()


def test_a_server_that_stops_sends_its_clients_elsewhere_and_still_answers() -> None:
    plane = dataplane(RuntimeError())
    api = Api(title="test", version="0", description="", infer_description="")
    app = Gate(rest_app(plane, api, docs=False), 1000, lambda: plane.draining)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/v2/health/live")

    assert "connection" not in asyncio.run(ask()).headers
    plane.draining = True
    reply = asyncio.run(ask())
    assert (reply.status_code, reply.headers["connection"]) == (200, "close")


class Pod(Model):
    """Answers with its name after a moment."""

    platform = "none"
    versions: tuple[str, ...] = ()

    def __init__(self, pod: str) -> None:
        super().__init__("emoji")
        self._pod = pod

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> InferResponse:
        await asyncio.sleep(0.02)
        return InferResponse("", self._pod, [])

    def validate(self, payload: Any) -> Any:
        return payload


def test_grpc_clients_behind_a_service_find_every_pod_and_lose_no_call() -> None:
    """A Service of Kubernetes gives each connection to some pod, and leaves it there."""

    async def scenario() -> set[str]:
        ports = []
        for pod in ("one", "two"):
            models = ModelRepository()
            models.update(Pod(pod))
            plane = ServingDataPlane(models, Steady(), "test", "0")
            plane.started = True
            server = grpc_server(plane, max_request_bytes=1000, connection_age_s=0.2)
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
            servers.append(server)
        turns = itertools.cycle(ports)

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
            writer.close()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_pod = await asyncio.open_connection("127.0.0.1", next(turns))
            await asyncio.gather(pipe(reader, to_pod[1]), pipe(to_pod[0], writer))

        service = await asyncio.start_server(connect, "127.0.0.1", 0)
        seen: set[str] = set()

        async def ask(stub: GRPCInferenceServiceStub) -> None:
            for _ in range(1000):
                reply = await stub.ModelInfer(pb.ModelInferRequest(model_name="emoji"))
                seen.add(reply.model_name)
                if seen == {"one", "two"}:
                    return

        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.sockets[0].getsockname()[1]}") as channel:
            await asyncio.gather(*(ask(GRPCInferenceServiceStub(channel)) for _ in range(8)))
        service.close()
        await asyncio.gather(*(server.stop(None) for server in servers))
        return seen

    servers: list[grpc.aio.Server] = []
    assert asyncio.run(scenario()) == {"one", "two"}


Receive = Callable[[], Awaitable[dict[str, Any]]]


def run_gate(receive: Receive, cut_off: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs a gate around an application that never ends; gives what was sent and how it ended."""

    async def scenario() -> tuple[list[dict[str, Any]], list[str]]:
        sent: list[dict[str, Any]] = []
        ended: list[str] = []
        running = asyncio.Event()

        async def forever(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["body"] == b"ab"
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        task = asyncio.ensure_future(Gate(forever, 10)(scope, receive, send))
        if cut_off:
            await running.wait()
            task.cancel()
        await task
        return sent, ended

    return asyncio.run(scenario())


def chunks(*messages: dict[str, Any], then_wait: bool) -> Receive:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        assert then_wait
        return await asyncio.Event().wait()  # type: ignore[return-value]

    return receive


BODY = ({"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"})


def test_work_ends_when_its_client_goes_away() -> None:
    sent, ended = run_gate(chunks(*BODY, {"type": "http.disconnect"}, then_wait=False))
    assert (sent, ended) == ([], ["cancelled"])


def test_work_does_not_begin_for_a_client_that_went_away_while_sending() -> None:
    sent, ended = run_gate(chunks(BODY[0], {"type": "http.disconnect"}, then_wait=False))
    assert (sent, ended) == ([], [])


@pytest.mark.parametrize(
    "messages",
    [
        # read to its end: the client still listens
        (
            {"type": "http.request", "body": b"x" * 11, "more_body": True},
            {"type": "http.request", "body": b"y"},
        ),
        # so long that the rest is not waited for
        ({"type": "http.request", "body": b"x" * 81, "more_body": True},),
    ],
)
def test_a_body_that_is_too_long_is_refused_before_any_work(messages: tuple[dict[str, Any], ...]) -> None:
    sent, ended = run_gate(chunks(*messages, then_wait=False))
    assert ended == []
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_work_that_is_cut_off_at_the_end_says_so() -> None:
    sent, ended = run_gate(chunks(*BODY, then_wait=True), cut_off=True)
    assert ended == ["cancelled"]
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"]) == {"error": "the server is stopping"}


@pytest.mark.parametrize("given", [None, "", "a b", "a\nb", "é", "x" * 129])
def test_an_odd_request_id_is_replaced(given: str | None) -> None:
    assert request_id(given) != given
    assert request_id(given) != request_id(given)


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("predictor", logging.INFO, "", 0, message, (), None)
    made.__dict__["fields"] = fields
    return made


def test_a_json_line_is_one_object() -> None:
    line = json.loads(JsonFormatter().format(record("done\nfake", rows=2, path="/\n")))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "INFO", "logger": "predictor", "message": "done\nfake", "rows": 2, "path": "/\n"}


def test_a_text_line_is_one_line_whatever_a_client_sends() -> None:
    line = TextFormatter().format(record("done", path="/a\nERROR fake\r", back="\\n"))
    assert line.endswith("INFO done path=/a\\nERROR fake\\r back=\\\\n")
    assert "\n" not in line


def test_replies_do_not_wait_for_acknowledgements() -> None:
    """Head and body are written apart; Nagle's algorithm would hold the body back for 40 ms."""
    api = Api(title="test", version="0", description="", infer_description="")
    server = Server(ModelRepository(), Steady(), ServerSettings(http_port=0), api)
    with server._bind() as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
