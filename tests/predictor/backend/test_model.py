"""The KServe model: replies of v1 and v2."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kserve import InferInput, InferRequest

from predictor.backend import EngineBackend
from predictor.errors import InvalidInput
from predictor.model import DiffusionModel
from weights.store import Store


def test_the_model_answers_v1_and_v2_alike(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("notoemoji", backend, log_prompts=False)
        assert await model.healthy()
        prompt = InferInput("prompt", [2], "BYTES", ["a", "b"])
        parameters = {"num_inference_steps": 1, "seed": 5}
        reply, _ = await model(InferRequest("notoemoji", [prompt], "id", parameters=parameters))
        image, seed, lora = reply.outputs
        assert (image.shape, image.datatype, image.data.dtype) == ([2, 16, 16, 3], "UINT8", np.uint8)
        assert (seed.shape, seed.data.tolist()) == ([2], [5, 5])
        assert lora.data.tolist() == [b"notoemoji@2"] * 2
        assert (reply.id, reply.model_name, reply.model_version) == ("id", "notoemoji", "2")

        v1, _ = await model({"instances": ["a", "b"], "parameters": parameters})
        assert [(one["seed"], one["lora"]) for one in v1["predictions"]] == [(5, "notoemoji@2")] * 2

    serve(work)


def test_a_reply_of_several_versions_has_no_version_of_its_own(
    serve: Callable[..., Any], store: Store
) -> None:
    store.set_route("emoji", {"notoemoji@2": 50, "openmoji@1": 50})

    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("emoji", backend, log_prompts=False)
        keys = InferInput("sticky_key", [4], "BYTES", ["user 0", "user 1", "user 2", "user 1"])
        prompt = InferInput("prompt", [4], "BYTES", ["a"] * 4)
        parameters = {"num_inference_steps": 1}
        mixed, _ = await model(InferRequest("emoji", [prompt, keys], "id", parameters=parameters))
        versions = [version.decode() for version in mixed.outputs[2].data]
        assert versions[1] == versions[3]
        assert set(versions) == {"notoemoji@2", "openmoji@1"}
        assert mixed.model_version == ""
        request = InferRequest("emoji", [prompt], "id", parameters=parameters)
        one, _ = await model(request, {"x-sticky-key": "user 1"})
        assert one.outputs[2].data.tolist() == [versions[1].encode()] * 4
        assert one.model_version == versions[1][-1]

    serve(work)


def test_a_key_is_bounded(serve: Callable[..., Any]) -> None:
    async def work(backend: EngineBackend) -> None:
        model = DiffusionModel("emoji", backend, log_prompts=False)
        with pytest.raises(InvalidInput, match="sticky_key: must have at most 256 characters"):
            await model({"instances": ["a"]}, {"x-sticky-key": "k" * 257})

    serve(work)
