"""The chart asks the cluster for the mode of a release that is installed: a small API server answers here."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.render import CHART, run

pytestmark = pytest.mark.manifests

GROUP = "/apis/serving.kserve.io/v1beta1"
RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "serving.kserve.io/v1beta1",
    "resources": [
        {"name": "inferenceservices", "namespaced": True, "kind": "InferenceService", "verbs": ["get"]}
    ],
}
NOT_FOUND = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}


@contextmanager
def _cluster(*services: dict[str, Any]) -> Iterator[str]:
    """The address of an API server that knows KServe and has these InferenceServices in namespace emoji."""
    known = {GROUP: RESOURCES} | {
        f"{GROUP}/namespaces/emoji/inferenceservices/{service['metadata']['name']}": service
        for service in services
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = known.get(self.path.partition("?")[0])
            body = json.dumps(found or NOT_FOUND).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _upgrade(address: str, mode: str, folder: Path, fails: bool = False) -> str:
    arguments = ["--dry-run=server", "--kube-apiserver", address, "--set", f"mode={mode}"]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch()
    return run(
        "helm", "template", "emoji", CHART, "-n", "emoji", "--kubeconfig", kubeconfig, *arguments, fails=fails
    )


def test_another_mode_than_the_one_installed_is_refused(tmp_path: Path) -> None:
    installed = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "emoji", "annotations": {"serving.kserve.io/deploymentMode": "Knative"}},
    }
    with _cluster(installed) as address:
        assert "installed in mode Knative" in _upgrade(address, "Standard", tmp_path, fails=True)
        _upgrade(address, "Knative", tmp_path)


def test_where_nothing_is_installed_any_mode_will_do(tmp_path: Path) -> None:
    with _cluster() as address:
        for mode in ("Knative", "Standard"):
            _upgrade(address, mode, tmp_path)
