"""Versions of a store that come, go, come back or are damaged while it is served."""

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from predictor.looks import live
from predictor.looks.live import LiveLooks
from tests.predictor.looks.held import ALL, Held
from tests.weights.loras import make_manifest, make_tensors
from weights.store import Store


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.message != "looks"]


def test_a_version_that_is_new_is_loaded_and_then_counts(
    store: Store, looks: LiveLooks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    held = Held(*ALL)
    before = looks.current
    store.add(make_tensors(), make_manifest("notoemoji"), alias="canary")
    looks.refresh()
    assert looks.current == before, "not before it is loaded"

    class Slow(Held):
        async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
            assert looks.current == before
            await super().add_adapter(name, tensors)

    slow = Slow(*ALL)
    asyncio.run(looks.follow(slow))
    assert slow.names == {*held.names, "notoemoji@3"}
    assert (
        looks.current.references["notoemoji"] == looks.current.references["notoemoji@canary"] == "notoemoji@3"
    )
    assert before.references["notoemoji"] == "notoemoji@2", "a request under way keeps its looks"
    assert told(caplog) == ["notoemoji@3 is served from now on"]
    store.set_route("emoji", {"notoemoji@3": 100})
    looks.refresh()
    assert looks.current.route("emoji") == {"notoemoji@3": 100}


def test_a_version_that_is_gone_is_dropped_once_nobody_uses_it(store: Store, looks: LiveLooks) -> None:
    async def scenario() -> None:
        held = Held(*ALL)
        held.busy["notoemoji@2"] = asyncio.Event()
        store.remove("notoemoji", 2)
        await looks.follow(held)
        assert "notoemoji@2" not in looks.current.models
        assert looks.current.references["notoemoji"] == "notoemoji@1"
        await looks.follow(held)
        assert held.names == set(ALL), "in use"
        held.busy["notoemoji@2"].set()
        await asyncio.gather(*looks._leaving.values())
        assert held.names == {"notoemoji@1", "openmoji@1"}

    asyncio.run(scenario())


def test_a_version_that_comes_back_while_it_leaves_is_loaded_when_it_has_left(
    store: Store, looks: LiveLooks, tmp_path: Path
) -> None:
    async def scenario() -> None:
        held = Held(*ALL)
        held.busy["notoemoji@2"] = asyncio.Event()
        shutil.copytree(store.root / "notoemoji", tmp_path / "copy")
        store.remove("notoemoji", 2)
        await looks.follow(held)
        shutil.rmtree(store.root / "notoemoji")
        shutil.copytree(tmp_path / "copy", store.root / "notoemoji")
        await looks.follow(held)
        assert "notoemoji@2" not in looks.current.models
        held.busy["notoemoji@2"].set()
        await asyncio.gather(*looks._leaving.values())
        await looks.follow(held)
        assert "notoemoji@2" in looks.current.models
        assert held.names == set(ALL)

    asyncio.run(scenario())


def test_a_damaged_version_is_not_served_until_it_is_repaired(
    store: Store, looks: LiveLooks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(*ALL)
    version = store.add(make_tensors(), make_manifest("notoemoji"), alias="stable")
    file = store.root / "notoemoji" / "3" / "adapter.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + b"x")
    tried = []
    monkeypatch.setattr(store, "load", lambda version: tried.append(number) or Store.load(store, version))
    for number in range(20):  # noqa: B007
        asyncio.run(looks.follow(held))
    assert tried == [0, 2, 6, 14], "longer and longer between two tries"
    assert looks.current.references["notoemoji"] == "notoemoji@2"
    assert "notoemoji@3" not in looks.current.models
    [line] = told(caplog)
    assert line.startswith("notoemoji@3 is not served: ")
    assert "SHA-256" in line
    file.write_bytes(sound)
    for _ in range(live.MAX_WAIT):
        asyncio.run(looks.follow(held))
    assert looks.current.references["notoemoji"] == str(version)
    assert held.names == {*ALL, "notoemoji@3"}


def test_a_defect_does_not_end_the_watch(
    store: Store, looks: LiveLooks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.001)
    store.add(make_tensors(), make_manifest("notoemoji"))

    class Defective(Held):
        async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
            await super().add_adapter(name, tensors)
            if not caplog.records:
                self.names.remove(name)
                raise ZeroDivisionError

    async def scenario() -> None:
        watching = asyncio.create_task(looks.watch(Defective(*ALL)))
        for _ in range(2000):
            if "notoemoji@3" in looks.current.models:
                break
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(scenario())
    assert "notoemoji@3" in looks.current.models
    assert "the store was not followed this time" in told(caplog)


@pytest.mark.parametrize("trouble", ["a route to a version not there yet", "the default look removed"])
def test_what_is_loaded_while_the_files_cannot_be_used_is_kept_for_when_they_can(
    store: Store, looks: LiveLooks, tmp_path: Path, trouble: str
) -> None:
    """Not dropped and loaded again at each look at them."""
    loads: list[str] = []

    class Counted(Held):
        async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
            loads.append(name)
            await super().add_adapter(name, tensors)

    async def scenario() -> None:
        held = Counted(*ALL)
        if "route" in trouble:
            (store.root / "routes.json").write_text('{"emoji": {"openmoji@2": 50, "notoemoji@9": 50}}')
        else:
            shutil.move(store.root / "notoemoji", tmp_path / "notoemoji")
        store.add(make_tensors(), make_manifest("openmoji"))
        for _ in range(5):
            await looks.follow(held)
            await asyncio.gather(*looks._leaving.values())
        assert loads == ["openmoji@2"]
        assert "openmoji@2" not in looks.current.references, "the former looks are in force"
        if "look" in trouble:
            shutil.move(tmp_path / "notoemoji", store.root / "notoemoji")
        (store.root / "routes.json").write_text('{"emoji": {"openmoji@2": 100}}')
        await looks.follow(held)
        assert looks.current.route("emoji") == {"openmoji@2": 100}
        assert (loads, held.names) == (["openmoji@2"], {*ALL, "openmoji@2"})

    asyncio.run(scenario())


class Stores(RuleBasedStateMachine):
    """A store that anyone writes to, followed by looks: they never mean what isn't loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.store = Store(Path(self.folder.name))
        self.store.add(make_tensors(), make_manifest("notoemoji"))
        self.looks = LiveLooks(self.store, "notoemoji@1", self.store.root / "routes.json")
        self.held = Held("notoemoji@1")
        self.damaged: set[str] = set()

    def teardown(self) -> None:
        self.loop.close()
        self.folder.cleanup()

    @rule(name=st.sampled_from(["notoemoji", "openmoji"]), alias=st.sampled_from([None, "stable"]))
    def add(self, name: str, alias: str | None) -> None:
        self.store.add(make_tensors(), make_manifest(name), alias=alias)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        references = [pair for pair in self.store.references() if pair != ("notoemoji", 1)]
        if references:
            name, number = data.draw(st.sampled_from(references))
            self.store.remove(name, number, force=True)

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        name, number = data.draw(st.sampled_from(self.store.references()))
        (self.store.root / name / str(number) / "adapter.safetensors").write_bytes(b"")
        self.damaged.add(f"{name}@{number}")

    @rule()
    def follow(self) -> None:
        served = set(self.looks.current.references.values())

        async def scenario() -> None:
            await self.looks.follow(self.held)
            await asyncio.gather(*self.looks._leaving.values())

        self.loop.run_until_complete(scenario())
        there = set(self.store.table().values())
        meant = set(self.looks.current.references.values())
        assert there - self.damaged <= meant, "all that is sound is served"
        assert there & served <= meant, "what is loaded stays, whatever becomes of its file"
        assert self.held.names == meant, "and nothing is held that no name means"

    @invariant()
    def names_mean_what_is_loaded(self) -> None:
        assert set(self.looks.current.references.values()) <= self.held.names


Stores.TestCase.settings = settings(deadline=None, max_examples=20, stateful_step_count=15)
TestStores = Stores.TestCase
