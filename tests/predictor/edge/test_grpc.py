"""gRPC calls: their deadlines, and the connections they come by."""

import asyncio
import contextlib
import itertools
import math
from typing import Any

import grpc
import pytest
from kserve import InferResponse, Model, ModelRepository
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.edge import ServingDataPlane, time_left
from predictor.edge.grpc import grpc_server
from predictor.errors import QueueFull
from tests.predictor.edge.failing import Failing, Steady, dataplane


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
