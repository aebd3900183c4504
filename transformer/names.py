"""The names the transformer answers to: those of the predictor, which is asked for each new one, and its own.

Knows nothing of requests and pictures.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from kserve import InferRequest, InferResponse, ModelRepository

from predictor.edge import ServingDataPlane
from predictor.errors import NotReady, UnknownModel
from transformer.model import EmojiModel
from transformer.studio import Studio

READY_FOR_S = 1.0
"""How long the predictor's answer about the default model is good for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


class Names(ServingDataPlane):
    """KServe's data plane over the predictor's names.

    A name is registered once the predictor has said that it exists, so that nobody can fill the registry,
    or the labels of the metrics, with names of his own.
    """

    def __init__(self, models: ModelRepository, studio: Studio, name: str, version: str) -> None:
        super().__init__(models, studio, name, version)
        self._studio = studio
        self.settings = studio.settings
        self._default = self.settings.default_model
        own_names = [self._default, *([self.settings.model_name] if self.settings.model_name else [])]
        for own_name in own_names:
            models.update(EmojiModel(own_name, self._default, studio))
        self._own_names = frozenset(own_names)
        self._asked_at = float("-inf")
        self._answer = False

    async def ready(self) -> bool:
        """Whether a request for the default model can be served now: the predictor is asked, too."""
        if time.monotonic() - self._asked_at > READY_FOR_S and await super().ready():
            try:
                self._answer = await self._studio.upstream.ready(self._default)
            except UnknownModel:
                self._answer = False
            self._asked_at = time.monotonic()
        return self._answer and await super().ready()

    async def model_ready(
        self,
        model_name: str,
        disable_predictor_health_check: bool = False,
        model_version: str | None = None,
    ) -> bool:
        """As `ready`, for one model. Raises UnknownModel for a name that the predictor does not have."""
        name = self._upstream_name(_full(model_name, model_version))
        if name == self._default:
            return await self.ready()
        return await super().ready() and await self._studio.upstream.ready(name)

    async def model_metadata(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """The transformer's inputs and outputs; the predictor says which models and versions there are."""
        self._check_started()
        name = _full(model_name, model_version)
        theirs = await self._studio.upstream.metadata(self._upstream_name(name))
        model = self._register(name)
        metadata = {
            "name": model_name,
            "versions": theirs.get("versions", []),
            "platform": theirs.get("platform", ""),
            "inputs": model.get_input_types(),
            "outputs": model.get_output_types(),
        }
        # gRPC's message has no place for them
        return metadata | {"parameters": theirs["parameters"]} if "parameters" in theirs else metadata

    async def model_stats(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """Those of this process; a predictor has its own, and there may be several of them."""
        return await super().model_stats((await self.find(_full(model_name, model_version))).name)

    async def infer(
        self,
        model_name: str,
        request: dict[str, Any] | InferRequest,
        headers: Mapping[str, str] | None = None,
        model_version: str | None = None,
    ) -> tuple[dict[str, Any] | InferResponse, dict[str, str]]:
        """Serve a request under any of the predictor's names."""
        return await super().infer((await self.find(_full(model_name, model_version))).name, request, headers)

    async def find(self, name: str) -> EmojiModel:
        """The model of this name; a new one is looked up at the predictor.

        Raises:
            NotReady: the server has not finished starting.
            UnknownModel: the predictor has none.
            UpstreamUnavailable, UpstreamTimeout, UpstreamError: it cannot be asked.
        """
        self._check_started()
        if self.model_registry.get_model(name) is None:
            await self._studio.upstream.metadata(self._upstream_name(name))
        return self._register(name)

    def _check_started(self) -> None:
        if not self.started:
            raise NotReady("the server is starting")

    def _register(self, name: str) -> EmojiModel:
        model = self.model_registry.get_model(name)
        if model is None:
            model = EmojiModel(name, self._upstream_name(name), self._studio)
            self.model_registry.update(model)
        assert isinstance(model, EmojiModel)
        return model

    def _upstream_name(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise UnknownModel(f"there is no model {name[:80]!r}")
        base, at, version = name.partition("@")
        return f"{self._default}{at}{version}" if base in self._own_names else name


def _full(name: str, version: str | None) -> str:
    return f"{name}@{version}" if version else name
