"""What any room's tests may need: tiny Stable Diffusion folders, and the warnings to expect."""

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # diffusers' schedulers do numpy 2 arithmetic on torch scalars.
    config.addinivalue_line("filterwarnings", "ignore:__array_:DeprecationWarning:diffusers")


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base folder of each kind: "sd15", "sd2", "emoji" (tests/tiny_models.py), 16x16 pixels. Read only."""
    from tests.tiny_models import UNETS, write_folder

    root = tmp_path_factory.mktemp("base")
    return {kind: write_folder(root / kind, kind) for kind in UNETS}
