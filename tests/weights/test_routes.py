import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.weights.loras import make_manifest, make_tensors
from weights import routes
from weights.errors import InvalidRoute, LoraInUse, StoreUnavailable, UnknownLora
from weights.store import Store

CANARY = {"notoemoji@1": 90, "openmoji@1": 10}

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda n: n != "none")
VERSIONS = st.builds("{}@{}".format, NAMES, st.integers(1, 999_999_999))


@st.composite
def shares(draw: st.DrawFn) -> dict[str, int]:
    versions = draw(st.lists(VERSIONS, min_size=1, max_size=5, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(versions) - 1, max_size=len(versions) - 1)))
    return {
        version: high - low for version, low, high in zip(versions, [0, *cuts], [*cuts, 100], strict=True)
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "loras")
    for name in ("notoemoji", "openmoji"):
        store.add(make_tensors(), make_manifest(name))
    return store


@given(st.dictionaries(NAMES, shares()))
def test_what_is_written_can_be_read(document: dict[str, dict[str, int]]) -> None:
    read = routes.from_json(routes.to_json(document), Path("routes.json"))
    assert read == document
    assert list(read) == sorted(document)


@given(st.binary() | st.recursive(st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_garbage_is_refused_or_a_document(garbage: Any) -> None:
    data = garbage if isinstance(garbage, bytes) else json.dumps(garbage).encode()
    refusal = ""
    read: dict[str, dict[str, int]] = {}
    try:
        read = routes.from_json(data, Path("routes.json"))
    except InvalidRoute as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith("routes.json")
    assert all(sum(found.values()) == 100 for found in read.values())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is no object of names"),
        ("[]", "is no object of names"),
        ('{"Emoji": {"a@1": 100}}', "is no name"),
        ('{"none": {"a@1": 100}}', "the plain base"),
        ('{"emoji": []}', "is no object of versions"),
        ('{"emoji": {}}', "make 0 %"),
        ('{"emoji": {"a@1": 90}}', "make 90 %"),
        ('{"emoji": {"a@1": 90, "b@1": 20}}', "make 110 %"),
        ('{"emoji": {"a@1": 110, "b@1": -10}}', "no whole percent"),
        ('{"emoji": {"a@1": 99.5, "b@1": 0.5}}', "no whole percent"),
        ('{"emoji": {"a@1": true, "b@1": 99}}', "no whole percent"),
        ('{"emoji": {"a@1": "100"}}', "no whole percent"),
        ('{"emoji": {"a": 100}}', "no exact version"),
        ('{"emoji": {"a@stable": 100}}', "no exact version"),
        ('{"emoji": {"a@0": 100}}', "no exact version"),
        ('{"emoji": {"a@1\\n": 100}}', "no exact version"),
        ('{"a": {"%s": 100}}' % ("x" * (1 << 20)), "more than 1048576 bytes"),
    ],
)
def test_a_wrong_document_says_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "routes.json"
    file.write_bytes(text.encode("latin-1") if text != "\xff" else b'"x"')
    with pytest.raises(InvalidRoute, match=problem) as raised:
        routes.read(file)
    assert str(file) in str(raised.value)


def test_no_file_is_no_routes_and_a_folder_is_none(tmp_path: Path) -> None:
    assert routes.read(tmp_path / "routes.json") == {}
    with pytest.raises(InvalidRoute, match="cannot be read"):
        routes.read(tmp_path)


def test_the_file_of_a_mounted_configmap_is_read(tmp_path: Path) -> None:
    """The file is a link to ..data/routes.json, and ..data one to a folder; a change swaps the latter."""
    for number, document in enumerate(({"emoji": {"a@1": 100}}, {"emoji": {"a@1": 50, "b@1": 50}})):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "routes.json").write_text(json.dumps(document))
        (tmp_path / "..tmp").symlink_to(folder.name)
        os.replace(tmp_path / "..tmp", tmp_path / "..data")
        if not number:
            (tmp_path / "routes.json").symlink_to("..data/routes.json")
        assert routes.read(tmp_path / "routes.json") == document


def test_a_route_in_the_store(store: Store) -> None:
    assert store.routes() == {}
    store.set_route("emoji", CANARY)
    store.set_route("party", {"openmoji@1": 100})
    store.set_route("emoji", CANARY | {"notoemoji@1": 80, "openmoji@1": 20})
    assert store.routes() == {
        "emoji": {"notoemoji@1": 80, "openmoji@1": 20},
        "party": {"openmoji@1": 100},
    }
    store.remove_route("emoji")
    assert store.routes() == {"party": {"openmoji@1": 100}}
    assert store.references() == [("notoemoji", 1), ("openmoji", 1)]


def test_a_route_names_versions_that_are_there(store: Store) -> None:
    store.set_route("emoji", CANARY)
    for wrong in ({"openmoji@2": 100}, {"notoemoji@1": 90, "nope@1": 10}):
        with pytest.raises(UnknownLora):
            store.set_route("emoji", wrong)
    with pytest.raises(InvalidRoute):
        store.set_route("emoji", {"notoemoji@1": 99})
    with pytest.raises(UnknownLora, match="no route"):
        store.remove_route("party")
    assert store.routes() == {"emoji": CANARY}


def test_a_version_in_a_route_stays(store: Store) -> None:
    store.set_route("emoji", CANARY)
    with pytest.raises(LoraInUse, match="in the route emoji"):
        store.remove("openmoji", 1, force=True)
    store.remove_route("emoji")
    store.remove("openmoji", 1)


def test_an_absent_store_is_not_made_for_a_route(tmp_path: Path) -> None:
    store = Store(tmp_path / "loras")
    with pytest.raises(UnknownLora):
        store.set_route("emoji", CANARY)
    with pytest.raises(StoreUnavailable):
        store.remove_route("emoji")
    assert not store.root.exists()
