"""The store in ordinary use: versions, references, aliases, and what it refuses."""

from pathlib import Path

import pytest
import torch

from tests.weights.loras import make_manifest, make_tensors
from weights.errors import InvalidName, LoraInUse, UnknownLora, WeightsError
from weights.manifest import RESERVED
from weights.store import Store


def snapshot(root: Path) -> dict[str, bytes | None]:
    """Every path below `root` with its bytes."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def test_an_absent_store_is_empty(store: Store) -> None:
    assert store.versions() == []
    assert store.aliases() == {}
    assert not store.root.exists()


def test_versions_are_numbered_and_come_back_as_they_went_in(store: Store) -> None:
    first = store.add(make_tensors(1), make_manifest())
    second = store.add(make_tensors(2), make_manifest())
    other = store.add(make_tensors(3), make_manifest("openmoji"))
    assert [str(version) for version in store.versions()] == ["notoemoji@1", "notoemoji@2", "openmoji@1"]
    assert store.versions() == [first, second, other]
    for seed, version in ((1, first), (2, second), (3, other)):
        loaded = store.load(version)
        wanted = make_tensors(seed)
        assert loaded.keys() == wanted.keys()
        assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)


def test_references(store: Store) -> None:
    store.add(make_tensors(1), make_manifest())
    assert str(store.resolve("notoemoji")) == "notoemoji@1"
    store.add(make_tensors(2), make_manifest())
    assert str(store.resolve("notoemoji")) == "notoemoji@2"
    store.set_alias("stable", store.resolve("notoemoji@1"))
    store.set_alias("canary", store.resolve("notoemoji@2"))
    assert str(store.resolve("notoemoji")) == "notoemoji@1"
    assert str(store.resolve("notoemoji@canary")) == "notoemoji@2"
    assert store.aliases() == {"notoemoji": {"canary": 2, "stable": 1}}
    store.remove_alias("notoemoji", "stable")
    assert str(store.resolve("notoemoji")) == "notoemoji@2"


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "@",
        "x",
        "notoemoji@",
        "notoemoji@2",
        "notoemoji@01",
        "notoemoji@x",
        "notoemoji@1@1",
        "..",
        "../loras",
        "a/b@1",
    ],
)
def test_unknown_references_name_what_there_is(store: Store, reference: str) -> None:
    store.add(make_tensors(), make_manifest())
    with pytest.raises(UnknownLora, match=r"Known: notoemoji|There are: 1"):
        store.resolve(reference)


def test_an_alias_comes_with_its_version(store: Store) -> None:
    store.add(make_tensors(1), make_manifest(), alias="stable")
    store.add(make_tensors(2), make_manifest(), alias="stable")
    assert store.aliases() == {"notoemoji": {"stable": 2}}


def test_removal(store: Store) -> None:
    for seed in range(3):
        store.add(make_tensors(seed), make_manifest())
    store.set_alias("stable", store.resolve("notoemoji@3"))
    with pytest.raises(LoraInUse, match="stable"):
        store.remove("notoemoji", 3)
    store.remove("notoemoji", 1)
    store.remove("notoemoji", 3, force=True)
    assert store.references() == [("notoemoji", 2)]
    assert store.aliases() == {}
    assert not (store.root / "notoemoji" / "3").exists()
    for name, number in (("notoemoji", 1), ("notoemoji", 9), ("x", 1)):
        with pytest.raises(UnknownLora):
            store.remove(name, number)


def test_a_number_is_never_given_twice(store: Store) -> None:
    store.add(make_tensors(1), make_manifest())
    store.remove("notoemoji", 1)
    assert store.versions() == []
    with pytest.raises(UnknownLora):
        store.resolve("notoemoji")
    assert str(store.add(make_tensors(2), make_manifest())) == "notoemoji@2"


@pytest.mark.parametrize(("name", "alias"), [("Noto", None), ("../x", None), ("noto", "1"), ("noto", "../x")])
def test_bad_names_write_nothing(store: Store, name: str, alias: str | None) -> None:
    with pytest.raises(InvalidName):
        store.add(make_tensors(), make_manifest(name), alias=alias)
    assert not store.root.exists()


@pytest.mark.parametrize("name", RESERVED)
def test_a_name_with_a_meaning_of_its_own_is_not_given(store: Store, name: str) -> None:
    with pytest.raises(InvalidName, match="the predictor"):
        store.add(make_tensors(), make_manifest(name))
    assert not store.root.exists()


def test_wrong_commands_change_nothing(store: Store) -> None:
    version = store.add(make_tensors(), make_manifest(), alias="stable")
    before = snapshot(store.root)
    for command in (
        lambda: store.remove("notoemoji", 1),
        lambda: store.remove("notoemoji", 7),
        lambda: store.remove("openmoji", 1),
        lambda: store.remove_alias("notoemoji", "nightly"),
        lambda: store.remove_alias("../x", "nightly"),
        lambda: store.set_alias("a b", version),
        lambda: store.add(make_tensors(), make_manifest(source="two\nlines")),
        lambda: store.add(make_tensors(), make_manifest(), alias="No"),
    ):
        with pytest.raises(WeightsError):
            command()
        assert snapshot(store.root) == before


def test_foreign_folders_are_not_looked_at(store: Store) -> None:
    store.add(make_tensors(), make_manifest())
    (store.root / "lost+found").mkdir()
    (store.root / "empty").mkdir()
    (store.root / "README.md").write_text("hello")
    assert store.references() == [("notoemoji", 1)]
