"""`python -m weights`: import, list, show, verify, alias, route and remove LoRAs; train, eval, glyphs.

The only file of this room that reads argv and writes to the terminal.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from weights.errors import InvalidName, InvalidRoute, WeightsError
from weights.manifest import check_alias, check_labels, check_name, check_text
from weights.store import Store
from weights.version import ADAPTER, LoraVersion

EMBEDDED = Path(__file__).parent / "embedded"
DTYPES = ("float32", "float16", "bfloat16")
# Commands with arguments of their own, imported only when asked for: they need much more than the rest.
FORWARDED = {
    "train": ("weights.train.__main__", "train the embedded base and its LoRAs"),
    "eval": ("weights.eval.__main__", "measure the embedded model"),
    "glyphs": ("weights.glyphs.build", "build the glyph data set from fonts and CLDR names"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 for a refusal, 2 for wrong arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in FORWARDED:
        module = importlib.import_module(FORWARDED[arguments[0]][0])
        return int(module.main(arguments[1:]) or 0)
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m weights",
        description="LoRA versions from checkpoint to store, and the training of the embedded model.",
        epilog="A reference is name@version, name@alias, or name (its alias stable, else its newest).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--store",
        type=Path,
        default=EMBEDDED / "loras",
        metavar="DIR",
        help="the store's folder (%(default)s)",
    )

    def add(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=[shared])
        command.set_defaults(run=run)
        return command

    command = add("import", _import, "check a LoRA and add it to the store as a new version")
    command.add_argument(
        "source",
        type=Path,
        metavar="FOLDER",
        help="an accelerate state folder, a folder with pytorch_lora_weights.{safetensors,bin}, or one file",
    )
    command.add_argument("--name", type=_valid(check_name), required=True, help="name of the LoRA")
    command.add_argument(
        "--base",
        type=Path,
        default=EMBEDDED / "base",
        help="the Stable Diffusion folder it must fit (%(default)s)",
    )
    command.add_argument("--alias", type=_valid(check_alias), help="an alias to point to it, such as stable")
    command.add_argument(
        "--label",
        type=_label,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for the manifest; repeatable",
    )
    command.add_argument("--source", type=_text, dest="origin", metavar="TEXT", help="where it came from")
    command.add_argument("--license", type=_text, default="", metavar="SPDX", help="its licence")
    command.add_argument("--attribution", type=_text, default="", metavar="TEXT", help="whom to name with it")
    command.add_argument(
        "--lora-alpha",
        type=_positive,
        metavar="A",
        help="its alpha, where the file does not tell it (its rank)",
    )
    command.add_argument(
        "--dtype", choices=DTYPES, help="of the stored tensors (the file's own, float32 where alpha needs it)"
    )

    command = add("list", _list, "list all versions")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("show", _show, "show one version's manifest")
    command.add_argument("reference")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("verify", _verify, "check files against their manifests, and against a base")
    command.add_argument("references", nargs="*", metavar="reference", help="all versions when none is given")
    command.add_argument("--base", type=Path, help="also check that they fit this Stable Diffusion folder")

    command = add("alias", _alias, "point an alias to a version, or delete it")
    command.add_argument("reference", help="the version, or with --delete the alias: name@alias")
    command.add_argument("alias", nargs="?", type=_valid(check_alias))
    command.add_argument("--delete", action="store_true")

    command = add("route", _route, "set a weighted alias, delete it, or list them all")
    command.add_argument("name", nargs="?", help="emoji for the default look, a LoRA's name, or a new one")
    command.add_argument(
        "shares",
        nargs="*",
        type=_share,
        metavar="VERSION=PERCENT",
        help="such as notoemoji@1=90 openmoji@1=10",
    )
    command.add_argument("--delete", action="store_true")

    command = add("remove", _remove, "remove a version for good; its number is not used again")
    command.add_argument("reference", help="name@version")
    command.add_argument("--force", action="store_true", help="also when an alias points to it")

    for name, (_, text) in FORWARDED.items():
        commands.add_parser(name, add_help=False, help=text)
    return parser


# Arguments


def _valid(check: Callable[[str], str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        try:
            return check(text)
        except InvalidName as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _text(text: str) -> str:
    return _valid(lambda text: check_text(text, "a line of the manifest"))(text)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        check_labels({key: value})
    except InvalidName as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return key, value


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _share(text: str) -> tuple[str, int]:
    version, equals, percent = text.partition("=")
    if not equals or not percent.isascii() or not percent.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not VERSION=PERCENT")
    return version, int(percent)


# Commands


def _import(options: argparse.Namespace) -> None:
    import torch

    from weights.importer import import_lora

    imported = import_lora(
        options.source,
        name=options.name,
        base=options.base,
        store=Store(options.store),
        alias=options.alias,
        labels=dict(options.label),
        origin=options.origin,
        license=options.license,
        attribution=options.attribution,
        alpha=options.lora_alpha,
        dtype=None if options.dtype is None else getattr(torch, options.dtype),
    )
    also = f", also {options.name}@{options.alias}" if options.alias else ""
    print(f"{imported.version}{also}: {_summary(imported.version)}, from {imported.file}")
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)


def _list(options: argparse.Namespace) -> None:
    store = Store(options.store)
    aliases = store.aliases()
    versions = store.versions()
    if options.json:
        print(json.dumps([_document(version, aliases) for version in versions], indent=2, ensure_ascii=False))
        return
    rows = [("VERSION", "ALIASES", "RANK", "MODULES", "CREATED", "LICENSE", "SHA-256")]
    for version in versions:
        manifest = version.manifest
        rows.append(
            (
                str(version),
                ",".join(_aliases_of(version, aliases)) or "-",
                str(manifest.rank),
                str(len(manifest.targets)),
                manifest.created,
                manifest.license or "-",
                manifest.sha256[:12],
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show(options: argparse.Namespace) -> None:
    store = Store(options.store)
    version = store.resolve(options.reference)
    document = _document(version, store.aliases())
    if options.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    del document["targets"]
    labels = ", ".join(f"{key}={value}" for key, value in version.manifest.labels.items())
    document |= {"labels": labels, "aliases": ", ".join(_aliases_of(version, store.aliases()))}
    document |= {
        "modules": len(version.manifest.targets),
        "file": store.root / version.name / str(version.version) / ADAPTER,
    }
    for key, value in document.items():
        print(f"{key:12} {'-' if value in ('', None) else value}")


def _verify(options: argparse.Namespace) -> int:
    from weights.base import read_base

    store = Store(options.store)
    base = None if options.base is None else read_base(options.base)
    failed = 0
    for reference in options.references or [f"{name}@{number}" for name, number in store.references()]:
        try:
            version = store.resolve(reference)
            store.load(version)
            told = f"{version}: sound, {_summary(version)}"
            if base is not None:
                base.check(version.manifest.targets)
                same = version.manifest.base_sha256 == base.sha256
                told += (
                    ", made for this base" if same else ", fits this base, but was imported against another"
                )
            print(told)
        except WeightsError as error:
            failed += 1
            print(f"error: {reference}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _alias(options: argparse.Namespace) -> None:
    store = Store(options.store)
    if options.delete:
        name, _, alias = options.reference.partition("@")
        store.remove_alias(check_name(name), options.alias or alias)
        print(f"{name}@{options.alias or alias} is gone")
        return
    if options.alias is None:
        raise InvalidName(
            "no alias given", remedy="Say: alias NAME@VERSION ALIAS, or alias --delete NAME@ALIAS"
        )
    version = store.resolve(options.reference)
    store.set_alias(options.alias, version)
    print(f"{version.name}@{options.alias} is {version}")


def _route(options: argparse.Namespace) -> None:
    store = Store(options.store)
    if options.name is None:
        for name, shares in store.routes().items():
            print(f"{name}: {_told(shares)}")
    elif options.delete:
        store.remove_route(options.name)
        print(f"the route {options.name} is gone")
    else:
        shares = dict(options.shares)
        if len(shares) < len(options.shares):
            raise InvalidRoute("a version is named twice", key=options.name)
        store.set_route(options.name, shares)
        print(f"{options.name}: {_told(shares)}")


def _told(shares: Mapping[str, int]) -> str:
    return ", ".join(f"{percent} % {version}" for version, percent in shares.items())


def _remove(options: argparse.Namespace) -> None:
    name, _, number = options.reference.partition("@")
    if not number.isascii() or not number.isdigit():
        raise InvalidName(f"{options.reference!r} is no exact version", remedy="Say: remove NAME@VERSION")
    Store(options.store).remove(check_name(name), int(number), force=options.force)
    print(f"{options.reference} is gone")


def _summary(version: LoraVersion) -> str:
    manifest = version.manifest
    alpha = "mixed" if manifest.alpha is None else f"{manifest.alpha:g}"
    return f"rank {manifest.rank}, alpha {alpha}, {len(manifest.targets)} modules"


def _aliases_of(version: LoraVersion, aliases: dict[str, dict[str, int]]) -> list[str]:
    return sorted(
        alias for alias, number in aliases.get(version.name, {}).items() if number == version.version
    )


def _document(version: LoraVersion, aliases: dict[str, dict[str, int]]) -> dict[str, object]:
    document: dict[str, object] = json.loads(version.manifest.to_json())
    return {**document, "aliases": _aliases_of(version, aliases)}


if __name__ == "__main__":
    sys.exit(main())
