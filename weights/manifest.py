"""The manifest that lies beside each adapter: what it is, what it fits, where it came from.

Knows the JSON form and its rules; does not know where manifests are kept or how LoRAs are made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weights.errors import CorruptLora, InvalidName

FORMAT = 1
MAX_RANK = 256
MAX_BYTES = 4 << 20
MAX_TEXT = 4096
MAX_LABELS = 64

# Names become model names of the Open Inference Protocol and values of Kubernetes labels.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
ALIAS = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
RESERVED = ("emoji", "none")
"""Names that no LoRA may have: to a predictor they are the default look and the plain base."""
LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
MODULE_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
SHA256 = re.compile(r"[0-9a-f]{64}")
CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Target:
    """One adapted module of the UNet.

    Args:
        rank: rows of lora_A.
        alpha: the alpha of the training run; alpha / rank is already folded into the stored lora_B.
        shape: (d_out, d_in) of the base's weight, 1x1 convolutions as matrices.
    """

    rank: int
    alpha: float
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything known about one version of one LoRA; see `to_json` for the stored form.

    Args:
        name, version: identity in the store.
        sha256: of adapter.safetensors.
        created: UTC, ISO 8601 to the second, ending in Z.
        base_sha256: `weights.base.Base.sha256` of the model it was checked against.
        targets: UNet module path to what is adapted there.
        labels: free key/value pairs under the rules of Kubernetes labels.
        source, license, attribution: where it came from and on which terms (SPDX where one exists).
    """

    name: str
    version: int
    sha256: str
    created: str
    base_sha256: str
    targets: Mapping[str, Target]
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    license: str = ""
    attribution: str = ""

    @property
    def rank(self) -> int:
        """The largest rank over the targets."""
        return max(target.rank for target in self.targets.values())

    @property
    def alpha(self) -> float | None:
        """The alpha of all targets, None where they differ."""
        alphas = {target.alpha for target in self.targets.values()}
        return alphas.pop() if len(alphas) == 1 else None

    def to_json(self) -> bytes:
        """The stored form: UTF-8 JSON, fixed field order, targets and labels sorted, final newline."""
        document = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "created": self.created,
            "base_sha256": self.base_sha256,
            "rank": self.rank,
            "alpha": self.alpha,
            "labels": dict(sorted(self.labels.items())),
            "source": self.source,
            "license": self.license,
            "attribution": self.attribution,
        }
        head = json.dumps(document, indent=2, ensure_ascii=False).removesuffix("\n}")
        # One line a target: there can be hundreds, and a manifest is also read by people.
        targets = ",\n".join(
            f"    {json.dumps(path)}: "
            + json.dumps({"rank": t.rank, "alpha": t.alpha, "shape": list(t.shape)})
            for path, t in sorted(self.targets.items())
        )
        return f'{head},\n  "targets": {{\n{targets}\n  }}\n}}\n'.encode()

    @classmethod
    def from_json(cls, data: bytes, file: str) -> Manifest:
        """Parses the stored form; every field must be there, no other may.

        Raises:
            CorruptLora: naming `file`, the field and the remedy.
        """
        return _Reader(file).manifest(data)


def check_name(name: str) -> str:
    """Returns `name`; raises InvalidName unless it may name a LoRA."""
    return _checked(NAME, name, "a LoRA's name", "Use 1 to 63 of a-z, 0-9 and -, with no - at either end")


