"""What is read at each scrape, where no process of the tests has it: the memory of a CUDA device."""

from types import SimpleNamespace

import pytest
import torch
from prometheus_client import CollectorRegistry

from predictor.engine.admission import Costs
from predictor.engine.cost_model import CostModel
from predictor.gauges import Gauges
from tests.metric_rules import check


def read() -> dict[str, float]:
    costs = Costs(step=CostModel(), decode=CostModel())
    engine = SimpleNamespace(
        queue_depth=1, queue_age=0.5, queue_seconds=2.0, active_rows=3, threads=2, costs=costs
    )
    registry = CollectorRegistry()
    registry.register(
        Gauges(engine, SimpleNamespace(adapters=("a@1",), resident_adapters=(), padding_share=0.25))
    )
    families = list(registry.collect())
    for family in families:
        check(family)
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_without_cuda_there_is_no_device_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert read() == {
        "emoji_queue_rows": 1,
        "emoji_queue_age_seconds": 0.5,
        "emoji_queue_work_seconds": 2.0,
        "emoji_active_rows": 3,
        "emoji_compute_threads": 2,
        "emoji_loras": 1,
        "emoji_padding_ratio": 0.25,
        "emoji_resident_loras": 0,
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_memory_of_a_cuda_device_is_told() -> None:
    held = torch.zeros(1 << 20, device="cuda")
    found = read()
    memory = [found[f"emoji_device_memory_{kind}_bytes"] for kind in ("allocated", "reserved", "limit")]
    assert held.numel() * 4 <= memory[0] <= memory[1] <= memory[2]
