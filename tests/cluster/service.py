"""The InferenceService `emoji` of one namespace, in either mode: what it is, and what tests change in it.

What a test believes of the traffic is read from the objects of Knative or the Gateway API, not from the tool
under test. What differs between the modes is in knative.py and standard.py.
"""

import json
import os
import re
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.cluster import ROOT, Cluster, until
from tests.cluster.pictures import Ingress

KSERVE = "serving.kserve.io/v1beta1"
NAME = "emoji"
RUNTIME = "emoji-diffusion"
WEIGHTS_JOB = Path(__file__).with_name("weights_job.py")
PREDICTOR_PORT = 8080
START_S = 600.0
"""How long a new revision may take: a cold import, weights and a warm-up picture on a busy machine."""


@dataclass
class Service(ABC):
    """One deployment of the project."""

    cluster: Cluster
    namespace: str
    seconds_to_ready: float = 0.0
    """From its first `kubectl apply` on."""

    @abstractmethod
    def ingress(self) -> Ingress:
        """Where its requests go in."""

    @abstractmethod
    def traffic(self) -> dict[str, int]:
        """Percent of the traffic of each look that has any, as whoever splits it has it."""

    @abstractmethod
    def wait(self) -> None:
        """Until what is asked for is ready and alone has the traffic."""

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The components with pods of their own, those that others depend on first."""

    @abstractmethod
    def bound(self, least: int, most: int) -> None:
        """Let the mode's autoscaler choose, so that few requests at once ask for `most` predictors."""

    @abstractmethod
    def hold(self, pods: int) -> None:
        """Have so many pods of each part, whatever the load."""

    def spec(self) -> dict[str, Any]:
        """The InferenceService as it stands in the API server."""
        return self.cluster.object(KSERVE, "inferenceservices", self.namespace, NAME)

    @abstractmethod
    def ask_for_canary(self, model: dict[str, Any], percent: int) -> None:
        """Ask for a canary with this `model` of the predictor as a commit of somebody's would."""

    @abstractmethod
    def repair(self, model: dict[str, Any]) -> None:
        """Take back what the spec still asks for after such a canary was rolled back, but for its look."""

    def pods(self, component: str) -> list[Any]:
        """The pods of "predictor" or "transformer" that exist, ready or not, a canary's too."""
        services = f"{NAME},{NAME}-canary"  # the second: a canary in Standard mode
        labels = f"serving.kserve.io/inferenceservice in ({services}),component={component}"
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

    def drawing(self, pod: str) -> int:
        """How many pictures a predictor's pod is drawing."""
        metrics = self.cluster.core.connect_get_namespaced_pod_proxy_with_path(
            f"{pod}:{PREDICTOR_PORT}", self.namespace, "metrics"
        )
        (rows,) = re.findall(r"^emoji_active_rows (\S+)$", metrics, re.MULTILINE)
        return int(float(rows))

    def patch(self, change: dict[str, Any], name: str = NAME) -> None:
        """Merge a change into the InferenceService."""
        self.cluster.kubectl(
            "patch", "-n", self.namespace, "inferenceservice", name, "--type=merge", "-p", json.dumps(change)
        )

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
            "command": ["python3", "-c", WEIGHTS_JOB.read_text(encoding="utf-8"), *arguments],
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
