"""The `kserve.Model`: one name under which pictures are drawn, by the Open Inference Protocol or by v1.

Many names share one backend. It doesn't know how pictures are drawn, nor sockets.
"""

from dataclasses import dataclass
from typing import Any

from kserve import InferRequest, InferResponse, Model

from predictor import contract
from predictor.backend import Drawn, EngineBackend
from predictor.contract import PictureRequest
from predictor.edge import copy_pixels, event, time_left


@dataclass(frozen=True, slots=True)
class Job:
    """A request that passed all checks; `request` is None when it came by v1."""

    pictures: list[PictureRequest]
    request: InferRequest | None
    outputs: tuple[str, ...]
    tenant: str


class DiffusionModel(Model):
    """A name; what it stands for is looked up for each picture."""

    platform = "pytorch_diffusers"

    def __init__(self, name: str, backend: EngineBackend, *, log_prompts: bool) -> None:
        super().__init__(name)
        self._backend = backend
        self._log_prompts = log_prompts

    @property
    def versions(self) -> list[str]:
        """The versions that can be asked for, for the metadata."""
        return self._backend.looks.versions(self.name)

    @property
    def parameters(self) -> dict[str, object]:
        """What else the metadata says: the shares of a weighted alias, in percent."""
        route = self._backend.looks.route(self.name)
        return {"route": dict(route)} if route else {}

    @property
    def statistics(self) -> dict[str, object]:
        """What is counted under this name, and of the engine: the fields of `statistics.PredictorStats`."""
        return self._backend.statistics(self.name)

    async def healthy(self) -> bool:
        """Whether the engine behind takes work."""
        return self._backend.healthy

    def get_input_types(self) -> list[dict[str, object]]:
        """The inputs, for the metadata."""
        return [field.metadata for field in contract.INPUTS]

    def get_output_types(self) -> list[dict[str, object]]:
        """The outputs, for the metadata."""
        return [field.metadata for field in contract.OUTPUTS]

    def validate(self, payload: Any) -> Any:
        """The SDK's check is for payloads that are sent on; ours are read in `preprocess`."""
        return payload

    async def preprocess(self, payload: Any, headers: dict[str, str] | None = None) -> Job:
        """Read a request and check it against the limits; no work is done for one that is refused."""
        limits = self._backend.limits
        tenant = contract.tenant(headers)
        if isinstance(payload, InferRequest):
            rows = contract.with_key(contract.read_tensors(payload, limits.max_rows), headers)
            pictures = contract.check_pictures(rows, limits)
            job = Job(pictures, payload, contract.requested_outputs(payload, pictures), tenant)
        else:
            rows = contract.with_key(contract.read_instances(payload, limits.max_rows), headers)
            job = Job(contract.check_pictures(rows, limits), None, (), tenant)
        event()["rows"] = len(rows)
        if self._log_prompts:
            event()["prompts"] = [picture.prompt for picture in job.pictures]
        return job

    async def predict(
        self, payload: Job, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> tuple[Job, Drawn]:
        """Draw."""
        drawn = await self._backend.draw(payload.pictures, self.name, payload.tenant, time_left())
        event().update(
            lora=",".join(sorted(set(drawn.loras))),
            steps=max(row.steps for row in drawn.rows),
            size="x".join(map(str, drawn.images.shape[1:3])),
        )
        return payload, drawn

    async def postprocess(
        self, result: tuple[Job, Drawn], headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse | dict[str, list[dict[str, object]]]:
        """Put the pictures into the protocol's reply."""
        job, drawn = result
        if job.request is None:
            return await copy_pixels(
                drawn.images.nbytes,
                contract.predictions,
                drawn.images,
                drawn.seeds,
                drawn.loras,
                drawn.approximations,
            )
        return contract.infer_response(
            model_name=job.request.model_name,
            model_version=drawn.version,
            response_id=job.request.id,
            images=drawn.images,
            seeds=drawn.seeds,
            loras=drawn.loras,
            approximations=drawn.approximations,
            outputs=job.outputs,
        )
