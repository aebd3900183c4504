"""Runs inside an image: prints as JSON who it runs as, where it can write, and what it can import."""

import json
import os
import sys
from importlib.util import find_spec

import kserve  # noqa: F401, its modules are looked at

FOLDERS = ("/", "/app", "/opt/packages", "/var", "/tmp", os.environ["HOME"])
MODULES = (
    "diffusers kiwipiepy kserve predictor.contract predictor.engine.engine torch transformer transformers "
    "weights.store weights.train weights.eval pytest"
).split()


def writable(folder: str) -> bool:
    try:
        with open(folder + "/probe", "w"):
            return True
    except OSError:
        return False


def importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its package
        return False


def uncompiled() -> list[str]:
    """Of what KServe has imported, the files that Python had to compile first."""
    modules = [module for module in sys.modules.values() if getattr(module, "__cached__", None)]
    return [
        module.__file__
        for module in modules
        if module.__file__.startswith("/opt") and not os.path.exists(module.__cached__)
    ]


print(
    json.dumps(
        {
            "ids": [os.getuid(), os.getgid()],
            "writable": sorted(set(filter(writable, FOLDERS))),
            "importable": list(filter(importable, MODULES)),
            "uncompiled": uncompiled(),
        }
    )
)
