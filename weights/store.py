"""The store of LoRA versions: immutable, numbered, aliased, and whole after a kill at any point.

    <root>/<name>/index.json   which versions and aliases exist
    <root>/<name>/<version>/   one version, see weights/version.py
    <root>/routes.json         weighted aliases across names, see weights/routes.py
    <root>/.lock               held by the one writer; readers need no lock
    <root>/.tmp-*              a write under way, or what a killed one left behind

A change becomes visible by one rename of index.json or routes.json, and what is written before it is not
looked at, so a reader sees the store as it was or as it is to be. Numbers are never given twice, not even
after a removal. Does not know checkpoints, key layouts or base models: what is added here was checked before.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from weights import durable, routes
from weights.errors import CorruptLora, InvalidName, LoraInUse, StoreUnavailable, UnknownLora
from weights.index import Index
from weights.lock import writer_lock
from weights.manifest import (
    MAX_BYTES,
    NAME,
    RESERVED,
    Manifest,
    check_alias,
    check_labels,
    check_name,
    check_text,
)
from weights.version import LoraVersion, read_tensors, read_version, write_version

if TYPE_CHECKING:
    import torch

INDEX = "index.json"
ROUTES = "routes.json"
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class Store:
    """The LoRA versions under one root folder, which need not exist before the first write.

    Reading works on a read-only mount. Every method raises CorruptLora where a file is not what it should be,
    and StoreUnavailable where a folder may not be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def references(self) -> list[tuple[str, int]]:
        """All (name, version), sorted, by the indexes alone; manifests are not read."""
        return [(name, number) for name in self._names() for number in sorted(self._index(name).versions)]

    def versions(self) -> list[LoraVersion]:
        """All versions with their manifests, sorted by name and number."""
        return [self._version(name, number) for name, number in self.references()]

    def aliases(self) -> dict[str, dict[str, int]]:
        """Name to its aliases, each with the number it points to; names without an alias are left out."""
        found = {name: dict(self._index(name).aliases) for name in self._names()}
        return {name: aliases for name, aliases in found.items() if aliases}

    def table(self) -> dict[str, str]:
        """Every reference with the exact version it means: names, versions, aliases; by the indexes alone."""
        indexes = {name: self._index(name) for name in self._names()}
        there = {name: index for name, index in indexes.items() if index.versions}
        names = {name: f"{name}@{index.usual}" for name, index in there.items()}
        exact = [f"{name}@{number}" for name, index in there.items() for number in sorted(index.versions)]
        aliases = {
            f"{name}@{alias}": f"{name}@{number}"
            for name, index in there.items()
            for alias, number in sorted(index.aliases.items())
        }
        return names | {version: version for version in exact} | aliases

    def routes(self) -> routes.Routes:
        """The weighted aliases. Raises InvalidRoute where their file is damaged."""
        return routes.read(self.root / ROUTES)

    def resolve(self, reference: str) -> LoraVersion:
        """The version that "notoemoji", "notoemoji@1" or "notoemoji@stable" names.

        A bare name is its alias "stable" where there is one, else its newest version.

        Raises:
            UnknownLora: when there is no such name, version or alias.
        """
        name, at, selector = reference.partition("@")
        index = self._existing(name)
        number: int | None
        if not at:
            number = index.usual
        elif NUMBER.fullmatch(selector):
            number = int(selector)
        else:
            number = index.aliases.get(selector)
        if number not in index.versions:
            known = ", ".join([*map(str, sorted(index.versions)), *sorted(index.aliases)])
            raise UnknownLora(
                f"no version or alias {selector[:80]!r} of {name}",
                file=self.root,
                remedy=f"There are: {known}",
            )
        return self._version(name, number)

    def load(self, version: LoraVersion) -> dict[str, torch.Tensor]:
        """The tensors of one version, checked against its manifest before use, on the CPU.

        Keys are "unet.<module path>.lora_A.weight" [rank, d_in] and "….lora_B.weight" [d_out, rank], with
        alpha / rank folded into lora_B: the change of a weight is lora_B @ lora_A.

        Raises:
            CorruptLora: when the SHA-256, a key or a shape is not the manifest's.
        """
        return read_tensors(self._folder(version.name, version.version), version.manifest)

    def add(
        self, tensors: Mapping[str, torch.Tensor], manifest: Manifest, *, alias: str | None = None
    ) -> LoraVersion:
        """Adds a new version, and points `alias` to it in the same instant.

        Args:
            tensors: the canonical tensors, see `load`; contiguous, on the CPU.
            manifest: name, base, targets and the rest; its version, sha256 and created are set here.
            alias: an alias of the same name, new or taken over from another version.

        Raises:
            InvalidName, StoreUnavailable.
        """
        from safetensors.torch import save

        name = check_name(manifest.name)
        if name in RESERVED:
            raise InvalidName(
                f"{name!r} has a meaning of its own to the predictor", remedy="Take another name"
            )
        if alias is not None:
            check_alias(alias)
        check_labels(manifest.labels)
        for field in ("source", "license", "attribution"):
            check_text(getattr(manifest, field), field)
        adapter = save(dict(tensors))
        with self._writing(name, create=True) as index:
            number = index.newest + 1
            manifest = replace(
                manifest,
                version=number,
                sha256=hashlib.sha256(adapter).hexdigest(),
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            folder = self._temporary()
            os.mkdir(folder)
            write_version(folder, adapter, manifest)
            os.rename(folder, self.root / name / str(number))
            durable.sync(self.root / name)
            aliases = index.aliases if alias is None else {**index.aliases, alias: number}
            self._commit(name, Index((*index.versions, number), number, aliases))
        return LoraVersion(name, number, manifest)

    def set_alias(self, alias: str, version: LoraVersion) -> None:
        """Points `alias` of the version's name to it, from wherever it pointed before."""
        check_alias(alias)
        with self._writing(version.name) as index:
            self._known(index, version.name, version.version)
            self._commit(version.name, replace(index, aliases={**index.aliases, alias: version.version}))

    def remove_alias(self, name: str, alias: str) -> None:
        """Removes an alias; the version stays.

        Raises:
            UnknownLora: when `name` has no such alias.
        """
        with self._writing(name) as index:
            if alias not in index.aliases:
                raise UnknownLora(f"no alias {alias[:80]!r} of {name}", file=self.root)
            rest = {other: number for other, number in index.aliases.items() if other != alias}
            self._commit(name, replace(index, aliases=rest))

    def set_route(self, name: str, shares: Mapping[str, int]) -> None:
        """Makes `name` a weighted alias, in place of what it was.

        Args:
            name: "emoji" for the default look, a LoRA's name, or a new one.
            shares: percents of exact versions, which make 100.

        Raises:
            InvalidRoute, UnknownLora.
        """
        routes.check(name, dict(shares))
        versions = [reference.split("@") for reference in shares]
        for lora, _ in versions:
            self._existing(lora)
        with writer_lock(self.root):
            for lora, number in versions:
                self._known(self._index(lora), lora, int(number))
            self._replace(self.root / ROUTES, routes.to_json({**self.routes(), name: shares}))

    def remove_route(self, name: str) -> None:
        """Removes a weighted alias; the name means again what it meant without.

        Raises:
            UnknownLora: when there is none of that name.
        """
        with writer_lock(self.root):
            rest = dict(self.routes())
            if rest.pop(name, None) is None:
                raise UnknownLora(f"no route {name[:80]!r}", file=self.root / ROUTES)
            self._replace(self.root / ROUTES, routes.to_json(rest))

    def remove(self, name: str, version: int, *, force: bool = False) -> None:
        """Removes a version for good, sound or not; its number is not given again.

        Args:
            name: of the LoRA.
            version: its number.
            force: also remove the aliases that point to it.

        Raises:
            LoraInUse: when an alias points to it and `force` is not set, or a route has it.
            UnknownLora: when there is no such version.
        """
        with self._writing(name) as index:
            self._known(index, name, version)
            routed = sorted(route for route, shares in self.routes().items() if f"{name}@{version}" in shares)
            if routed:
                raise LoraInUse(
                    f"{name}@{version} is in the route {', '.join(routed)}", remedy="Change the route first"
                )
            pointing = sorted(alias for alias, number in index.aliases.items() if number == version)
            if pointing and not force:
                raise LoraInUse(
                    f"{name}@{version} is aliased as {', '.join(pointing)}",
                    remedy="Point the alias elsewhere first, or force the removal",
                )
            aliases = {alias: number for alias, number in index.aliases.items() if number != version}
            rest = tuple(number for number in index.versions if number != version)
            self._commit(name, Index(rest, index.newest, aliases))
            self._sweep(name, rest)

    # Reading

    def _names(self) -> list[str]:
        entries = self._entries(self.root)
        with _readable(self.root):
            return sorted(path.name for path in entries if NAME.fullmatch(path.name) and path.is_dir())

    def _folder(self, name: str, version: int) -> Path:
        return _real(self.root / name / str(version))

    def _index(self, name: str) -> Index:
        file = _real(self.root / name) / INDEX
        try:
            return Index.from_json(durable.read(file, MAX_BYTES), file)
        except CorruptLora:
            if os.path.lexists(file) or self._numbers(name):
                raise
            return Index()

    def _existing(self, name: str) -> Index:
        index = self._index(name) if NAME.fullmatch(name) else Index()
        if not index.versions:
            known = ", ".join(sorted({other for other, _ in self.references()})) or "none"
            raise UnknownLora(f"no LoRA {name[:80]!r} there", file=self.root, remedy=f"Known: {known}")
        return index

    def _numbers(self, name: str) -> list[int]:
        return [int(path.name) for path in self._entries(self.root / name) if NUMBER.fullmatch(path.name)]

    @staticmethod
    def _entries(folder: Path) -> list[Path]:
        with _readable(folder), suppress(FileNotFoundError, NotADirectoryError):
            return list(folder.iterdir())
        return []

    def _version(self, name: str, number: int) -> LoraVersion:
        return read_version(self._folder(name, number), name, number)

    @staticmethod
    def _known(index: Index, name: str, version: int) -> None:
        if version not in index.versions:
            known = ", ".join(map(str, sorted(index.versions))) or "none"
            raise UnknownLora(f"no version {version} of {name[:80]!r}", remedy=f"There are: {known}")

    # Writing

    @contextmanager
    def _writing(self, name: str, create: bool = False) -> Iterator[Index]:
        """Holds the lock, clears what a killed writer left behind, and gives the index of `name`."""
        if not create:
            self._existing(name)
        with writer_lock(self.root, create):
            index = self._index(name)
            self._sweep(name, index.versions)
            if not index.newest:
                # With an index from the start, a version folder without one is damage, not a leftover.
                (self.root / name).mkdir(exist_ok=True)
                durable.sync(self.root)
                self._commit(name, index)
            yield index

    def _sweep(self, name: str, versions: tuple[int, ...]) -> None:
        for left in self.root.glob(".tmp-*"):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        for number in self._numbers(name):
            if number not in versions:
                # Renamed first: a version is there whole or not at all, even for who ignores the index.
                doomed = self._temporary()
                os.rename(self.root / name / str(number), doomed)
                shutil.rmtree(doomed)

    def _temporary(self) -> Path:
        return self.root / f".tmp-{uuid.uuid4().hex}"

    def _commit(self, name: str, index: Index) -> None:
        self._replace(self.root / name / INDEX, index.to_json())

    def _replace(self, file: Path, data: bytes) -> None:
        draft = self._temporary()
        durable.write(draft, data)
        os.replace(draft, file)
        durable.sync(file.parent)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Says of what the file system refuses that the store is not to be had, not that it is damaged."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"cannot be read ({error.strerror})", file=folder, remedy="Check its permissions"
        ) from None


def _real(folder: Path) -> Path:
    """The folder, if it is no link: that could lead out of the store, to files that change."""
    with _readable(folder):
        if folder.is_symlink():
            raise CorruptLora("is a symbolic link", file=folder, remedy="Put the real folder in its place")
    return folder
