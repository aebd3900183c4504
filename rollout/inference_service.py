"""The fields of an InferenceService that a rollout reads and changes: its look, its canary's share, its mode.

The look is the environment variable DEFAULT_LOOK of the predictor's container. Works on the objects as they
come from the API server, and returns changed copies; it talks to nobody.
"""

from __future__ import annotations

import copy
from typing import Literal

from rollout.errors import Refused
from rollout.plan import Json

LOOK = "DEFAULT_LOOK"
CONTAINER = "kserve-container"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
# The second name of each is what KServe called it before 0.16.
MODES: dict[str, Literal["knative", "standard"]] = {
    "Knative": "knative",
    "Serverless": "knative",
    "Standard": "standard",
    "RawDeployment": "standard",
}


def mode(service: Json) -> Literal["knative", "standard"]:
    """How KServe runs it; the status wins over a later annotation, as in the controller."""
    name = service.get("status", {}).get("deploymentMode") or service["metadata"].get("annotations", {}).get(
        MODE_ANNOTATION
    )
    if name is None:
        raise Refused(
            f"KServe has not taken up the InferenceService yet; or set its annotation {MODE_ANNOTATION}"
        )
    if name not in MODES:
        raise Refused(f"deployment mode {name} is not supported, only Knative and Standard")
    return MODES[name]


def look(service: Json) -> str | None:
    """The look that is asked for; None: the predictor's default."""
    return look_of(_predictor_container(service))


def canary_percent(service: Json) -> int | None:
    """The share asked for the newest revision; None: all."""
    percent: int | None = service["spec"]["predictor"].get("canaryTrafficPercent")
    return percent


def with_look(service: Json, new: str | None) -> Json:
    """A copy that asks for another look; None asks for none."""
    changed = copy.deepcopy(service)
    container = _predictor_container(changed)
    env = container.setdefault("env", [])
    places = [number for number, variable in enumerate(env) if variable["name"] == LOOK]
    if new is not None and places:
        env[places[0]]["value"] = new
    elif new is not None:
        env.append({"name": LOOK, "value": new})
    elif places:
        del env[places[0]]
    if not env:
        del container["env"]
    return changed


def with_canary_percent(service: Json, percent: int | None) -> Json:
    """A copy with another share for the newest revision; None removes the field."""
    changed = copy.deepcopy(service)
    if percent is None:
        changed["spec"]["predictor"].pop("canaryTrafficPercent", None)
    else:
        changed["spec"]["predictor"]["canaryTrafficPercent"] = percent
    return changed


def look_of(container: Json) -> str | None:
    """The look that a container of any object is told."""
    for variable in container.get("env", []):
        if variable["name"] == LOOK:
            if "valueFrom" in variable:
                raise Refused(
                    f"{LOOK} is taken from elsewhere (valueFrom): a rollout can only change a value"
                )
            return variable.get("value") or None
    return None


def look_in_pod_spec(spec: Json) -> str | None:
    """The look in the spec of a pod, a Deployment's template or a Knative revision."""
    return look_of(next((c for c in spec["containers"] if c.get("name") == CONTAINER), spec["containers"][0]))


def without_look(spec: Json) -> Json:
    """The fields of the predictor's container, and the spec's other fields, but for the look."""
    fields = {key: value for key, value in spec.items() if key != "containers"}
    for container in spec.get("containers", []):
        own = container.get("name") == CONTAINER
        fields |= container if own else {str(container.get("name")): container}
    fields["env"] = [variable for variable in fields.get("env", []) if variable["name"] != LOOK]
    return fields


def _predictor_container(service: Json) -> Json:
    predictor = service["spec"]["predictor"]
    if "model" in predictor:
        model: Json = predictor["model"]
        return model
    for container in predictor.get("containers", []):
        if container.get("name") == CONTAINER:
            found: Json = container
            return found
    raise Refused(
        f"the predictor has neither a model nor a container {CONTAINER}: where its look stands is not known"
    )
