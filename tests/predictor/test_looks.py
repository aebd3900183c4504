from pathlib import Path

import pytest

from predictor.errors import UnknownModel
from predictor.looks import Looks, UnusableLook, read_looks
from tests.weights.loras import make_manifest, make_tensors
from weights.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "loras")
    for name in ("openmoji", "notoemoji", "notoemoji"):
        store.add(make_tensors(), make_manifest(name))
    return store


def test_names_versions_and_aliases_become_exact_versions(store: Store) -> None:
    store.set_alias("stable", store.resolve("notoemoji@1"))
    looks = read_looks(store, None)
    assert looks.references == {
        "notoemoji": "notoemoji@1",
        "openmoji": "openmoji@1",
        "notoemoji@1": "notoemoji@1",
        "notoemoji@2": "notoemoji@2",
        "openmoji@1": "openmoji@1",
        "notoemoji@stable": "notoemoji@1",
    }
    assert looks.default == "notoemoji"
    assert looks.resolve("notoemoji@stable") == "notoemoji@1"
    assert looks.resolve("none") is None
    with pytest.raises(UnknownModel, match="notoemoji@3"):
        looks.resolve("notoemoji@3")


def test_versions_are_in_the_order_of_their_numbers() -> None:
    exact = {f"a@{number}": f"a@{number}" for number in (10, 9, 1)}
    looks = Looks({"a": "a@10", "ab": "ab@2", **exact, "ab@2": "ab@2"}, None)
    assert looks.versions("a") == looks.versions("a@9") == ["1", "9", "10"]
    assert looks.versions("ab") == ["2"]
    assert looks.versions(None) == []


def test_the_default_look_is_what_was_wanted_if_it_is_there(store: Store, tmp_path: Path) -> None:
    assert read_looks(store, "openmoji@1").default == "openmoji@1"
    assert read_looks(store, "none").default is None
    with pytest.raises(UnusableLook, match="default look 'openmoji@2'"):
        read_looks(store, "openmoji@2")
    empty = Store(tmp_path / "nothing")
    assert read_looks(empty, None) == Looks({}, None)
    with pytest.raises(UnusableLook, match="no LoRA"):
        read_looks(empty, "notoemoji")


@pytest.mark.parametrize("name", ["emoji", "none"])
def test_a_lora_may_not_take_a_name_of_the_server(store: Store, name: str) -> None:
    store.add(make_tensors(), make_manifest(name))
    with pytest.raises(UnusableLook, match=repr(name)):
        read_looks(store, None)


def test_the_looks_are_read_without_the_tensors(store: Store) -> None:
    for adapter in store.root.glob("*/*/adapter.safetensors"):
        adapter.unlink()
    assert "openmoji@1" in read_looks(store, None).references
