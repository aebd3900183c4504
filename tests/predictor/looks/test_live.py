"""Routes, aliases and the default look, read again while they are served."""

import asyncio
import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from predictor.looks import live
from predictor.looks.live import LiveLooks
from predictor.looks.looks import UnusableLook
from tests.predictor.looks.held import ALL, Held
from weights.errors import CorruptLora
from weights.store import Store

CANARY = {"notoemoji@2": 90, "openmoji@1": 10}


def test_a_route_comes_changes_and_goes(store: Store, looks: LiveLooks) -> None:
    assert looks.current.route("emoji") == {}
    store.set_route("emoji", CANARY)
    before = looks.current
    looks.refresh()
    assert looks.current.route("emoji") == CANARY
    assert before.route("emoji") == {}, "a request under way keeps its looks"
    store.set_route("emoji", {"openmoji@1": 100})
    store.set_route("party", {"notoemoji@1": 100})
    looks.refresh()
    assert looks.current.route("emoji") == {"openmoji@1": 100}
    assert looks.current.resolve("party", "") == "notoemoji@1"
    store.remove_route("emoji")
    looks.refresh()
    assert looks.current.resolve(looks.current.reference("emoji"), "") == "notoemoji@2"


def test_a_version_that_cannot_be_loaded_is_left_out(store: Store, looks: LiveLooks) -> None:
    store.set_route("emoji", CANARY)
    looks.refresh()
    looks.leave_out("notoemoji@2", CorruptLora("damaged"))
    assert "notoemoji@2" not in looks.current.references
    assert looks.current.references["notoemoji"] == "notoemoji@1", "the newest that there is"
    assert looks.current.route("emoji") == {}, "its route can't be used"
    looks.refresh()
    assert "notoemoji@2" not in looks.current.references
    with pytest.raises(UnusableLook):
        looks.leave_out(
            "notoemoji@1", CorruptLora("damaged")
        )  # else the model emoji would mean the plain base
    with pytest.raises(UnusableLook):
        LiveLooks(store, "openmoji@1", store.root / "routes.json").leave_out(
            "openmoji@1", CorruptLora("damaged")
        )


def test_a_moved_alias_counts(store: Store, looks: LiveLooks) -> None:
    store.set_alias("stable", store.resolve("notoemoji@1"))
    looks.refresh()
    assert (
        looks.current.references["notoemoji"] == looks.current.references["notoemoji@stable"] == "notoemoji@1"
    )
    store.remove_alias("notoemoji", "stable")
    looks.refresh()
    assert looks.current.references["notoemoji"] == "notoemoji@2"
    assert "notoemoji@stable" not in looks.current.models


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"emoji": ',
        '{"emoji": {"notoemoji@1": 50}}',
        '{"emoji": {"nope@1": 100}}',
        '{"none": {"notoemoji@1": 100}}',
    ],
)
def test_a_file_that_is_wrong_leaves_the_former_routes(
    store: Store, looks: LiveLooks, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    store.set_route("emoji", CANARY)
    looks.refresh()
    (store.root / "routes.json").write_text(text)
    for _ in range(3):
        looks.refresh()
    assert looks.current.route("emoji") == CANARY
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("the former looks stay in force: ")
    (store.root / "routes.json").write_text(json.dumps({"emoji": {"notoemoji@1": 100}}))
    looks.refresh()
    assert looks.current.route("emoji") == {"notoemoji@1": 100}


def test_a_start_with_a_wrong_file_serves_the_default_look(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    (store.root / "routes.json").write_text("{")
    looks = LiveLooks(store, "openmoji", store.root / "routes.json")
    assert looks.current.resolve(looks.current.reference("emoji"), "") == "openmoji@1"
    assert "is not JSON" in caplog.text


def test_what_makes_the_default_look_vanish_is_not_taken_over(store: Store) -> None:
    store.set_alias("stable", store.resolve("notoemoji@1"))
    looks = LiveLooks(store, "notoemoji@stable", store.root / "routes.json")
    before = looks.current
    store.remove_alias("notoemoji", "stable")
    looks.refresh()
    assert looks.current == before
    (store.root / "openmoji" / "index.json").write_text("{")
    looks.refresh()
    assert looks.current == before


def test_the_default_look_that_was_found_is_not_given_up(store: Store, looks: LiveLooks) -> None:
    before = looks.current
    for version in (1, 2):
        store.remove("notoemoji", version)
    looks.refresh()
    assert looks.current == before
    shutil.rmtree(store.root)
    looks.refresh()
    assert looks.current == before


def test_a_start_without_a_sound_store_or_look_is_refused(store: Store) -> None:
    with pytest.raises(UnusableLook, match=r"default look 'openmoji@2'"):
        LiveLooks(store, "openmoji@2", store.root / "routes.json")
    (store.root / "openmoji" / "index.json").write_text("{")
    with pytest.raises(CorruptLora):
        LiveLooks(store, None, store.root / "routes.json")


def test_a_configmap_that_is_swapped_is_watched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kubelet mounts it: the file is a link through ..data, which is replaced by a rename."""
    monkeypatch.setattr(live, "POLL_S", 0.01)
    volume = tmp_path / "volume"
    volume.mkdir()

    def publish(folder: str, document: object) -> None:
        (volume / folder).mkdir()
        (volume / folder / "routes.json").write_text(json.dumps(document))
        (volume / "..data_tmp").symlink_to(folder)
        os.replace(volume / "..data_tmp", volume / "..data")

    publish("..1", {"emoji": CANARY})
    (volume / "routes.json").symlink_to("..data/routes.json")
    looks = LiveLooks(store, None, volume / "routes.json")
    assert looks.current.route("emoji") == CANARY

    async def scenario() -> None:
        watching = asyncio.create_task(looks.watch(Held(*ALL)))
        publish("..2", {"emoji": {"openmoji@1": 100}})
        for _ in range(2000):
            if looks.current.route("emoji") != CANARY:
                break
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(scenario())
    assert looks.current.route("emoji") == {"openmoji@1": 100}
