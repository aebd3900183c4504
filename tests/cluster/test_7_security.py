"""What the namespace forbids, who may talk to whom, and what the logs keep to themselves."""

import asyncio
import secrets

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from tests.cluster.questions import HEART, LIGHT
from tests.cluster.report import Section
from tests.cluster.service import Service

pytestmark = pytest.mark.cluster


def test_restricted(emoji: Service, evidence: Section) -> None:
    """Pod Security `restricted` is enforced on the namespace, and every container keeps it"""
    core, namespace = emoji.cluster.core, emoji.namespace
    labels = core.read_namespace(namespace).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    plain = client.V1Pod(
        metadata=client.V1ObjectMeta(name="plain"),
        spec=client.V1PodSpec(containers=[client.V1Container(name="plain", image="dev.local/none")]),
    )
    with pytest.raises(ApiException, match="violates PodSecurity") as refused:
        core.create_namespaced_pod(namespace, plain)
    assert refused.value.status == 403
    pods = core.list_namespaced_pod(namespace).items
    assert set(emoji.parts) <= {pod.metadata.labels.get("component") for pod in pods}
    for pod in pods:
        for container in pod.spec.containers:
            context = container.security_context
            evidence.fact(
                f"{pod.metadata.name}/{container.name}",
                {"user": context.run_as_user, "read-only root": context.read_only_root_filesystem},
            )
            assert context.run_as_non_root or pod.spec.security_context.run_as_non_root
            assert context.read_only_root_filesystem
            assert context.allow_privilege_escalation is False
            assert context.capabilities.drop == ["ALL"]
            mounts = {mount.mount_path for mount in container.volume_mounts or []}
            assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts


def test_network_policies(emoji: Service, evidence: Section) -> None:
    """The NetworkPolicies were accepted, and select the pods they are meant for"""
    policies = emoji.cluster.networking.list_namespaced_network_policy(emoji.namespace).items
    assert policies
    for policy in policies:
        wanted = policy.spec.pod_selector.match_labels
        selector = ",".join(f"{key}={value}" for key, value in wanted.items())
        pods = emoji.cluster.core.list_namespaced_pod(emoji.namespace, label_selector=selector).items
        evidence.fact(policy.metadata.name, f"{len(pods)} pods, {', '.join(policy.spec.policy_types)}")
        assert pods


def test_no_secret_in_a_log(emoji: Service, evidence: Section) -> None:
    """Neither a caller's token, nor a Secret of the namespace, nor a prompt is in any log"""
    token, name = secrets.token_hex(16), secrets.token_hex(8)
    core, namespace = emoji.cluster.core, emoji.namespace
    core.create_namespaced_secret(
        namespace, client.V1Secret(metadata=client.V1ObjectMeta(name="s3"), string_data={"key": token})
    )

    async def ask() -> None:
        ingress = emoji.ingress()
        async with ingress.http() as http:
            http.headers["Authorization"] = f"Bearer {token}"
            http.headers["Cookie"] = f"session={token}"
            await ingress.v2(http, LIGHT[0])
            for body in (
                {"inputs": [{"name": "prompt", "data": [name]}]},
                {"instances": [name], "parameters": 7},
            ):
                refused = await http.post("/v2/models/emoji/infer", json=body)
                assert refused.is_client_error

    asyncio.run(ask())
    lines = 0
    for pod in core.list_namespaced_pod(namespace).items:
        for container in pod.spec.containers:
            log = core.read_namespaced_pod_log(pod.metadata.name, namespace, container=container.name)
            lines += log.count("\n")
            for secret in (token, name, HEART.prompt, "red heart"):
                assert secret not in log, f"{pod.metadata.name}/{container.name}"
    core.delete_namespaced_secret("s3", namespace)
    evidence.fact("lines of logs searched", lines)
    assert lines > 100
