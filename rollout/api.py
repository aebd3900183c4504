"""The API server: JSON objects in and out, by kind and name, and its refusals as errors of the rollout.

The only file that imports the Kubernetes client. It knows no rollout.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from rollout.errors import Conflict, Forbidden, NotFound, Refused, Rejected, RolloutError, Unavailable
from rollout.plan import Json

# One call never takes longer: an interrupt is answered within this time.
CALL_SECONDS = 10.0
SERVICE_ACCOUNT_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
COLLECTIONS = {
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "Event": "api/v1/namespaces/{}/events",
    "HTTPRoute": "apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "InferenceService": "apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices",
    "KnativeService": "apis/serving.knative.dev/v1/namespaces/{}/services",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "Pod": "api/v1/namespaces/{}/pods",
    "Revision": "apis/serving.knative.dev/v1/namespaces/{}/revisions",
}


class Api:
    """One namespace of one cluster."""

    def __init__(self, context: str | None, namespace: str | None) -> None:
        """Find the cluster as kubectl does, or by the service account of this pod.

        Args:
            context: of the kubeconfig; its current one by default.
            namespace: that of the context, or of the pod, by default.
        """
        settings = client.Configuration()
        try:
            if context is None and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=settings)
                with open(SERVICE_ACCOUNT_NAMESPACE, encoding="utf-8") as file:
                    default = file.read().strip()
            else:
                files = os.environ.get("KUBECONFIG")  # the client's own default is that of its import
                config.load_kube_config(files, context, client_configuration=settings)
                contexts, active = config.list_kube_config_contexts(files)
                chosen = next((c for c in contexts if c["name"] == context), active)
                default = chosen["context"].get("namespace", "default")
        except (config.ConfigException, OSError) as error:
            raise Refused(f"no cluster to talk to: {error}") from error
        settings.retries = False  # whoever calls reads anew before it tries again
        self.namespace = namespace or default
        self._client = client.ApiClient(settings)

    def get(self, kind: str, name: str) -> Json:
        """One object."""
        return self._json("GET", self._path(kind, name))

    def list(self, kind: str, **selectors: str) -> tuple[Json, ...]:
        """The objects that `labelSelector` and `fieldSelector` choose."""
        return tuple(self._json("GET", f"{self._path(kind)}?{urlencode(selectors)}")["items"])

    def create(self, body: Json) -> Json:
        """Make an object; Conflict where there is one of that name."""
        return self._json("POST", self._path(body["kind"]), body)

    def replace(self, body: Json) -> Json:
        """Write an object that was read; Conflict where another did so since."""
        return self._json("PUT", self._path(body["kind"], body["metadata"]["name"]), body)

    def delete(self, body: Json) -> None:
        """Delete exactly the object that was read; Conflict where it changed since."""
        same = {key: body["metadata"][key] for key in ("uid", "resourceVersion")}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": same}
        self._json("DELETE", self._path(body["kind"], body["metadata"]["name"]), options)

    def pod_text(self, pod: str, port: int, path: str) -> str:
        """What a pod answers, asked by the API server."""
        return self._call("GET", f"{self._path('Pod', f'{pod}:{port}')}/proxy/{path}").decode(
            errors="replace"
        )

    def _path(self, kind: str, name: str | None = None) -> str:
        collection = "/" + COLLECTIONS[kind].format(quote(self.namespace, safe=""))
        return collection if name is None else f"{collection}/{quote(name, safe=':')}"

    def _json(self, method: str, path: str, body: Json | None = None) -> Json:
        answer: Json = json.loads(self._call(method, path, body))
        return answer

    def _call(self, method: str, path: str, body: Json | None = None) -> bytes:
        request = self._client.param_serialize(
            method, path, query_params=[], header_params={}, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*request, _request_timeout=CALL_SECONDS)
            data = bytes(response.read() or b"")
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise Unavailable(f"the API server does not answer: {error}") from error
        if response.status < 300:
            return data
        raise _refusal(response.status, method, path, data)


def _refusal(status: int, method: str, path: str, data: bytes) -> RolloutError:
    try:
        said: Any = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        said = data.decode(errors="replace")[:200]
    text = f"{method} {path}: {status}: {said}"
    if status in (401, 403):
        return Forbidden(text)
    if status == 404:
        return NotFound(text)
    if status == 409:
        return Conflict(text)
    if status in (408, 429) or status >= 500:
        return Unavailable(text)
    return Rejected(text)
