"""Writes what an image contains as CycloneDX JSON: `python3 images/sbom.py NAME VERSION [options] > FILE`.

It lists Debian's packages by dpkg's database, Python and its packages by their metadata, and LoRAs by their
manifests. It runs in a build stage, beside the parts of the image; it knows nothing of Dockerfiles.
"""

import argparse
import json
import platform
import re
import site
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL


def debian_packages(database: Path, only: list[str]) -> Iterator[Component]:
    """The installed packages of a dpkg database, `only` those named unless it is empty."""
    system = platform.freedesktop_os_release()
    for paragraph in database.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        name = fields.get("Package")
        if name is None or not fields["Status"].endswith(" installed") or (only and name not in only):
            continue
        qualifiers = {
            "arch": fields["Architecture"],
            "distro": f"{system['ID']}-{system.get('VERSION_ID', '')}",
        }
        yield Component(
            name=name,
            version=fields["Version"],
            purl=PackageURL("deb", system["ID"], name, fields["Version"], qualifiers),
        )


def python_packages(folders: list[str]) -> Iterator[Component]:
    """Python itself, and the packages installed in `folders` or in its own folders, such as pip."""
    version = platform.python_version()
    yield Component(
        name="python",
        version=version,
        type=ComponentType.APPLICATION,
        licenses=[LicenseFactory().make_from_string("Python-2.0")],
        purl=PackageURL("generic", None, "python", version),
    )
    for package in distributions(path=[*folders, *site.getsitepackages()]):
        yield Component(
            name=package.name,
            version=package.version,
            licenses=list(python_licenses(package.metadata)),
            purl=PackageURL("pypi", None, pypi_name(package), package.version),
        )


def pypi_name(package: Distribution) -> str:
    """The normalised name that a package URL has."""
    return re.sub(r"[-_.]+", "-", package.name).lower()


def python_licenses(metadata: PackageMetadata) -> Iterator[License]:
    """The licence that a package states: as an expression, else in a word, else by classifiers."""
    make = LicenseFactory().make_from_string
    stated = next((metadata[key] for key in ("License-Expression", "License") if key in metadata), "")
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License :: OSI Approved :: ")
    ]
    if stated and "\n" not in stated:  # some put the whole text there
        yield make(stated)
    else:
        yield from map(make, classifiers)


def lora_versions(store: Path) -> Iterator[Component]:
    """Every version in a LoRA store, by its manifest."""
    for path in sorted(store.glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        yield Component(
            name=manifest["name"],
            version=str(manifest["version"]),
            type=ComponentType.MACHINE_LEARNING_MODEL,
            licenses=[LicenseFactory().make_from_string(manifest["license"])],
            copyright=manifest["attribution"],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=manifest["sha256"])],
        )


def main(argv: list[str]) -> None:
    """Prints the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the image")
    parser.add_argument("version", help="of the image")
    parser.add_argument("--dpkg", type=Path, help="dpkg's database: /var/lib/dpkg/status")
    parser.add_argument("--dpkg_only", nargs="+", default=[], metavar="PACKAGE")
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="FOLDER", help="where packages are installed"
    )
    parser.add_argument("--loras", type=Path, help="a LoRA store")
    options = parser.parse_args(argv)

    bom = Bom()
    bom.metadata.component = Component(
        name=options.name,
        version=options.version,
        type=ComponentType.CONTAINER,
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )
    if options.dpkg:
        bom.components.update(debian_packages(options.dpkg, options.dpkg_only))
    if options.python:
        bom.components.update(python_packages(options.python))
    if options.loras:
        bom.components.update(lora_versions(options.loras))
    for component in bom.components:
        bom.register_dependency(bom.metadata.component, [component])
    print(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
