"""Every pod of every setting: restricted security, probes, limits, and flags that its server knows."""

from pathlib import Path
from typing import Any

import pytest

from predictor.settings import read_settings as read_predictor
from tests.manifests.pods import Pod, pods_of
from tests.manifests.render import every_setting, render
from transformer.settings import read_settings as read_transformer

pytestmark = [pytest.mark.manifests, pytest.mark.parametrize("setting", every_setting())]

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def _containers(setting: str) -> list[tuple[Pod, dict[str, Any]]]:
    pods = pods_of(render(setting))
    assert pods
    return [(pod, container) for pod in pods for container in pod.spec["containers"]]


def _is_predictor(pod: Pod, container: dict[str, Any]) -> bool:
    return "emoji-predictor" in container["image"]


def test_pods_fulfil_the_restricted_pod_security_standard(setting: str) -> None:
    for pod, container in _containers(setting):
        whole = pod.spec.get("securityContext", {})
        security = {**whole, **container["securityContext"]}
        assert security["allowPrivilegeEscalation"] is False, pod.name
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 65532
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
        assert not any("hostPort" in port for port in container.get("ports", []))
        for volume in pod.spec.get("volumes", []):
            assert volume.keys() - {"name"} <= ALLOWED_VOLUMES


def test_knative_refuses_a_security_context_of_the_pod_by_default(setting: str) -> None:
    for pod in pods_of(render(setting)):
        if pod.annotations.get("serving.kserve.io/deploymentMode") == "Knative":
            assert "securityContext" not in pod.spec, pod.name
            assert "terminationGracePeriodSeconds" not in pod.spec, pod.name
            assert not any("lifecycle" in container for container in pod.spec["containers"])


def test_root_file_systems_are_read_only_and_servers_have_a_tmp(setting: str) -> None:
    for pod, container in _containers(setting):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, pod.name
        if pod.is_server:
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            assert {"name": "tmp", "emptyDir": {}} in pod.spec["volumes"]


def test_pods_get_no_token_and_say_why_they_failed(setting: str) -> None:
    for pod, container in _containers(setting):
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", pod.name


def test_images_have_a_version_and_are_not_pulled_anew(setting: str) -> None:
    for pod, container in _containers(setting):
        assert container["image"].partition(":")[2] == "0.1.0", pod.name
        assert container["imagePullPolicy"] == "IfNotPresent", pod.name


def test_containers_ask_for_cpu_and_memory_and_have_limits(setting: str) -> None:
    for pod, container in _containers(setting):
        for amounts in (container["resources"]["requests"], container["resources"]["limits"]):
            assert {"cpu", "memory"} <= amounts.keys(), pod.name


def test_servers_are_probed_where_they_listen(setting: str) -> None:
    for pod, container in _containers(setting):
        if not pod.is_server:
            continue
        read = read_predictor if _is_predictor(pod, container) else read_transformer
        port = read(container["args"], {}).server.http_port
        for probe, path in (
            ("startupProbe", "/v2/health/live"),
            ("readinessProbe", "/v2/models/emoji/ready"),
            ("livenessProbe", "/v2/health/live"),
        ):
            expected: Any = {"httpGet": {"path": path, "port": port}}
            if probe == "livenessProbe" and container["ports"][0].get("name") == "h2c":
                # Knative turns it to the port of the traffic, and gRPC understands no GET.
                expected = {"tcpSocket": {"port": container["ports"][0]["containerPort"]}}
            assert expected.items() <= container[probe].items(), (pod.name, probe)


def test_the_servers_know_their_flags_and_listen_for_others(setting: str) -> None:
    for pod, container in _containers(setting):
        if not pod.is_server:
            continue
        variables = {variable["name"]: variable["value"] for variable in container.get("env", [])}
        assert "PYTHONPATH" not in variables  # KServe refuses it
        if _is_predictor(pod, container):
            settings: Any = read_predictor(container["args"], variables)
            mounts = {Path(mount["mountPath"]) for mount in container["volumeMounts"]}
            assert {settings.base_dir, settings.lora_dir} <= mounts, pod.name
            assert settings.default_look in ("notoemoji@1", "openmoji@1")
        else:
            settings = read_transformer(container["args"], variables)
        assert settings.server.host == "0.0.0.0", pod.name
        ports = {port["containerPort"] for port in container["ports"]}
        assert ports <= {settings.server.http_port, settings.server.grpc_port}, pod.name


def test_the_transformer_finds_its_predictor(setting: str) -> None:
    for pod, container in _containers(setting):
        if not pod.is_server or _is_predictor(pod, container):
            continue
        settings = read_transformer(container["args"], {})
        neighbours = [other for other in pod.spec["containers"] if _is_predictor(pod, other)]
        if neighbours:
            theirs = read_predictor(neighbours[0]["args"], {}).server
            assert settings.predictor_protocol == "grpc-v2"
            assert settings.predictor_host == f"localhost:{theirs.grpc_port}"
        else:  # a Knative service has port 80, and the predictor's speaks HTTP/1
            assert settings.predictor_protocol == "v2"
            assert settings.predictor_host == "emoji-predictor.emoji"


def test_a_stopping_pod_has_time_for_the_requests_it_accepted(setting: str) -> None:
    for pod in pods_of(render(setting)):
        if not pod.is_server:
            continue
        transformers = [c for c in pod.spec["containers"] if not _is_predictor(pod, c)]
        for container in pod.spec["containers"]:
            server = (read_transformer if container in transformers else read_predictor)(
                container["args"], {}
            ).server
            assert server.drain_delay + server.grace_period < pod.seconds_to_stop, pod.name
            assert server.grace_period >= 120, "as long as a transformer waits for its predictor"
        if len(pod.spec["containers"]) == 2:
            predictor = next(c for c in pod.spec["containers"] if c not in transformers)
            before = read_transformer(transformers[0]["args"], {}).server.drain_delay
            after = read_predictor(predictor["args"], {}).server.drain_delay
            assert 5 <= before < after, "the gateway must notice, then the transformer's last requests arrive"
