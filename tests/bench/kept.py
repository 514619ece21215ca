"""Kept connections to a backend against one connection for each mail: `python -m tests.bench.kept`.

The relay alone (no edge, no checks) before a backend in a process of its own, same run, in turns: kept; one connection
a mail with the TLS session resumed; one with a full handshake each. Mails a second by the wall clock, and CPU of the
relaying process a mail. Ratios mean something, figures of two machines do not.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import uvloop

from gateway.cli.testca import Pair
from gateway.relay.delivery import Delivered, Relay
from gateway.tls import Context
from tests.outages.rig import NAME, OURS, Rig, quiet, transaction
from tests.support.recorder import recorder

WAYS = ("kept connections", "one a mail, session resumed", "one a mail, full handshake")


async def measured(relay: Relay, count: int, at_once: int, octets: bytes) -> tuple[float, float]:
    """Mails a second, and CPU milliseconds a mail."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            fate = await relay.deliver("main", transaction(octets=octets), OURS, frozenset())
            assert isinstance(fate, Delivered), fate

    started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*(work() for _ in range(at_once)))
    seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return count / seconds, cpu / count * 1000


async def compare(folder: Path, count: int, at_once: int, size: int, rounds: int) -> list[str]:
    """One line a way: the best of `rounds`."""
    rig = Rig(folder)
    pair = Pair(rig.good.certificate, rig.good.key)
    octets = b"Subject: x\r\n\r\n" + b"0123456789" * 7 + b"\r\n"
    octets += (b"0123456789" * 7 + b"\r\n") * (size // 72)
    best: dict[str, tuple[float, float]] = {}
    with recorder(pair, folder / "taken") as backend:
        for _ in range(rounds):
            for way in WAYS:
                relay = rig.relay(backend.port, share=at_once, name=NAME, seconds=60)
                for hosts in relay._hosts.values():
                    if way != WAYS[0]:
                        hosts._bounds = replace(hosts._bounds, transactions=1)
                    if way == WAYS[2]:
                        trust, _ = await hosts._verifier.demand((await hosts._targets.now())[0])
                        assert isinstance(trust.context, Context)
                        trust.context.remember = lambda *_: None  # type: ignore[method-assign]
                await measured(relay, at_once, at_once, octets)  # the first handshakes are nobody's
                found = await measured(relay, count, at_once, octets)
                best[way] = max(best.get(way, (0.0, 0.0)), found)
                await relay.close()
    floor = best[WAYS[0]]
    return [
        f"{way:<30} {rate:>8.0f} mails/s   {cpu:>6.2f} ms CPU a mail   {floor[0] / rate:>5.1f} times slower, "
        f"{cpu / floor[1]:>4.1f} times the CPU"
        for way, (rate, cpu) in best.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--size", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in runner.run(compare(Path(folder), given.count, given.at_once, given.size, given.rounds)):
            print(line)


if __name__ == "__main__":
    main()
