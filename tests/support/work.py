"""Work counted instead of timed: the same on every machine and under every load.

`lines` counts what a function executes of Python. What a single call into C does is not seen; `tests.bench.growth`
measures that as a ratio.
"""

import sys
from collections.abc import Callable
from types import FrameType


def lines(function: Callable[[], object]) -> int:
    """How many lines of Python `function` runs through, in everything it calls."""
    count = 0

    def step(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        count += 1
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def grows_linearly(of: Callable[[int], object], size: int) -> bool:
    """True when twice the input is at most a little more than twice the work."""
    single, double = lines(lambda: of(size)), lines(lambda: of(2 * size))
    return double <= 2.2 * single + 1_000
