"""KServe's data plane with true readiness and liveness, and with versions.

`/versions/N` of a model is the model named `name@N`.
"""

from collections.abc import Mapping
from typing import Any

from kserve import InferRequest, Model, ModelRepository
from kserve.protocol.dataplane import DataPlane

from predictor.edge.backend import Backend
from predictor.edge.logs import event
from predictor.edge.metrics import request_metrics
from predictor.errors import NotReady, UnknownModel


class ServingDataPlane(DataPlane):
    """Looks up models and says how the server is; both REST and gRPC stand on it."""

    def __init__(self, models: ModelRepository, backend: Backend, name: str, version: str) -> None:
        super().__init__(models)
        self._backend = backend
        self._identity = {"name": name, "version": version}
        self.started = False
        self.draining = False

    async def live(self) -> dict[str, str]:
        """Whether the work behind the server goes on; "hung" when it has stopped for good."""
        return {"status": "alive" if self._backend.alive else "hung"}

    async def ready(self) -> bool:
        """True from the end of the warm-up to the first signal to stop."""
        return self.started and not self.draining and self._backend.healthy

    def metadata(self) -> dict[str, Any]:
        """The server's name, version and protocol extensions."""
        return {
            **self._identity,
            "extensions": ["binary_tensor_data", "model_repository(index)", "statistics"],
        }

    def lookup(self, name: str, version: str | None = None) -> Model:
        """The model of this name.

        Raises:
            UnknownModel: no such model or version is served.
        """
        model = self.model_registry.get_model(f"{name}@{version}" if version else name)
        if model is None and version and self.model_registry.get_model(name) is not None:
            raise UnknownModel(f"model {name[:80]!r} has no version {version[:40]!r}")
        if model is None:
            raise UnknownModel(f"there is no model {name[:80]!r}; GET /v2/models lists them")
        return model

    async def get_model(self, name: str) -> Model:
        """The model for an inference; a stopping server still serves those that reach it.

        Raises:
            NotReady: the server has not finished starting.
            UnknownModel: no such model is served.
        """
        model = self.lookup(name)
        if not self.started:
            raise NotReady("the server is starting")
        return model

    async def model_metadata(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """Inputs, outputs and versions of a model, as the protocol describes them; its parameters if any."""
        model = self.lookup(model_name, model_version)
        metadata = {
            "name": model_name,
            "versions": model.versions,
            "platform": model.platform,
            "inputs": model.get_input_types(),
            "outputs": model.get_output_types(),
        }
        parameters = getattr(model, "parameters", {})
        return metadata | {"parameters": parameters} if parameters else metadata

    async def model_stats(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """What has been counted under a name since the start: the fields of `Api.stats`."""
        model = self.lookup(model_name, model_version)
        requests = request_metrics().by_status(model.name)
        return {"requests": requests, **getattr(model, "statistics", {})}

    async def model_ready(
        self,
        model_name: str,
        disable_predictor_health_check: bool = False,
        model_version: str | None = None,
    ) -> bool:
        """All models of a server are ready together: they share what draws."""
        self.lookup(model_name, model_version)
        return await self.ready()

    async def infer(
        self,
        model_name: str,
        request: dict[str, Any] | InferRequest,
        headers: Mapping[str, str] | None = None,
        model_version: str | None = None,
    ) -> tuple[Any, dict[str, str]]:
        """Run a model: preprocess, predict, postprocess."""
        model = self.lookup(model_name, model_version)
        event()["model"] = model.name
        result: tuple[Any, dict[str, str]] = await super().infer(model.name, request, dict(headers or {}))
        return result
