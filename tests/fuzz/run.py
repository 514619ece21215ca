"""`make fuzz SECONDS=600`: random octets for every target in this folder, in turn, so many seconds for each.

A target is a module with `one(data: bytes) -> None`, which raises when an invariant breaks (anything raised is a
finding, so expected errors are the target's to catch). It may give `SEEDS: list[bytes]`, whole inputs to start from,
and `TOKENS: list[bytes]`, words of its language that get past the first branch, or `spoken(chance) -> bytes`, which
makes whole inputs by a grammar; with `LIMIT_MS` an input that costs more CPU than that is a finding, too. An input
that finds something is made smaller, printed and kept where `tests/regressions` tries it for ever, and the run ends
with status 1. `--seed` repeats a run.
"""

import argparse
import hashlib
import importlib
import pkgutil
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
#: Inputs that broke something once.
KEPT = FOLDER.parent / "regressions" / "fuzz"
LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """One module that can be fed."""

    name: str
    one: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]
    limit_ms: float = 0.0
    spoken: Callable[[random.Random], bytes] | None = None


def targets(only: Sequence[str] = ()) -> list[Target]:
    """The modules of this folder that expose `one`."""
    found = []
    for info in pkgutil.iter_modules([str(FOLDER)]):
        if info.name == "run" or (only and info.name not in only):
            continue
        module = importlib.import_module(f"tests.fuzz.{info.name}")
        if hasattr(module, "one"):
            seeds = list(getattr(module, "SEEDS", [])) or [b""]
            tokens = list(getattr(module, "TOKENS", [])) or [b"\r\n", b" ", b"<", b">", b"@", b'"', b";", b"="]
            limit, spoken = float(getattr(module, "LIMIT_MS", 0)), getattr(module, "spoken", None)
            found.append(Target(info.name, module.one, seeds, tokens, limit, spoken))
    return found


def breaks(target: Target, data: bytes) -> str:
    """The traceback or what it costs, or "" when the invariant holds."""
    spent = float("inf")
    for _ in range(3):  # once may have been the garbage collector
        started = time.thread_time()
        try:
            target.one(data)
        except Exception:
            return traceback.format_exc()
        spent = min(spent, (time.thread_time() - started) * 1000)
        if not target.limit_ms or spent <= target.limit_ms:
            return ""
    return f"{spent:.0f} ms"


def grown(target: Target, chance: random.Random) -> bytes:
    """A new input: what the target makes itself, changed or not; or a seed (or two, spliced) with a few changes."""
    made = target.spoken(chance) if target.spoken is not None and chance.random() < 0.5 else b""
    if made and chance.random() < 0.5:
        return made[:LIMIT]
    data = bytearray(made or chance.choice(target.seeds))
    if chance.random() < 0.2:
        other = chance.choice(target.seeds)
        data = data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randrange(6):
            case 0:
                data[at:at] = chance.choice(target.tokens)
            case 1:
                data[at:at] = chance.randbytes(chance.randint(1, 4))
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case 3 if data:
                data[min(at, len(data) - 1)] = chance.randrange(256)
            case 4:
                piece = data[at : at + chance.randint(1, 16)]
                data[at:at] = piece * chance.randint(1, 4)
            case _:
                end = min(len(data), at + chance.randint(1, 8))
                data[at:end] = chance.choice(target.tokens)
    return bytes(data[:LIMIT])


def smaller(target: Target, data: bytes, seconds: float = 5.0) -> bytes:
    """The input with all pieces taken out that are not needed to break it."""
    deadline = time.monotonic() + seconds
    size = max(1, len(data) // 2)
    while size and time.monotonic() < deadline:
        for at in range(0, len(data), size):
            less = data[:at] + data[at + size :]
            if breaks(target, less):
                data = less
                break
        else:
            size //= 2
    return data


def keep(target: Target, data: bytes, folder: Path = KEPT) -> None:
    """Writes a finding to where it is tried for ever."""
    kept = folder / target.name
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{hashlib.sha256(data).hexdigest()[:12]}.bin").write_bytes(data)


def main() -> int:
    """Runs all targets in turn; the exit status is 1 when one broke."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.run")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=None, help="repeat a run (default: a new one, printed)")
    parser.add_argument("--keep", type=Path, default=KEPT, help="where findings are written")
    parser.add_argument("only", nargs="*", help="names of targets")
    given = parser.parse_args()
    feed = targets(given.only)
    if not feed:
        print("no targets in tests/fuzz", file=sys.stderr)
        return 2
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}; {given.seconds:g} s each for {', '.join(target.name for target in feed)}", flush=True)
    broken: list[str] = []
    for target in feed:
        chance = random.Random(f"{seed}/{target.name}")
        count, deadline = 0, time.monotonic() + given.seconds
        inputs = iter(target.seeds)
        while time.monotonic() < deadline:
            data = next(inputs, None)
            data = grown(target, chance) if data is None else data
            count += 1
            if not breaks(target, data):
                continue
            data = smaller(target, data)
            print(f"\n{target.name} after {count} inputs, on {data!r}:\n{breaks(target, data)}")
            keep(target, data, given.keep)
            broken.append(target.name)
            break
        print(f"{target.name:24} {count:9} inputs{'  BROKEN' * (target.name in broken)}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
