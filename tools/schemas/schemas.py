"""Writes JSON schemas for kubeconform: those of Kubernetes itself and of the custom resources that we use.

    python tools/schemas/schemas.py .tools/schemas

The sources are Go modules in the versions of the go.mod beside this file, verified by its go.sum. Schemas
are made strict: an object may have no field that its schema does not name. Knows nothing of our manifests.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent

Schema = dict[str, Any]

KUBERNETES = "k8s.io/kubernetes"
CORE_SCHEMAS = "api/openapi-spec/swagger.json"
CUSTOM_RESOURCES = {
    "github.com/envoyproxy/gateway": "charts/gateway-helm/charts/crds/crds/generated/*_securitypolicies.yaml",
    "github.com/kserve/kserve": "config/crd/full/serving.kserve.io_*.yaml",
    "github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/*.yaml",
    "knative.dev/serving": "config/core/300-resources/*.yaml",
    "sigs.k8s.io/gateway-api": "config/crd/standard/gateway.networking.k8s.io_*.yaml",
}


class Loader(yaml.CSafeLoader):
    """Reads the scalar `=`, which YAML 1.1 gave a meaning that nothing uses, as text."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def main() -> None:
    """Write the schemas into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Writes JSON schemas for kubeconform.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    modules = _download()
    written = 0
    for name, schema in [*_of_kubernetes(modules[KUBERNETES]), *_of_custom_resources(modules)]:
        (folder / name).write_text(json.dumps(schema))
        written += 1
    print(f"{written} schemas in {folder}")


def _download() -> dict[str, Path]:
    """The folders of all modules in Go's module cache, by module path."""
    listed = subprocess.run(["go", "mod", "edit", "-json"], cwd=HERE, check=True, capture_output=True).stdout
    wanted = [f"{module['Path']}@{module['Version']}" for module in json.loads(listed)["Require"]]
    told = subprocess.run(
        ["go", "mod", "download", "-json", *wanted], cwd=HERE, stdout=subprocess.PIPE, text=True, check=False
    )
    decoder, folders, rest = json.JSONDecoder(), {}, told.stdout.strip()
    while rest:
        module, end = decoder.raw_decode(rest)
        if "Error" in module:
            sys.exit(f"{module['Path']}: {module['Error']}")
        folders[module["Path"]] = Path(module["Dir"])
        rest = rest[end:].lstrip()
    if told.returncode:
        sys.exit(told.returncode)
    return folders


def _of_kubernetes(module: Path) -> Iterator[tuple[str, Schema]]:
    definitions = json.loads((module / CORE_SCHEMAS).read_text())["definitions"]
    strict = {name: _strict(schema) for name, schema in definitions.items()}
    # written like numbers or like text
    strict["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
    strict["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    for name, schema in strict.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            file = _file_name(kind["group"], kind["kind"], kind["version"])
            yield file, {**schema, "definitions": _used(name, strict)}


def _used(name: str, definitions: dict[str, Schema]) -> dict[str, Schema]:
    """What a schema refers to, however far away."""
    used: dict[str, Schema] = {}
    open_ends = [name]
    while open_ends:
        text = json.dumps(definitions[open_ends.pop()])
        found = {part.partition('"')[0] for part in text.split('"#/definitions/')[1:]}
        for reference in found - used.keys():
            used[reference] = definitions[reference]
            open_ends.append(reference)
    return used


def _of_custom_resources(modules: dict[str, Path]) -> Iterator[tuple[str, Schema]]:
    for module, pattern in CUSTOM_RESOURCES.items():
        files = sorted(modules[module].glob(pattern))
        if not files:
            sys.exit(f"{module}: there is no {pattern} in it")
        for file in files:
            for crd in yaml.load_all(file.read_text(), Loader):
                if crd and crd["kind"] == "CustomResourceDefinition":
                    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
                    for version in crd["spec"]["versions"]:
                        schema = _strict(version["schema"]["openAPIV3Schema"])
                        schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}}
                        yield _file_name(group, kind, version["name"]), schema


def _strict(schema: Any) -> Any:
    """A copy in the words of JSON Schema in which objects have no fields but those named."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # kubeconform knows other formats than Kubernetes; a field may be named like a keyword
    copy = {
        key: _strict(value) for key, value in schema.items() if key != "format" or isinstance(value, dict)
    }
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    if not isinstance(schema.get("type"), str):
        return copy
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        copy.setdefault("additionalProperties", False)
    if schema.get("nullable"):
        copy["type"] = [schema["type"], "null"]
    return copy


def _file_name(group: str, kind: str, version: str) -> str:
    """What `{{.Group}}_{{.ResourceKind}}_{{.ResourceAPIVersion}}.json` stands for in kubeconform."""
    return f"{group or version}_{kind}_{version}.json".lower()


if __name__ == "__main__":
    main()
