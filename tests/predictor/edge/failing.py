"""An edge without sockets before a model that fails."""

from typing import Any

from kserve import Model, ModelRepository

from predictor.edge import Api, ServingDataPlane

API = Api(title="test", version="0", description="", infer_description="")


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
