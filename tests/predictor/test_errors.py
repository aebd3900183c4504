"""What errors say beside their text."""

import pytest

from predictor.errors import QueueFull


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.2, "1"), (1.1, "2"), (1e9, "3600"), (float("inf"), "3600")]
)
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    assert QueueFull(seconds).headers == {"Retry-After": header}
