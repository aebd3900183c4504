"""The built images, looked up once; without them every test that needs them is skipped, with the reason."""

import subprocess
from pathlib import Path

import pytest

from tests.images.container import ROOT, Image


@pytest.fixture(scope="session")
def images() -> dict[str, Image]:
    """Predictor, transformer and weights as `make images` has built them."""
    found = subprocess.run([ROOT / "images/build.sh", "list"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"NO IMAGE IS TESTED: {found.stderr.strip()}")
    builder, *names = found.stdout.split()
    images = {name.partition("/emoji-")[2].partition(":")[0]: Image(builder, name) for name in names}
    if absent := [image.name for image in images.values() if not image.exists()]:
        pytest.skip(f"NO IMAGE IS TESTED: {builder} hasn't {', '.join(absent)}; run `make images` first")
    return images


@pytest.fixture(scope="session")
def models(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume that the weights image has filled, as it would a cluster's."""
    volume = tmp_path_factory.mktemp("volume")
    for folder in (volume, volume / "base", volume / "loras"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    copied = images["weights"].run(volumes={"/mnt/models": (volume, "rw")})
    assert copied.returncode == 0, copied.stderr
    return volume
