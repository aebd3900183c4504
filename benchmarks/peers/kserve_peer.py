"""A naive kserve.Model: the pipeline called from a synchronous `predict`, as most examples do it."""

from typing import Any

import kserve

from benchmarks.peers.job import Job
from benchmarks.peers.pipeline import Pipeline
from benchmarks.peers.settings import Settings


class Emoji(kserve.Model):
    """v1: {"instances": [a Job]}."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("emoji")
        self._settings = settings
        self.load()

    def load(self) -> bool:
        """Load the model."""
        self._pipeline = Pipeline(self._settings)
        self.ready = True
        return self.ready

    def predict(
        self, payload: dict[str, Any], headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> dict[str, Any]:
        """Draw the instances of one request."""
        pictures = self._pipeline.draw([Job(**instance) for instance in payload["instances"]])
        return {"predictions": [picture.model_dump() for picture in pictures]}


if __name__ == "__main__":
    given = Settings.from_environment()
    kserve.ModelServer(http_port=given.port, enable_grpc=False, workers=1).start([Emoji(given)])
