"""`python -m tests.fuzz.grow dialogue --seconds 1200`: fuzzes one target and keeps what is new of its kind.

The target gives `shapes(data) -> set[str]`, what is peculiar to an input, and `CORPUS`, the file for those that
together have the most, one a line in hexadecimal; they are its seeds from then on. The file is bounded. Status
1 when something broke: that is kept as `run` keeps it.
"""

import argparse
import importlib
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.fuzz import run
from tests.fuzz.run import breaks, grown, smaller, targets

MOST_INPUTS, MOST_OCTETS = 400, 100_000


def main() -> int:
    """One target, until the time is over."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.grow")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    (target,) = targets([given.target])
    module = importlib.import_module(f"tests.fuzz.{given.target}")
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
    chance, deadline = random.Random(seed), time.monotonic() + given.seconds
    kinds: dict[str, bytes] = {}
    given_seeds, seeds = tuple(target.seeds), list(target.seeds)
    object.__setattr__(target, "seeds", seeds)  # what is found is built upon at once
    count = 0
    while time.monotonic() < deadline:
        data = given_seeds[count] if count < len(given_seeds) else grown(target, chance)
        count += 1
        if breaks(target, data):
            data = smaller(target, data)
            run.keep(target, data)
            print(f"seed {seed}, after {count} inputs, on {data!r}:\n{breaks(target, data)}")
            return 1
        shapes = module.shapes(data)
        if not shapes <= kinds.keys() and len(data) < 600:
            seeds.append(data)
        for shape in shapes:
            if shape not in kinds or len(data) < len(kinds[shape]):
                kinds[shape] = data
    keep(module.CORPUS, {data: module.shapes(data) for data in set(kinds.values())})
    print(f"seed {seed}: {count} inputs, {len(kinds)} shapes, nothing found")
    return 0


def keep(file: Path, inputs: Mapping[bytes, set[str]]) -> None:
    """Writes some that together have as many shapes as fit: each time the one that adds most for its length."""
    chosen: list[bytes] = []
    seen: set[str] = set()
    left, room = {data for data in inputs if data}, MOST_OCTETS
    while left and len(chosen) < MOST_INPUTS:
        # Each costs a test run as much as some 300 octets, whatever its length.
        data = max(left, key=lambda one: (len(inputs[one] - seen) / (300 + len(one)), one))
        left.remove(data)
        room -= len(data)
        if room < 0 or inputs[data] <= seen:
            break
        chosen.append(data)
        seen |= inputs[data]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(data.hex() + "\n" for data in sorted(chosen, key=lambda one: (len(one), one))), "ascii")


if __name__ == "__main__":
    sys.exit(main())
