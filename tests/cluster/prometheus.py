"""What a Prometheus knows, asked through the API server: none of its ports need be open to the tests."""

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.cluster.cluster import Cluster


class Prometheus:
    """One at an address as KEDA is told it, such as http://prometheus-operated.monitoring:9090."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        self._cluster = cluster
        host, _, port = urlsplit(address).netloc.partition(":")
        self._service, self._namespace, *_ = host.split(".")
        self._proxy = f"/api/v1/namespaces/{self._namespace}/services/{self._service}:{port}/proxy/api/v1"

    def exists(self) -> bool:
        """Whether the cluster has a Service of that name."""
        where = (self._service, "-n", self._namespace)
        return bool(self._cluster.kubectl("get", "service", *where, "--ignore-not-found", "-o", "name"))

    def _ask(self, path: str, **parameters: str) -> Any:
        query = f"?{urlencode(parameters)}" if parameters else ""
        reply = json.loads(self._cluster.kubectl("get", "--raw", f"{self._proxy}/{path}{query}"))
        assert reply["status"] == "success", reply
        return reply["data"]

    def values(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values at this moment of what an expression gives."""
        found = self._ask("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    def targets(self, namespace: str) -> list[dict[str, Any]]:
        """What is scraped in a namespace."""
        active = self._ask("targets", state="active")["activeTargets"]
        return [target for target in active if target["labels"].get("namespace") == namespace]

    def alerts(self, namespace: str) -> list[dict[str, Any]]:
        """The alerting rules from a namespace's PrometheusRules, with how their last evaluation went.

        The operator puts the namespace and the name of the object into the file's name.
        """
        groups = self._ask("rules", type="alert")["groups"]
        return [rule for g in groups if f"/{namespace}-" in g["file"] for rule in g["rules"]]
