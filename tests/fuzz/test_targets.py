"""Every fuzz target holds for its seeds and for some grown inputs, always the same: `make fuzz` has the rest."""

import random

import pytest

from tests.fuzz.run import Target, breaks, grown, smaller, targets


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_a_target_holds(target: Target) -> None:
    chance = random.Random(target.name)
    for data in [*target.seeds, *(grown(target, chance) for _ in range(500))]:
        assert not breaks(target, data), data


def test_a_finding_is_made_smaller() -> None:
    def one(data: bytes) -> None:
        assert b"x" not in data

    target = Target("x", one, [b""], [b"x"])
    assert breaks(target, b"abxcd")
    assert smaller(target, b"abc" * 50 + b"x" + b"def" * 50) == b"x"
