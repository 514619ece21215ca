"""The growing pauses between restarts."""

import pytest

from gateway.child import pause


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.4), (8, 12.8), (9, 25.6), (10, 30.0), (10_000, 30.0)]
)
def test_pause(deaths: int, seconds: float) -> None:
    assert pause(deaths) == pytest.approx(seconds)
