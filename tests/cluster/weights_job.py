"""Puts a corrupt LoRA version into the store, and takes it out again; runs in the cluster, in a Job with the
predictor's image and the weights' claims.

    python weights_job.py corrupt            adds a version of `openmoji` and prints its number
    python weights_job.py remove NUMBER
"""

import sys
from pathlib import Path

from weights.store import Store
from weights.version import ADAPTER, LoraVersion

MODEL = Path("/mnt/models")


def corrupt(store: Store, good: LoraVersion) -> LoraVersion:
    """One byte of the file is not what the manifest says: an upload gone wrong."""
    version = store.add(store.load(good), good.manifest)
    file = store.root / version.name / str(version.version) / ADAPTER
    data = bytearray(file.read_bytes())
    data[-1] ^= 0xFF
    file.write_bytes(data)
    return version


def main(command: str, number: str = "0") -> None:
    store = Store(MODEL / "loras")
    if command == "corrupt":
        print(corrupt(store, store.resolve("openmoji@1")).version)
    else:
        store.remove("openmoji", int(number), force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
