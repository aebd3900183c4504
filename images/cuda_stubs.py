"""Stand-ins for the CUDA libraries that a CPU process never calls: `python3 cuda_stubs.py FOLDER OUT`.

torch's Linux wheel on PyPI is linked against gigabytes of CUDA libraries: the dynamic linker wants each of
them, with every function that torch may call, before `import torch` is through. Without a GPU none of them is
ever called. This reads from torch's own files which libraries are missing in FOLDER and which functions of
theirs torch names, and has gcc build a library of some kilobytes for each. A stub that is called all the same
says so and ends the process; nothing is silently computed wrong.

libcudart and libcupti must be the real ones: torch registers its kernels with the first while it is loaded.
Needs gcc and binutils. Knows nothing of images or of this project.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# libcuda.so.1, the driver, comes with a GPU's host and is opened only there.
CUDA_LIBRARY = re.compile(r"lib(?:cu|nv|nccl)(?!da\.so)\w*\.so\.\d+")
SOURCE = """\
#include <stdio.h>
#include <stdlib.h>
static void stub(void) {
    fputs("%s is a stub: this torch was installed for the CPU only\\n", stderr);
    abort();
}
"""


def output(*command: str | Path) -> str:
    """What a program prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def missing_libraries(torch: list[Path], present: set[str]) -> set[str]:
    """The CUDA libraries, by soname, that torch's files are linked against and that are not there."""
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "--wide", "--dynamic", *torch))
    return {name for name in needed if CUDA_LIBRARY.fullmatch(name)} - present


def version_owners(torch: list[Path]) -> dict[str, str]:
    """Symbol version → the library that torch's files expect it in."""
    owners: dict[str, str] = {}
    library = ""
    for line in output("readelf", "--wide", "--version-info", *torch).splitlines():
        if found := re.search(r"Version: \d+ +File: (\S+)", line):
            library = found[1]
        elif found := re.search(r"Name: (\S+) +Flags:", line):
            owners[found[1]] = library
    return owners


def wanted_functions(torch: list[Path], missing: set[str]) -> dict[str, dict[str, set[str]]]:
    """Library → symbol version ("" for none) → the functions that torch's files want from it."""
    owners = version_owners(torch)
    wanted: dict[str, dict[str, set[str]]] = {library: defaultdict(set) for library in missing}
    for symbol in set(re.findall(r" U (\S+)", output("nm", "--dynamic", "--undefined-only", *torch))):
        name, _, version = symbol.partition("@")
        if version:
            owner = owners.get(version)
        else:
            # NVIDIA's libraries without symbol versions name functions after themselves: ncclSend in libnccl
            stems = [lib for lib in missing if name.lower().startswith(lib[3:].partition(".so")[0].lower())]
            owner = max(stems, key=len, default=None)
        if owner in wanted:
            wanted[owner][version].add(name)
    return wanted


def build(path: Path, versions: dict[str, set[str]]) -> None:
    """Compiles the stub of one library to `path`, whose name is its soname."""
    functions = sorted(set().union(*versions.values()))
    source = SOURCE % path.name + "".join(
        f'void {name}(void) __attribute__((alias("stub")));\n' for name in functions
    )
    script = path.with_suffix(".map")
    script.write_text(
        "".join(
            f"{version} {{ global: {'; '.join(sorted(names))}; }};\n" for version, names in versions.items()
        )
    )
    options = [f"-Wl,-soname,{path.name}"]
    if any(versions):
        options.append(f"-Wl,--version-script={script}")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Os", "-s", *options, "-x", "c", "-", "-o", str(path)],
        input=source,
        text=True,
        check=True,
    )
    script.unlink()


def main(folder: Path, out: Path) -> None:
    """Builds what `folder` lacks into `out`, to be laid over it: where the wheels have their libraries."""
    libraries = Path("nvidia", "cu13", "lib")
    torch = sorted((folder / "torch" / "lib").glob("*.so"))
    missing = missing_libraries(torch, {path.name for path in (folder / libraries).iterdir()})
    (out / libraries).mkdir(parents=True, exist_ok=True)
    for library, versions in sorted(wanted_functions(torch, missing).items()):
        build(out / libraries / library, versions)
        print(f"{library}: {sum(map(len, versions.values()))} functions")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
