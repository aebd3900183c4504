"""REST: the routes of the Open Inference Protocol v2 and of KServe v1.

They know bodies and headers; tensors are read by the model.
"""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from kserve.protocol.rest.server import metrics_handler
from starlette.exceptions import HTTPException

from predictor import contract
from predictor.edge.api import Api
from predictor.edge.copying import copy_pixels
from predictor.edge.dataplane import ServingDataPlane
from predictor.edge.refusals import ErrorReply, answer
from predictor.edge.spans import span
from predictor.errors import NotReady, ServingError

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"


class Routes:
    """The handlers; their docstrings are the API's documentation."""

    def __init__(self, dataplane: ServingDataPlane) -> None:
        self._dataplane = dataplane

    async def server_metadata(self) -> dict[str, Any]:
        """Name, version and protocol extensions of this server."""
        return self._dataplane.metadata()

    async def server_live(self) -> dict[str, bool]:
        """200 while the server works; 503 when its work hangs and only a restart helps."""
        if (await self._dataplane.live())["status"] != "alive":
            raise NotReady("the server hangs")
        return {"live": True}

    async def server_ready(self) -> dict[str, bool]:
        """200 from the end of the warm-up until the server is told to stop, else 503."""
        if not await self._dataplane.ready():
            raise NotReady("the server is not ready")
        return {"ready": True}

    async def v1_live(self) -> dict[str, str]:
        """Liveness as KServe v1 has it: `{"status": "alive"}`, or 503."""
        await self.server_live()
        return {"status": "alive"}

    async def models(self) -> dict[str, list[str]]:
        """The names that can be asked for: models, exact versions `name@N`, aliases `name@alias`."""
        return {"models": list(self._dataplane.model_registry.get_models())}

    async def index(self) -> list[dict[str, str]]:
        """The model repository's index: every name with its state."""
        state = "READY" if await self._dataplane.ready() else "UNAVAILABLE"
        return [
            {"name": name, "state": state, "reason": ""}
            for name in self._dataplane.model_registry.get_models()
        ]

    async def model_metadata(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs with datatypes and shapes (-1: any number), and the versions there are."""
        return await self._dataplane.model_metadata(model_name, model_version)

    async def model_ready(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """200 when the model can draw now, 503 when it can't yet, 404 when there is no such model."""
        if not await self._dataplane.model_ready(model_name, model_version=model_version):
            raise NotReady(f"model {model_name[:80]!r} is not ready")
        return {"name": model_name, "ready": True}

    async def model_stats(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """Pictures and times since the start of this process, by the version that drew, as Triton's
        statistics extension has them.

        They count pictures, not requests, since those of one request may be drawn by different versions.
        """
        return await self._dataplane.model_stats(model_name, model_version)

    async def infer(self, request: Request, model_name: str, model_version: str | None = None) -> Response:
        """Replaced by the text of `Api.infer_description`."""
        headers = dict(request.headers)
        infer_request = contract.decode_body(
            await request.body(), headers.get(JSON_LENGTH_HEADER.lower()), model_name
        )
        infer_request.id = infer_request.id or request.state.request_id
        response, reply_headers = await self._dataplane.infer(
            model_name, infer_request, headers, model_version
        )
        if isinstance(response, Response):  # a model may know better how to answer over HTTP
            return response
        binary = contract.binary_outputs(infer_request, [output.name for output in response.outputs])
        # Writing pixels as JSON's numbers holds up the event loop from a thread too, since orjson keeps
        # Python's lock: whoever draws much asks for binary outputs.
        size = sum(output.data.nbytes for output in response.outputs)
        with span("encode reply"):
            body, json_length = await copy_pixels(size, contract.encode_body, response, binary)
        if json_length is None:
            return Response(body, media_type="application/json", headers=reply_headers)
        reply_headers[JSON_LENGTH_HEADER] = str(json_length)
        return Response(body, media_type="application/octet-stream", headers=reply_headers)

    async def predict(self, request: Request, model_name: str) -> Response:
        """Replaced by the text of `Api.predict_description`."""
        payload = contract.parse_json(await request.body())
        response, reply_headers = await self._dataplane.infer(model_name, payload, dict(request.headers))
        with span("encode reply"):
            body = orjson.dumps(response)
        return Response(body, media_type="application/json", headers=reply_headers)


def rest_app(dataplane: ServingDataPlane, api: Api, *, docs: bool) -> FastAPI:
    """The REST application of one server; `docs` adds Swagger at /docs."""
    app = FastAPI(
        title=api.title,
        version=api.version,
        description=api.description,
        docs_url="/docs" if docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        # Spans are made around the gate, which knows refusals and absent clients, and the probes get none.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    _add_routes(app, Routes(dataplane), api)
    for router in api.routers:
        app.include_router(router)
    for kind in (ServingError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, routes: Routes, api: Api) -> None:
    unready: dict[int | str, dict[str, Any]] = {503: {"model": ErrorReply}}
    lookup: dict[int | str, dict[str, Any]] = {
        404: {"model": ErrorReply, "description": "no such model or version"},
        **unready,
    }
    draw: dict[int | str, dict[str, Any]] = {
        200: {"description": "the pictures"},
        400: {"model": ErrorReply, "description": "a field is wrong; names it and its range"},
        413: {"model": ErrorReply, "description": "the body is too long"},
        429: {"model": ErrorReply, "description": "the queue is full; Retry-After says when to come back"},
        500: {"model": ErrorReply, "description": "an error inside, with its request id"},
        504: {"model": ErrorReply, "description": "it took too long"},
        **lookup,
    }
    infer_body = _body({"$ref": "#/components/schemas/InferBody"}, api.infer_example)
    predict_body = _body({"type": "object"}, api.predict_example)

    app.add_api_route("/", routes.v1_live, responses=unready, tags=["v1"])
    app.add_api_route("/metrics", metrics_handler, tags=["server"], summary="Metrics for Prometheus")
    app.add_api_route("/v1/models", routes.models, tags=["v1"], name="models_v1")
    app.add_api_route(
        "/v1/models/{model_name}", routes.model_ready, responses=lookup, tags=["v1"], name="ready_v1"
    )
    app.add_api_route(
        "/v1/models/{model_name}:predict",
        routes.predict,
        methods=["POST"],
        responses=draw,
        tags=["v1"],
        description=api.predict_description,
        openapi_extra=predict_body,
    )
    app.add_api_route("/v2", routes.server_metadata, tags=["v2"])
    app.add_api_route("/v2/health/live", routes.server_live, responses=unready, tags=["v2"])
    app.add_api_route("/v2/health/ready", routes.server_ready, responses=unready, tags=["v2"])
    app.add_api_route("/v2/models", routes.models, tags=["v2"])
    app.add_api_route("/v2/repository/index", routes.index, methods=["POST"], tags=["v2"])
    for path, name in (
        ("/v2/models/{model_name}", ""),
        ("/v2/models/{model_name}/versions/{model_version}", " version"),
    ):
        app.add_api_route(
            path, routes.model_metadata, responses=lookup, tags=["v2"], name=f"model{name} metadata"
        )
        app.add_api_route(
            f"{path}/ready", routes.model_ready, responses=lookup, tags=["v2"], name=f"model{name} ready"
        )
        app.add_api_route(
            f"{path}/stats",
            routes.model_stats,
            response_model=api.stats,
            responses=lookup,
            tags=["v2"],
            name=f"model{name} statistics",
        )
        app.add_api_route(
            f"{path}/infer",
            routes.infer,
            methods=["POST"],
            responses=draw,
            tags=["v2"],
            name=f"model{name} infer",
            description=api.infer_description,
            openapi_extra=infer_body,
        )


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The routes' schema, with that of the bodies that the routes read by themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        infer = contract.InferBody.model_json_schema(ref_template="#/components/schemas/{model}")
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        # FastAPI's own 422 for paths: here it is a 400 like every other
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        components |= infer.pop("$defs", {}) | {"InferBody": infer}
        app.openapi_schema = schema
    return app.openapi_schema
