"""The stand-ins for CUDA libraries: what was linked against the real ones loads, and a call is no secret."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.container import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("readelf") is None, reason="needs gcc and binutils"
)
# soname → symbol versions, function
REAL = {
    "libcublas.so.13": ("libcublas.so.13 { global: cublasCreate; };", "cublasCreate"),
    "libcublasLt.so.13": ("libcublasLt.so.13 { global: cublasLtMatmul; };", "cublasLtMatmul"),
    "libnccl.so.2": ("", "ncclSend"),
    "libcudart.so.13": ("libcudart.so.13 { global: cudaGetDeviceCount; };", "cudaGetDeviceCount"),
}


def gcc(source: str, *options: str | Path) -> None:
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", *options], input=source, text=True, check=True)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as pip leaves it, with a torch that needs four CUDA libraries, of which one is there."""
    libraries, torch = tmp_path / "nvidia/cu13/lib", tmp_path / "torch/lib"
    libraries.mkdir(parents=True)
    torch.mkdir(parents=True)
    for soname, (versions, function) in REAL.items():
        script = tmp_path / "versions.map"
        script.write_text(versions)
        gcc(
            f"int {function}(void) {{ return 3; }}",
            f"-Wl,-soname,{soname}",
            *([f"-Wl,--version-script={script}"] if versions else []),
            "-o",
            libraries / soname,
        )
    functions = [function for _, function in REAL.values()]
    gcc(
        "".join(
            f"int {function}(void); int call_{function}(void) {{ return {function}(); }}\n"
            for function in functions
        ),
        "-o",
        torch / "libtorch_cuda.so",
        *("-Wl,-rpath,$ORIGIN/../../nvidia/cu13/lib", f"-L{libraries}", "-Wl,--no-as-needed"),
        *(f"-l:{soname}" for soname in REAL),
    )
    for soname in REAL.keys() - {"libcudart.so.13"}:
        (libraries / soname).unlink()
    return tmp_path


def make_stubs(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, ROOT / "images/cuda_stubs.py", folder, folder],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_only_what_is_missing_is_made(installed: Path) -> None:
    printed = make_stubs(installed)
    assert printed.splitlines() == [
        "libcublas.so.13: 1 functions",
        "libcublasLt.so.13: 1 functions",
        "libnccl.so.2: 1 functions",
    ]
    assert {path.name for path in (installed / "nvidia/cu13/lib").iterdir()} == REAL.keys()


def call(folder: Path, function: str) -> subprocess.CompletedProcess[str]:
    """Loads torch's library as Python loads its extensions, all functions bound at once, and calls one."""
    code = f"import ctypes, os; library = ctypes.CDLL('{folder}/torch/lib/libtorch_cuda.so', os.RTLD_NOW); "
    return subprocess.run(
        [sys.executable, "-c", f"{code}print(library.call_{function}())"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_library_loads_only_with_them_and_the_real_part_works(installed: Path) -> None:
    assert "libcublas" in call(installed, "cudaGetDeviceCount").stderr
    make_stubs(installed)
    assert call(installed, "cudaGetDeviceCount").stdout == "3\n"


@pytest.mark.parametrize("function", ["cublasCreate", "cublasLtMatmul", "ncclSend"])
def test_a_stub_that_is_called_ends_the_process_and_says_so(installed: Path, function: str) -> None:
    make_stubs(installed)
    done = call(installed, function)
    assert done.returncode == -6  # SIGABRT
    (soname,) = [name for name, (_, own) in REAL.items() if own == function]
    assert f"{soname} is a stub: this torch was installed for the CPU only" in done.stderr
