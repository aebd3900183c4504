from pathlib import Path

import pytest

from predictor.contract import NO_LORA
from predictor.errors import UnknownModel
from predictor.looks.looks import EMOJI, Looks, UnusableLook, find_looks
from tests.weights.loras import make_manifest, make_tensors
from weights.manifest import RESERVED
from weights.store import Store

TABLE = {
    "notoemoji": "notoemoji@1",
    "openmoji": "openmoji@1",
    "notoemoji@1": "notoemoji@1",
    "notoemoji@2": "notoemoji@2",
    "openmoji@1": "openmoji@1",
    "notoemoji@stable": "notoemoji@1",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "loras")
    for name in ("openmoji", "notoemoji", "notoemoji"):
        store.add(make_tensors(), make_manifest(name))
    store.set_alias("stable", store.resolve("notoemoji@1"))
    return store


def test_names_versions_and_aliases_become_exact_versions(store: Store) -> None:
    looks = find_looks(store.table(), None)
    assert looks.references == TABLE
    assert looks.models == ["emoji", *TABLE]
    assert looks.default == "notoemoji"
    assert looks.resolve("notoemoji@stable", "") == "notoemoji@1"
    assert looks.mix("none", "") == ()
    with pytest.raises(UnknownModel, match="notoemoji@3"):
        looks.resolve("notoemoji@3", "")


def test_versions_are_in_the_order_of_their_numbers() -> None:
    exact = {f"a@{number}": f"a@{number}" for number in (10, 9, 1)}
    looks = Looks({"a": "a@10", "ab": "ab@2", **exact, "ab@2": "ab@2"}, "a@9")
    assert looks.versions("a") == looks.versions("a@9") == looks.versions("emoji") == ["1", "9", "10"]
    assert looks.versions("ab") == ["2"]
    assert Looks({}, None).versions("emoji") == []


def test_the_default_look_is_what_was_wanted_if_it_is_there() -> None:
    assert find_looks(TABLE, "openmoji@1").default == "openmoji@1"
    assert find_looks(TABLE, "none").default is None
    with pytest.raises(UnusableLook, match="default look 'openmoji@2'"):
        find_looks(TABLE, "openmoji@2")
    assert find_looks({}, None) == Looks({}, None)
    with pytest.raises(UnusableLook, match="no LoRA"):
        find_looks({}, "notoemoji")


def test_the_store_keeps_the_names_of_the_server_free() -> None:
    assert set(RESERVED) == {EMOJI, NO_LORA}


@pytest.mark.parametrize("name", ["emoji", "none"])
def test_a_lora_may_not_take_a_name_of_the_server(name: str) -> None:
    with pytest.raises(UnusableLook, match=repr(name)):
        find_looks({name: f"{name}@1"}, None)


def test_the_looks_are_read_without_manifests_and_tensors(store: Store) -> None:
    for file in [*store.root.glob("*/*/adapter.safetensors"), *store.root.glob("*/*/manifest.json")]:
        file.unlink()
    assert find_looks(store.table(), None).references == TABLE


def test_a_route_shares_a_name_out() -> None:
    looks = find_looks(TABLE, "openmoji@1").with_routes({"emoji": {"notoemoji@1": 50, "notoemoji@2": 50}})
    assert {looks.resolve(looks.reference("emoji"), str(key)) for key in range(20)} == {
        "notoemoji@1",
        "notoemoji@2",
    }
    assert len({looks.resolve("emoji", "a key") for _ in range(20)}) == 1
    assert looks.route("emoji") == {"notoemoji@1": 50, "notoemoji@2": 50}
    assert looks.versions("emoji") == ["1"], "emoji/versions/1 is still that of the default look"
    assert looks.models == ["emoji", *TABLE]


def test_a_route_of_a_loras_name_counts_wherever_that_name_stands() -> None:
    looks = find_looks(TABLE, None).with_routes({"notoemoji": {"notoemoji@2": 100}})
    assert looks.resolve("notoemoji", "") == looks.resolve(looks.reference("emoji"), "") == "notoemoji@2"
    assert looks.route("emoji") == {"notoemoji@2": 100}
    assert looks.resolve("notoemoji@1", "") == looks.resolve("notoemoji@stable", "") == "notoemoji@1"


def test_a_mix_means_exact_versions_whose_weights_add_up() -> None:
    looks = find_looks(TABLE, None).with_routes({"party": {"openmoji@1": 100}})
    assert looks.mix("notoemoji:0.7+openmoji:0.3", "") == (("notoemoji@1", 0.7), ("openmoji@1", 0.3))
    assert looks.mix("party:0.1+notoemoji@stable+openmoji:0.2", "") == (
        ("openmoji@1", 0.3),
        ("notoemoji@1", 1.0),
    )
    with pytest.raises(UnknownModel, match="nope"):
        looks.mix("notoemoji:0.7+nope:0.3", "")


def test_a_route_may_have_a_name_of_its_own() -> None:
    looks = find_looks(TABLE, None).with_routes({"party": {"openmoji@1": 100}})
    assert looks.models[-1] == "party"
    assert looks.resolve("party", "") == "openmoji@1"
    assert (looks.route("emoji"), looks.route("party")) == ({}, {"openmoji@1": 100})
    assert looks.versions("party") == []


def test_a_route_that_cannot_be_served_is_refused() -> None:
    with pytest.raises(UnusableLook, match="route 'emoji': openmoji@2 is not served here"):
        find_looks(TABLE, None).with_routes({"emoji": {"openmoji@2": 100}})
