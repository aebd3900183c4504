"""The pods that KServe 0.20 makes of our objects, by rules read in its source, and our own pods.

A model's container is laid over the runtime's, arguments are appended, maps are merged; a transformer in the
runtime joins the predictor's pod; labels come from the InferenceService and then from the component; claims
of `storageUris` are mounted into every container. The controller adds arguments to a transformer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.manifests.render import Manifest, one


@dataclass(frozen=True)
class Pod:
    """A pod as it would be made, with the annotations and labels of its own."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]
    is_server: bool
    seconds_to_stop: int = 30
    """Until it is killed: in Knative mode that is its `timeout`."""


def pods_of(objects: Sequence[Manifest]) -> list[Pod]:
    """All pods that a set of objects leads to."""
    return [pod for item in objects for pod in _of_one(item, objects)]


def _of_one(item: Manifest, objects: Sequence[Manifest]) -> Iterator[Pod]:
    name, meta, spec = item["metadata"]["name"], item["metadata"], item.get("spec", {})
    match item["kind"]:
        case "InferenceService":
            yield _predictor(item, one(objects, "ServingRuntime", spec["predictor"]["model"]["runtime"]))
            if "transformer" in spec:
                yield _transformer(item)
        case "Job":
            template = spec["template"]
            yield Pod(name, template["metadata"]["labels"], {}, template["spec"], is_server=False)
        case "Pod":
            yield Pod(name, meta["labels"], {}, spec, is_server=False)


def _predictor(service: Manifest, runtime: Manifest) -> Pod:
    component = service["spec"]["predictor"]
    model = component["model"]
    containers = [dict(container) for container in runtime["spec"]["containers"]]
    own = next(container for container in containers if container["name"] == "kserve-container")
    own["args"] = [*own["args"], *model.get("args", [])]
    own |= {key: model[key] for key in ("env", "resources") if key in model}
    mounts = [
        {
            "name": uri["mountPath"].strip("/").replace("/", "-"),
            "mountPath": uri["mountPath"],
            "readOnly": True,
        }
        for uri in component.get("storageUris", [])
    ]
    for container in containers:
        container["volumeMounts"] = [*container["volumeMounts"], *mounts]
        container["args"] = [
            argument.replace("{{.Namespace}}", "emoji").replace("{{.Name}}", service["metadata"]["name"])
            for argument in container["args"]
        ]
    annotations = {**runtime["spec"].get("annotations", {}), **component.get("annotations", {})}
    return Pod(
        f"{service['metadata']['name']}-predictor",
        {**service["metadata"]["labels"], **component.get("labels", {})},
        {**annotations, **service["metadata"].get("annotations", {})},
        {**_pod_fields(component), "containers": containers, "volumes": runtime["spec"]["volumes"]},
        is_server=True,
        seconds_to_stop=_seconds_to_stop(service, component),
    )


def _transformer(service: Manifest) -> Pod:
    component, name = service["spec"]["transformer"], service["metadata"]["name"]
    container = dict(component["containers"][0])
    added = ["--model_name", name, "--predictor_host", f"{name}-predictor.emoji", "--http_port", "8080"]
    container["args"] = [*container["args"], *added]
    return Pod(
        f"{name}-transformer",
        {**service["metadata"]["labels"], **component.get("labels", {})},
        {**component.get("annotations", {}), **service["metadata"].get("annotations", {})},
        {**_pod_fields(component), "containers": [container], "volumes": component["volumes"]},
        is_server=True,
        seconds_to_stop=_seconds_to_stop(service, component),
    )


def _seconds_to_stop(service: Manifest, component: dict[str, Any]) -> int:
    if service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative":
        return int(component["timeout"])
    return int(component.get("terminationGracePeriodSeconds", 30))


def _pod_fields(component: dict[str, Any]) -> dict[str, Any]:
    known = (
        "automountServiceAccountToken",
        "imagePullSecrets",
        "nodeSelector",
        "serviceAccountName",
        "terminationGracePeriodSeconds",
        "tolerations",
    )
    return {key: component[key] for key in known if key in component}
