"""A simulated cluster behind HTTP, for the command to act on."""

import pytest

from tests.rollout.api_server import ApiServer
from tests.rollout.command import BAD, NOTO
from tests.rollout.simulated_knative import SimulatedKnative
from tests.rollout.simulated_standard import SimulatedStandard


@pytest.fixture(params=[SimulatedKnative, SimulatedStandard])
def server(request, tmp_path, monkeypatch):
    with ApiServer(request.param(NOTO, bad={BAD})) as running:
        (tmp_path / "config").write_text(running.kubeconfig(), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield running
