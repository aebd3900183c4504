"""The InferenceService `emoji` of one namespace: what it is, and the changes that tests make to it.

What a test believes of the traffic is read here from Knative's own objects, not from the tool under test.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.cluster import ROOT, Cluster, until
from tests.cluster.pictures import Ingress

KSERVE = "serving.kserve.io/v1beta1"
KNATIVE = "serving.knative.dev/v1"
NAME = "emoji"
RUNTIME = "emoji-diffusion"
WEIGHTS_JOB = Path(__file__).with_name("weights_job.py")
PREDICTOR, TRANSFORMER = (1, 3, 4), (1, 2, 32)
"""The least and most pods of a part, and the requests at once that one is meant for, in the overlay `local`."""
START_S = 600.0
"""How long a new revision may take: a cold import, weights and a warm-up picture on a busy machine."""


@dataclass
class Service:
    """One deployment of the project."""

    cluster: Cluster
    namespace: str
    seconds_to_ready: float = 0.0
    """From its first `kubectl apply` on."""

    # What it is.

    def spec(self) -> dict[str, Any]:
        """The InferenceService as it stands in the API server."""
        return self.cluster.object(KSERVE, "inferenceservices", self.namespace, NAME)

    def ingress(self) -> Ingress:
        """Where its requests go in."""
        return Ingress(self.cluster.ingress_address(), self._host(NAME), self._host(f"{NAME}-grpc"))

    def _host(self, name: str) -> str:
        service = self.cluster.object(KSERVE, "inferenceservices", self.namespace, name)
        return str(service["status"]["url"]).partition("://")[2]

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

    def pods(self, component: str) -> list[Any]:
        """The pods of "predictor" or "transformer" that exist, ready or not."""
        labels = f"serving.kserve.io/inferenceservice={NAME},component={component}"
        return list(self.cluster.core.list_namespaced_pod(self.namespace, label_selector=labels).items)

    @staticmethod
    def look_of(pod: Any) -> str:
        """The look of a predictor's pod."""
        (container,) = (c for c in pod.spec.containers if c.name == "kserve-container")
        (look,) = (variable.value for variable in container.env if variable.name == "DEFAULT_LOOK")
        return str(look)

    def ready_pods(self, component: str) -> list[Any]:
        """Those that get requests."""
        return [
            pod
            for pod in self.pods(component)
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]

    # Changing it.

    def wait(self, timeout: float = START_S) -> float:
        """Until the newest revisions of both parts have all the traffic; how long it took, in seconds."""
        began = time.monotonic()
        names = [f"{NAME}-predictor", f"{NAME}-transformer", f"{NAME}-grpc-predictor"]
        for name in names:
            until(f"{self.namespace}/{name} has settled", lambda name=name: self._settled(name), timeout)
        return time.monotonic() - began

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

    def patch(self, change: dict[str, Any], name: str = NAME) -> None:
        """Merge a change into the InferenceService."""
        self.cluster.kubectl(
            "patch", "-n", self.namespace, "inferenceservice", name, "--type=merge", "-p", json.dumps(change)
        )

    def scale(self, component: str, least: int, most: int, target: int) -> None:
        """The bounds of a part, and how many requests at once one pod is meant for; waits until they hold."""
        change = {
            "minReplicas": least,
            "maxReplicas": most,
            "scaleMetric": "concurrency",
            "scaleTarget": target,
        }
        now = self.spec()["spec"][component]
        if {name: now.get(name) for name in change} != change:
            generation = self._generation(component)
            self.patch({"spec": {component: change}})
            until("KServe hands the scale on", lambda: self._generation(component) > generation, 60)
        self.wait()

    def _generation(self, component: str) -> int:
        found = self.cluster.object(KNATIVE, "services", self.namespace, f"{NAME}-{component}")
        return int(found["metadata"]["generation"])

    def rollout(self, *arguments: str, timeout: float = 900) -> tuple[int, str]:
        """`python -m rollout`: its exit status and all that it said."""
        done = subprocess.run(
            [sys.executable, "-m", "rollout", *arguments, "--namespace", self.namespace],
            cwd=ROOT,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        return done.returncode, done.stdout

    def weights_job(self, *arguments: str) -> str:
        """Run weights_job.py in the predictor's image, with the weights; the last line of what it printed."""
        runtime = self.cluster.object(
            "serving.kserve.io/v1alpha1", "servingruntimes", self.namespace, RUNTIME
        )
        image = runtime["spec"]["containers"][0]["image"]
        job = f"weights-{arguments[0]}-{time.time_ns() % 10**9}"
        claims = {"base": "emoji-base", "loras": "emoji-loras"}
        container = {
            "name": "job",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", WEIGHTS_JOB.read_text(encoding="utf-8"), *arguments],
            "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},
                *({"name": name, "mountPath": f"/mnt/models/{name}"} for name in claims),
            ],
        }
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                *({"name": n, "persistentVolumeClaim": {"claimName": claim}} for n, claim in claims.items()),
            ],
        }
        manifest = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": job},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        }
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))

        def ended() -> str:
            status = self.cluster.object("batch/v1", "jobs", self.namespace, job).get("status", {})
            return "done" if status.get("succeeded") else "failed" if status.get("failed") else ""

        result = until(f"the Job {job} ends", ended, START_S)
        log = self.cluster.kubectl("logs", "-n", self.namespace, f"job/{job}")
        assert result == "done", log
        self.cluster.kubectl("delete", "-n", self.namespace, "job", job)
        return log.strip().rpartition("\n")[2]