def check_alias(alias: str) -> str:
    """Returns `alias`; raises InvalidName unless it may name an alias (and cannot be read as a version)."""
    return _checked(ALIAS, alias, "an alias", "Use 1 to 63 of a-z, 0-9 and -, beginning with a letter")


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Returns `labels`; raises InvalidName unless keys and values may be Kubernetes labels."""
    remedy = "Use at most 63 of A-Z, a-z, 0-9, '.', '_' and '-', alphanumeric at both ends"
    if len(labels) > MAX_LABELS:
        raise InvalidName(f"{len(labels)} labels", remedy=f"Give at most {MAX_LABELS}")
    for key, value in labels.items():
        _checked(LABEL_KEY, key, "a label's key", remedy)
        _checked(LABEL_VALUE, value, "a label's value", remedy)
    return labels


def check_text(text: str, field_name: str) -> str:
    """Returns `text`; raises InvalidName where it is too long or holds control characters."""
    if len(text) > MAX_TEXT or any(not c.isprintable() for c in text):
        raise InvalidName(
            f"not fit to be stored as {field_name}",
            remedy=f"Give one printable line of at most {MAX_TEXT} characters",
        )
    return text


def _checked(rule: re.Pattern[str], text: str, what: str, remedy: str) -> str:
    if not rule.fullmatch(text):
        raise InvalidName(f"{text[:80]!r} cannot be {what}", remedy=remedy)
    return text


class _Reader:
    """Strict reading of one manifest: knows the file's name for its errors."""

    def __init__(self, file: str) -> None:
        self.file = file

    def refuse(self, key: str | None, problem: str) -> CorruptLora:
        return CorruptLora(
            problem,
            file=self.file,
            key=key,
            remedy="Restore the file from its source or import the LoRA again",
        )

    def pairs(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(items)
        if len(document) != len(items):
            raise self.refuse(None, "a field is given twice")
        return document

    def constant(self, text: str) -> float:
        raise self.refuse(None, f"{text} is not a number of JSON")

    def fields(self, value: Any, key: str, names: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.refuse(key, "must be a JSON object")
        for name in names:
            if name not in value:
                raise self.refuse(name, "is missing")
        for name in value:
            if name not in names:
                raise self.refuse(name, "is not a field of a manifest")
        return value

    def text(self, value: Any, key: str, rule: re.Pattern[str] | None = None) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise self.refuse(key, f"must be a text of at most {MAX_TEXT} characters")
        if rule is not None and not rule.fullmatch(value):
            raise self.refuse(key, f"{value[:80]!r} breaks the rule {rule.pattern}")
        return value

    def integer(self, value: Any, key: str, most: int) -> int:
        if type(value) is not int or not 1 <= value <= most:
            raise self.refuse(key, f"must be an integer from 1 to {most}")
        return value

    def target(self, path: str, value: Any) -> Target:
        self.text(path, "targets", MODULE_PATH)
        entry = self.fields(value, path, ("rank", "alpha", "shape"))
        alpha, shape = entry["alpha"], entry["shape"]
        if type(alpha) not in (int, float) or not math.isfinite(alpha) or alpha <= 0:
            raise self.refuse(path, "alpha must be a finite number above 0")
        if not isinstance(shape, list) or len(shape) != 2:
            raise self.refuse(path, "shape must be [d_out, d_in]")
        d_out, d_in = (self.integer(size, path, 1 << 20) for size in shape)
        return Target(self.integer(entry["rank"], path, MAX_RANK), float(alpha), (d_out, d_in))

    def manifest(self, data: bytes) -> Manifest:
        if len(data) > MAX_BYTES:
            raise self.refuse(None, f"is larger than {MAX_BYTES} bytes")
        try:
            document = json.loads(data.decode(), object_pairs_hook=self.pairs, parse_constant=self.constant)
        except (ValueError, RecursionError) as error:
            raise self.refuse(None, f"is not JSON ({error})") from None
        if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
            raise CorruptLora(
                f"format {document['format']!r} is unknown",
                file=self.file,
                key="format",
                remedy="Upgrade this program",
            )
        names = ("format", "name", "version", "sha256", "created", "base_sha256", "rank", "alpha", "labels")
        entry = self.fields(document, "manifest", (*names, "source", "license", "attribution", "targets"))
        if not isinstance(entry["targets"], dict) or not entry["targets"]:
            raise self.refuse("targets", "must be an object with at least one module")
        if not isinstance(entry["labels"], dict) or len(entry["labels"]) > MAX_LABELS:
            raise self.refuse("labels", f"must be an object with at most {MAX_LABELS} fields")
        manifest = Manifest(
            name=self.text(entry["name"], "name", NAME),
            version=self.integer(entry["version"], "version", 1 << 31),
            sha256=self.text(entry["sha256"], "sha256", SHA256),
            created=self.text(entry["created"], "created", CREATED),
            base_sha256=self.text(entry["base_sha256"], "base_sha256", SHA256),
            targets={path: self.target(path, value) for path, value in entry["targets"].items()},
            labels={
                self.text(key, "labels", LABEL_KEY): self.text(value, key, LABEL_VALUE)
                for key, value in entry["labels"].items()
            },
            source=self.text(entry["source"], "source"),
            license=self.text(entry["license"], "license"),
            attribution=self.text(entry["attribution"], "attribution"),
        )
        if (entry["rank"], entry["alpha"]) != (manifest.rank, manifest.alpha):
            raise self.refuse("rank", "rank and alpha do not sum up the targets")
        return manifest
