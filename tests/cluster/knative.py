"""The service in Knative mode: transformer and predictor are Knative Services; revisions share traffic."""

from typing import Any

from tests.cluster.cluster import until
from tests.cluster.pictures import Ingress
from tests.cluster.service import KSERVE, NAME, START_S, Service

KNATIVE = "serving.knative.dev/v1"


class KnativeService(Service):
    """With scale to zero, and gRPC through an InferenceService of its own."""

    def ingress(self) -> Ingress:
        """Where its requests go in."""
        return Ingress(self.cluster.ingress_address("Knative"), self._host(NAME), self._host(f"{NAME}-grpc"))

    def _host(self, name: str) -> str:
        service = self.cluster.object(KSERVE, "inferenceservices", self.namespace, name)
        return str(service.get("status", {}).get("url", "")).partition("://")[2]

    def traffic(self) -> dict[str, int]:
        """Percent of the traffic of each look that has any, as Knative's route has it."""
        found = self.cluster.object(KNATIVE, "services", self.namespace, f"{NAME}-predictor")
        shares: dict[str, int] = {}
        for target in found.get("status", {}).get("traffic", []):
            if target.get("percent"):
                look = self.look(target["revisionName"])
                shares[look] = shares.get(look, 0) + target["percent"]
        return shares

    def look(self, revision: str) -> str:
        """The look of a revision of the predictor."""
        found = self.cluster.object(KNATIVE, "revisions", self.namespace, revision)
        (look,) = (
            variable["value"]
            for variable in found["spec"]["containers"][0]["env"]
            if variable["name"] == "DEFAULT_LOOK"
        )
        return str(look)

    @property
    def parts(self) -> tuple[str, ...]:
        """Both."""
        return ("predictor", "transformer")

    def wait(self) -> None:
        """Until the newest revisions of all parts have all the traffic."""
        names = [f"{NAME}-predictor", f"{NAME}-transformer", f"{NAME}-grpc-predictor"]
        for name in names:
            until(f"{self.namespace}/{name} has settled", lambda name=name: self._settled(name), START_S)
        for name in (NAME, f"{NAME}-grpc"):
            until(f"{self.namespace}/{name} has a URL", lambda name=name: self._host(name), START_S)

    def _settled(self, name: str) -> bool:
        for found in self.cluster.objects(KNATIVE, "services", self.namespace):
            if found["metadata"]["name"] == name:
                status = found.get("status", {})
                conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
                newest = status.get("latestCreatedRevisionName")
                return bool(
                    conditions.get("Ready") == "True"
                    and status.get("observedGeneration") == found["metadata"]["generation"]
                    and [(t["revisionName"], t["percent"]) for t in status["traffic"] if t.get("percent")]
                    == [(newest, 100)]
                )
        return False

    def hold(self, pods: int) -> None:
        """By equal bounds of the autoscaler."""
        self.scale(predictor=(pods, pods), transformer=(pods, pods))

    def bound(self, least: int, most: int) -> None:
        """One request at once for each predictor pod; one transformer."""
        self.scale(predictor=(least, most), transformer=(1, 1), target=1)

    def ask_for_canary(self, model: dict[str, Any], percent: int) -> None:
        """By the one InferenceService: its newest revision is the canary."""
        self.patch({"spec": {"predictor": {"canaryTrafficPercent": percent, "model": model}}})

    def repair(self, model: dict[str, Any]) -> None:
        """With the canary still at 0 %; a rollback then goes to its end."""
        self.patch({"spec": {"predictor": {"canaryTrafficPercent": 0, "model": {"args": None} | model}}})

    def scale(self, *, predictor: tuple[int, int], transformer: tuple[int, int], target: int = 4) -> None:
        """Least and most pods of both parts, and the requests at once that a predictor's pod is meant for."""
        parts = {"predictor": predictor, "transformer": transformer}
        before, spec = {part: self._generation(part) for part in parts}, self.spec()["spec"]
        change = {part: {"minReplicas": least, "maxReplicas": most} for part, (least, most) in parts.items()}
        change["predictor"]["scaleTarget"] = target
        self.patch({"spec": change})
        for part, bounds in change.items():
            if not bounds.items() <= spec[part].items():
                until(
                    f"KServe hands the scale of the {part} on",
                    lambda part=part: self._generation(part) > before[part],
                    60,
                )
        self.wait()

    def _generation(self, component: str) -> int:
        found = self.cluster.object(KNATIVE, "services", self.namespace, f"{NAME}-{component}")
        return int(found["metadata"]["generation"])
