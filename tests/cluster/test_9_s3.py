"""Weights come from S3, by the commands of docs/weights.md; a download that fails says why."""

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.cluster.cluster import ROOT, Cluster, run, until
from tests.cluster.docs import blocks
from tests.cluster.drawing import ask, check_pictures
from tests.cluster.looks import STABLE
from tests.cluster.modes import MODE, OUT, SERVICES
from tests.cluster.overlay import write_kustomization
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service
from weights.eval.judge import Judge

NAMESPACE = "t-s3"
SERVER = "dev.local/s3-server:test"
SECRET = "AWS_SECRET_ACCESS_KEY"

HERE = {
    "-n emoji": f"-n {NAMESPACE}",
    "namespace: emoji": f"namespace: {NAMESPACE}",
    "my-emoji": f"{OUT}/my-emoji",
    "../manifests/overlays/knative": "../overlay",
    "s3.example.com": f"s3.{NAMESPACE}:7070",
    "s3-usehttps=1": "s3-usehttps=0",
}
"""What is another in the test than in the page."""

FAILURES = {"folder": "No model found in ", "secret": "S3 error [403]: Forbidden"}
"""What is said of a folder that is not there and of a wrong secret."""


def commands() -> list[str]:
    """The page's blocks for S3: the cluster's setting, the credentials, the service."""
    return [block.code for block in blocks("weights") if "test_9_s3.py" in (block.reason or "")]


def test_the_pages_have_what_is_tested_here() -> None:
    code = commands()
    assert [text for text in HERE if text not in "".join(code)] == []
    assert "kubectl apply -k" in code[-1]
    lines = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert [said for said in FAILURES.values() if not any(said in row for row in rows)] == []


@pytest.fixture(scope="module")
def downloading(cluster: Cluster) -> Iterator[Service]:
    """The service, in a namespace and with a host of its own, beside that of the other tests."""
    images = [image for node in cluster.core.list_node().items for image in node.status.images]
    if not any(SERVER in (image.names or []) for image in images):
        pytest.skip(f"NOT TESTED, no node has the image {SERVER}. `make test-cluster S3=1` has it")
    with cluster.namespace(NAMESPACE) as namespace:
        account = {"ROOT_ACCESS_KEY": "emoji", "ROOT_SECRET_KEY": secrets.token_hex(16)}
        cluster.core.create_namespaced_secret(
            namespace, client.V1Secret(metadata=client.V1ObjectMeta(name="s3-account"), string_data=account)
        )
        cluster.kubectl("apply", "-n", namespace, "-f", "tests/cluster/s3.yaml")
        cluster.kubectl(
            "wait", "-n", namespace, "pod/s3", "--for=condition=Ready", "--timeout=5m", timeout=330
        )
        host = {"op": "replace", "path": "/spec/hostnames", "value": ["s3.example.com"]}
        patches = [("HTTPRoute/emoji", [host])] if MODE == "Standard" else []
        write_kustomization(OUT / "overlay", namespace, patches=patches)
        credentials = f"AWS_ACCESS_KEY_ID=emoji {SECRET}={account['ROOT_SECRET_KEY']}\n"
        for code in commands():
            for there, here in HERE.items():
                code = code.replace(there, here)
            began = time.monotonic()
            run("bash", "-euo", "pipefail", "-c", credentials + code, timeout=300)
        service = SERVICES[MODE](cluster, namespace)
        service.wait()
        service.seconds_to_ready = time.monotonic() - began
        yield service


@pytest.mark.cluster
def test_s3(downloading: Service, judge: Judge, evidence: Section) -> None:
    """`kubectl apply -k` with weights in S3: Ready, and a Korean sentence gives the right picture"""
    evidence.fact("seconds from apply to Ready", round(downloading.seconds_to_ready, 1))
    core, namespace = downloading.cluster.core, downloading.namespace
    (pod,) = downloading.ready_pods("predictor")
    log = core.read_namespaced_pod_log(pod.metadata.name, namespace, container="storage-initializer")
    took = re.findall(r"Model downloaded in (\S+) seconds", log)
    evidence.fact("of them downloading", round(sum(map(float, took)), 1))
    assert len(took) == 2
    secret = core.read_namespaced_secret("emoji-s3", namespace).data[SECRET]
    assert base64.b64decode(secret).decode() not in log
    check_pictures(downloading, judge, evidence)


@pytest.mark.cluster
def test_s3_failures(downloading: Service, evidence: Section) -> None:
    """A folder that is not there, a wrong secret: the former pods serve on, `rollout status` says why"""
    core, namespace = downloading.cluster.core, downloading.namespace
    right = base64.b64decode(core.read_namespaced_secret("emoji-s3", namespace).data[SECRET]).decode()

    def take(base: str, secret: str) -> None:
        core.patch_namespaced_secret("emoji-s3", namespace, {"stringData": {SECRET: secret}})
        uris = downloading.spec()["spec"]["predictor"]["storageUris"]
        downloading.patch({"spec": {"predictor": {"storageUris": [uris[0] | {"uri": base}, uris[1]]}}})

    def said(failure: str) -> str:
        shown = json.loads(downloading.rollout("status", "--output", "json")[1])
        problems = [version["problem"] or "" for version in shown["versions"]]
        return next((problem for problem in problems if FAILURES[failure] in problem), "")

    try:
        for failure, base, secret in (
            ("folder", "s3://models/none/", right),
            ("secret", "s3://models/base", "wrong"),
        ):
            take(base, secret)
            seen = until(f"the status says why: {failure}", lambda f=failure: said(f), START_S, every=2)
            evidence.fact(f"rollout status, {failure}", seen)
            assert "storage-initializer" in seen
            assert downloading.ready_pods("predictor")
            assert ask(downloading.ingress(), "v2", LIGHT[0]).lora == STABLE
    finally:
        core.patch_namespaced_secret("emoji-s3", namespace, {"stringData": {SECRET: right}})
    began = time.monotonic()
    downloading.wait()
    evidence.fact(
        "seconds until the new pod is ready, once the secret is right", round(time.monotonic() - began)
    )
