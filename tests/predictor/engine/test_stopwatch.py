"""Calls timed by the host's clock, and by a GPU's events."""

import pytest

from predictor.engine.stopwatch import CudaStopwatch, HostStopwatch
from tests.predictor.engine.pretended_events import Device


def test_the_host_knows_at_once():
    now = 5.0
    watch = HostStopwatch(lambda: now)
    with watch.time("a"):
        now += 2
    with pytest.raises(ZeroDivisionError), watch.time("fails"):
        _ = 1 / 0
    with watch.time("b"):
        now += 1
    assert watch.read() == [("a", 2.0), ("b", 1.0)]
    assert watch.read() == []


def test_a_call_is_known_when_the_device_has_computed_it(monkeypatch):
    device = Device()
    monkeypatch.setattr("torch.cuda.Event", device.event)
    watch = CudaStopwatch()
    for label, seconds in (("a", 0.5), ("b", 0.25), ("c", 2.0)):
        with watch.time(label):
            device.asked += seconds
    assert watch.read() == []
    device.done = 0.8
    assert watch.read() == [("a", 0.5), ("b", 0.25)]
    with pytest.raises(ZeroDivisionError), watch.time("fails"):
        _ = 1 / 0
    device.done = 3.0
    assert watch.read() == [("c", 2.0)]
