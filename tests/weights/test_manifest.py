import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weights.errors import CorruptLora, InvalidName
from weights.manifest import (
    LABEL_KEY,
    LABEL_VALUE,
    MAX_BYTES,
    NAME,
    Manifest,
    Target,
    check_alias,
    check_labels,
    check_name,
    check_text,
)

MANIFEST = Manifest(
    name="notoemoji",
    version=3,
    sha256="0123456789abcdef" * 4,
    created="2026-01-02T03:04:05Z",
    base_sha256="fedcba9876543210" * 4,
    targets={
        "mid_block.attentions.0.proj_in": Target(4, 8.0, (64, 32)),
        "down_blocks.0.attentions.0.proj_out": Target(16, 8.0, (64, 64)),
    },
    labels={"stage": "trial", "data": "noto-2.047"},
    source="runs/이모지",
    license="OFL-1.1",
    attribution="Noto Emoji authors",
)

# Stored manifests must stay readable: a change here needs a new format number.
GOLDEN = """\
{
  "format": 1,
  "name": "notoemoji",
  "version": 3,
  "sha256": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
  "created": "2026-01-02T03:04:05Z",
  "base_sha256": "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
  "rank": 16,
  "alpha": 8.0,
  "labels": {
    "data": "noto-2.047",
    "stage": "trial"
  },
  "source": "runs/이모지",
  "license": "OFL-1.1",
  "attribution": "Noto Emoji authors",
  "targets": {
    "down_blocks.0.attentions.0.proj_out": {"rank": 16, "alpha": 8.0, "shape": [64, 64]},
    "mid_block.attentions.0.proj_in": {"rank": 4, "alpha": 8.0, "shape": [64, 32]}
  }
}
"""

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
sizes = st.integers(1, 1 << 20)
manifests = st.builds(
    Manifest,
    name=st.from_regex(NAME, fullmatch=True),
    version=st.integers(1, 1 << 31),
    sha256=st.just("a" * 64),
    created=st.just("2026-01-02T03:04:05Z"),
    base_sha256=st.just("b" * 64),
    targets=st.dictionaries(
        st.from_regex(re.compile(r"[a-z_]{1,9}(\.[a-z0-9_]{1,5}){0,3}"), fullmatch=True),
        st.builds(
            Target,
            rank=st.integers(1, 256),
            alpha=st.floats(0, 1e6, exclude_min=True, allow_nan=False),
            shape=st.tuples(sizes, sizes),
        ),
        min_size=1,
        max_size=5,
    ),
    labels=st.dictionaries(
        st.from_regex(LABEL_KEY, fullmatch=True), st.from_regex(LABEL_VALUE, fullmatch=True), max_size=3
    ),
    source=texts,
    license=texts,
    attribution=texts,
)


def test_golden_bytes() -> None:
    assert MANIFEST.to_json() == GOLDEN.encode()
    assert Manifest.from_json(GOLDEN.encode(), "manifest.json") == MANIFEST


def test_alpha_is_none_where_targets_differ() -> None:
    targets = {"a": Target(2, 1.0, (3, 3)), "b": Target(5, 2.0, (3, 3))}
    manifest = Manifest("x", 1, "a" * 64, "2026-01-02T03:04:05Z", "b" * 64, targets)
    assert manifest.alpha is None
    assert manifest.rank == 5
    assert json.loads(manifest.to_json())["alpha"] is None


@given(manifests)
def test_what_is_written_is_read(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json(), "manifest.json") == manifest


@given(st.data())
def test_every_field_is_required_and_no_other_allowed(data: st.DataObject) -> None:
    document = json.loads(GOLDEN)
    field = data.draw(st.sampled_from(sorted(document)))
    if data.draw(st.booleans()) and field != "format":
        del document[field]
    else:
        field = "surprise"
        document[field] = 1
    with pytest.raises(CorruptLora, match=field):
        Manifest.from_json(json.dumps(document).encode(), "m.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../up"),
        ("name", "x\n"),
        ("version", True),
        ("version", 0),
        ("version", 1.0),
        ("sha256", "A" * 64),
        ("created", "yesterday"),
        ("base_sha256", None),
        ("rank", 15),
        ("alpha", 7),
        ("labels", []),
        ("labels", {"a b": ""}),
        ("labels", {"a": 1}),
        ("source", 5),
        ("source", "x" * 5000),
        ("targets", {}),
        ("targets", {"../x": {"rank": 1, "alpha": 1, "shape": [1, 1]}}),
        ("targets", {"a": {"rank": 257, "alpha": 1, "shape": [1, 1]}}),
        ("targets", {"a": {"rank": 1, "alpha": 0, "shape": [1, 1]}}),
        ("targets", {"a": {"rank": 1, "alpha": 1, "shape": [1]}}),
        ("targets", {"a": {"rank": 1, "alpha": 1, "shape": [1, -1]}}),
        ("targets", {"a": {"rank": 1, "alpha": 1, "shape": [1, 1], "bias": 1}}),
        ("format", 2),
    ],
)
def test_wrong_values_are_refused(field: str, value: Any) -> None:
    document = {**json.loads(GOLDEN), field: value}
    with pytest.raises(CorruptLora) as caught:
        Manifest.from_json(json.dumps(document).encode(), "m.json")
    assert caught.value.file == "m.json"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"null",
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
        GOLDEN.replace("8.0", "NaN").encode(),
        GOLDEN.replace("8.0", "1e999").encode(),
        GOLDEN.replace('"format": 1,', '"format": 1, "format": 1,').encode(),
        GOLDEN.encode()[:-3],
    ],
    ids=["empty", "list", "bytes", "null", "deep", "large", "nan", "inf", "twice", "cut"],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptLora, match=r"^m\.json: "):
        Manifest.from_json(data, "m.json")


@pytest.mark.parametrize("name", ["a", "0", "notoemoji", "a-1", "x" * 63])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a_b", "a/b", "..", "a@1", "a\n", "x" * 64, "이모지"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        check_name(name)


def test_an_alias_cannot_be_read_as_a_version() -> None:
    assert check_alias("stable") == "stable"
    with pytest.raises(InvalidName):
        check_alias("1")


def test_labels_and_texts() -> None:
    check_labels({"a": "", "b.c": "D_e"})
    for labels in ({"": "a"}, {"a": "b c"}, {"a": "-"}, {str(n): "" for n in range(65)}):
        with pytest.raises(InvalidName):
            check_labels(labels)
    assert check_text("한글 text", "source") == "한글 text"
    for text in ("two\nlines", "x" * 5000, "\x1b[31m"):
        with pytest.raises(InvalidName):
            check_text(text, "source")
