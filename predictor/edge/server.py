"""The process of a KServe server: binds the ports, warms up, serves, and stops without dropping a request."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import grpc
import uvicorn
from kserve import Model, ModelRepository, ModelServer

from predictor.edge.api import Api
from predictor.edge.backend import Backend
from predictor.edge.collector import Collector
from predictor.edge.dataplane import ServingDataPlane
from predictor.edge.gate import Gate
from predictor.edge.grpc import grpc_server
from predictor.edge.logs import log
from predictor.edge.rest import rest_app
from predictor.edge.settings import ServerSettings
from predictor.edge.traced import TracedApp


class PortInUse(Exception):
    """Somebody else listens on a port this server needs."""


class Server(ModelServer):
    """A `kserve.ModelServer` whose `start` returns after a graceful stop (SIGTERM or Ctrl-C)."""

    def __init__(
        self,
        models: ModelRepository,
        backend: Backend,
        settings: ServerSettings,
        api: Api,
        dataplane: ServingDataPlane | None = None,
    ) -> None:
        super().__init__(
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            workers=1,
            registered_models=models,
            enable_grpc=settings.enable_grpc,
            enable_docs_url=settings.enable_docs,
            enable_latency_logging=False,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )
        self.dataplane = dataplane or ServingDataPlane(models, backend, api.title, api.version)
        self._backend = backend
        self._settings = settings
        self._api = api

    def start(self, models: list[Model] | None = None) -> None:
        """Serve until a signal says to stop.

        Args:
            models: more models to register; unlike KServe's own `start`, none needs to be ready by now.

        Raises:
            PortInUse: says which port, and how to choose another.
        """
        for model in models or []:
            self.register_model(model)
        with contextlib.closing(self._bind()) as listener:
            asyncio.run(self._serve_until_stopped(listener))

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        try:
            listener = socket.create_server((self._settings.host, self.http_port), family=family)
        except OSError as error:
            raise PortInUse(self._occupied("http", self.http_port, error.strerror or "")) from None
        # Its connections inherit it; asyncio sets it only where a socket was made with its protocol's number.
        # Without it a reply's body waits until the client has acknowledged the head, put off for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    def _occupied(self, kind: str, port: int, reason: str) -> str:
        return f"cannot listen on {self._settings.host}:{port} ({reason}); choose another with --{kind}_port"

    def _collector(self) -> Collector | None:
        """Where this process's spans go, if anywhere: `emoji-predictor` is who they are of."""
        endpoint = self._settings.traces_endpoint
        return Collector(endpoint, self._api.title.replace(" ", "-"), self._api.version) if endpoint else None

    async def _serve_until_stopped(self, listener: socket.socket) -> None:
        collector = self._collector()
        rest = _Uvicorn(self._uvicorn_config())
        rpc = await self._start_grpc() if self._settings.enable_grpc else None
        stopping = self._listen_to_signals()
        serving = asyncio.create_task(rest.serve(sockets=[listener]))
        starting = asyncio.create_task(self._warm_up())
        told = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({serving, starting, told}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.dataplane.draining = True
            log("stopping")
            starting.cancel()
            told.cancel()
            if stopping.is_set():
                await asyncio.sleep(self._settings.drain_delay)
            rest.should_exit = True
            await asyncio.gather(serving, *([rpc.stop(self._settings.grace_period)] if rpc else []))
            await self._backend.stop(1.0)
            if collector is not None:
                await collector.stop()
            log("stopped")

    def _listen_to_signals(self) -> asyncio.Event:
        """An event that the first SIGTERM or Ctrl-C sets; a second Ctrl-C ends the process at once."""
        stopping = asyncio.Event()

        def interrupt() -> None:
            # a terminal's Ctrl-C and a parent's SIGTERM may come together: that is no second Ctrl-C
            loop.add_signal_handler(signal.SIGINT, os._exit, 130)
            terminate()

        def terminate() -> None:
            self.dataplane.draining = True
            stopping.set()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, terminate)
        return stopping

    def _uvicorn_config(self) -> uvicorn.Config:
        settings = self._settings
        app = rest_app(self.dataplane, self._api, docs=settings.enable_docs)
        return uvicorn.Config(
            TracedApp(Gate(app, settings.max_body_bytes, lambda: self.dataplane.draining)),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=int(settings.grace_period),
            timeout_keep_alive=settings.timeout_keep_alive,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )

    async def _start_grpc(self) -> grpc.aio.Server:
        rpc = grpc_server(self.dataplane, max_request_bytes=self._settings.max_body_bytes)
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        try:
            rpc.add_insecure_port(f"{host}:{self.grpc_port}")
        except RuntimeError:
            raise PortInUse(self._occupied("grpc", self.grpc_port, "Address already in use")) from None
        await rpc.start()
        return rpc

    async def _warm_up(self) -> None:
        log("starting", {"http": f"{self._settings.host}:{self.http_port}", "grpc": self.grpc_port})
        await self._backend.start()
        self.dataplane.started = True
        log("ready", {"models": ",".join(self.registered_models.get_models())})


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to `Server`, which stops REST and gRPC together."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
