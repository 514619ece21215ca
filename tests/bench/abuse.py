"""`make abuse`: 5,000 idle, 500 dripping and 200 flooding connections; 20 honest clients deliver all the same.

Then a siege: silent connections from hundreds of networks take all places of a house of the usual size.

Measured: how long a mail of an honest client takes, undisturbed and in the storm (p50, p99); what an idle connection
costs in memory, plain and inside TLS; and that descriptors and memory are back afterwards. `tests/e2e/test_abuse.py`
runs a small storm with the same functions and asserts on mail and leaks alone, never on time.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.testca import TestCa
from tests.support.gateway import BACKEND_NAME, REPOSITORY, Gateway, Site, memory, serving, site
from tests.support.recorder import Recorder, recorder

MESSAGE = b"X-Test-Id: %s\r\nFrom: <sue@sender.example>\r\nSubject: honest\r\n\r\n" + b"line of text\r\n" * 280
LINES = (  # the first one is the banner's turn
    b"",
    b"EHLO client.sender.example\r\n",
    b"MAIL FROM:<sue@sender.example>\r\n",
    b"RCPT TO:<alice@example.com>\r\n",
    b"DATA\r\n",
)
IDLE_LIMIT, TLS_LIMIT, SLOWER_LIMIT = 10 * 1024, 40 * 1024, 5.0
#: Equal storms. The interpreter keeps the arenas of a worker's own peak, which may come late, for the kernel deals
#: connections out unevenly: in the last of them none is due any more, and a leak would show.
STORMS = 6
KEPT_LIMIT, LEAK_LIMIT = 40.0, 4.0  # MB
SIEGED = 2000  # limits.connections in the siege: the usual


@dataclass(frozen=True, slots=True)
class Storm:
    """Who comes."""

    idle: int = 0
    tls: int = 0
    drip: int = 0
    flood: int = 0
    hold: int = 0


@contextmanager
def raging(port: int, storm: Storm) -> Iterator[list[str]]:
    """The storm, from when all stand until the end of the block; then the list has its own account."""
    words = [f"--{kind}={getattr(storm, kind)}" for kind in ("idle", "tls", "drip", "flood", "hold")]
    crowd = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.storm", str(port), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    account: list[str] = []
    try:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "ready\n", "the storm did not come up"
        yield account
        account.append(crowd.communicate(timeout=60)[0].strip())
    finally:
        if crowd.poll() is None:
            crowd.kill()
        crowd.communicate()


async def _deliver(port: int, source: str, name: bytes, again: bool) -> None:
    """One mail on a connection of its own; on another one a second later where it is refused and comes `again`."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        try:
            for line in (*LINES, MESSAGE % name + b".\r\n"):
                writer.write(line)
                while (reply := await reader.readline())[3:4] == b"-":
                    pass
                if again and not line and reply.startswith(b"421"):
                    break
                assert reply[:1] in b"23", (line[:40], reply)
            else:
                writer.write(b"QUIT\r\n")
                await reader.readline()
                return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await asyncio.sleep(1)


def honest(port: int, clients: int, mails: int, *, strangers: bool = False) -> list[float]:
    """Seconds from connecting to the end of the session, of all mails, sorted. Raises where one was not taken.

    `strangers` come from a new network with each mail, and again a second later when they are refused at the banner.
    """

    async def one(client: int, seconds: list[float]) -> None:
        for number in range(mails):
            began = time.monotonic()
            source = f"127.{100 + client}.{number}.1" if strangers else f"127.8.{client}.1"
            await _deliver(port, source, f"{client}-{number}".encode(), strangers)
            seconds.append(time.monotonic() - began)

    async def together() -> list[float]:
        seconds: list[float] = []
        async with asyncio.timeout(600):
            await asyncio.gather(*(one(client, seconds) for client in range(clients)))
        return sorted(seconds)

    return asyncio.run(together())


def quantile(seconds: list[float], part: float) -> float:
    """That part of them took no longer."""
    return seconds[min(len(seconds) - 1, int(len(seconds) * part))]


def descriptors(gateway: Gateway, backend: Recorder) -> int:
    """Open files of all workers, but for the connections to the backend, which the pool keeps as it sees fit."""
    kept = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[2].rpartition(":")[2], 16) == backend.port:
            kept.add(f"socket:[{words[9]}]")
    count = 0
    for pid in gateway.worker_pids():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(entry) not in kept
    return count


def resident(gateway: Gateway) -> int:
    """Memory of all workers."""
    return sum(memory(pid, "VmRSS") for pid in gateway.worker_pids())


def settled(gateway: Gateway, backend: Recorder, start: int, seconds: float = 60) -> int:
    """Descriptors when they are back at `start`, or after that time."""
    deadline = time.monotonic() + seconds
    while (now := descriptors(gateway, backend)) > start and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


def place(folder: Path, backend: Recorder, authority: TestCa, connections: int = 20_000) -> Site:
    """A gateway with two workers and the usual limit of each network."""
    limits = {"connections": connections, "connections_per_network": 50}
    return site(folder, backend.port, authority, limits=limits, journal=None)


def cost(gateway: Gateway, backend: Recorder, storm: Storm, start: int) -> float:
    """Octets of memory an idle connection of the first such crowd takes: later ones find what it has left."""
    before = resident(gateway)
    with raging(gateway.port, storm):
        time.sleep(1)
        each = (resident(gateway) - before) / (storm.idle + storm.tls)
    settled(gateway, backend, start)
    time.sleep(2)  # within a second memory is given back
    return each


class Findings:
    """What was measured, told line by line, and which of it was beyond its bound."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def told(self, what: str, value: str, fine: bool = True) -> None:
        print(f"{what:58} {value:>22}  {'' if fine else 'TOO MUCH'}", flush=True)
        if not fine:
            self.faults.append(what)

    def pace(self, what: str, seconds: list[float]) -> None:
        self.told(
            f"{what}: p50, p99 of a mail, ms", " ".join(f"{quantile(seconds, q) * 1000:.0f}" for q in (0.5, 0.99))
        )

    def after(self, gateway: Gateway, backend: Recorder, start: int, mails: int) -> None:
        """What must hold after any storm."""
        left = settled(gateway, backend, start) - start
        self.told("descriptors more than before", str(left), left <= 0)
        missing = mails - len(backend.records())
        self.told("honest mails that did not arrive", str(missing), missing == 0)
        if noise := [line for line in gateway.log if line.get("level") == "error"]:
            self.told("errors in the log", str(noise[:2]), False)


def storms(found: Findings, gateway: Gateway, backend: Recorder, given: argparse.Namespace) -> None:
    """What idle connections cost; then the same storm six times, so that a leak would show."""
    honest(gateway.port, 20, 5)
    start = descriptors(gateway, backend)
    calm = honest(gateway.port, 20, given.mails)
    found.pace("undisturbed", calm)
    fresh = resident(gateway)
    plain = cost(gateway, backend, Storm(idle=given.idle), start)
    tls = cost(gateway, backend, Storm(tls=given.tls), start)
    found.told("memory of an idle connection, KiB", f"{plain / 1024:.1f}", plain <= IDLE_LIMIT)
    found.told("memory of an idle connection inside TLS, KiB", f"{tls / 1024:.1f}", tls <= TLS_LIMIT)
    base, mails, left = resident(gateway), 20 * (5 + given.mails), []
    for number in range(STORMS):
        with raging(gateway.port, Storm(given.idle, 0, given.drip, given.flood)) as account:
            time.sleep(2)
            rough = honest(gateway.port, 20, given.mails)
        mails += 20 * given.mails
        found.told(f"storm {number + 1}", "".join(account))
        found.pace("in the storm", rough)
        slower = quantile(rough, 0.99) / quantile(calm, 0.99)
        found.told("p99 of honest clients, times the undisturbed", f"{slower:.1f}", slower <= SLOWER_LIMIT)
        found.after(gateway, backend, start, mails)
        time.sleep(2)  # within a second memory is given back
        left.append((resident(gateway) - base) / 1e6)
        found.told("memory more than before it, MB, both workers", f"{left[-1]:.1f}", left[-1] < KEPT_LIMIT)
    found.told("memory more than before any crowd, MB", f"{(resident(gateway) - fresh) / 1e6:.1f}")
    more = left[-1] - left[-2]
    found.told("the last storm's more than the one's before, MB", f"{more:.1f}", more < LEAK_LIMIT)


def siege(found: Findings, gateway: Gateway, backend: Recorder, given: argparse.Namespace) -> None:
    """Silent connections from hundreds of networks, more than the house has room for, and back at once."""
    honest(gateway.port, 20, 5)
    start = descriptors(gateway, backend)
    found.pace("strangers, undisturbed", honest(gateway.port, 20, given.mails, strangers=True))
    with raging(gateway.port, Storm(hold=given.hold)) as account:
        time.sleep(2)
        rough = honest(gateway.port, 20, given.mails, strangers=True)
    found.told(f"siege of {given.hold} for {SIEGED} places", "".join(account))
    found.pace("strangers, in the siege", rough)
    found.after(gateway, backend, start, 20 * (5 + 2 * given.mails))


def main() -> int:
    """The whole of it; the exit status says whether the bounds held."""
    parser = argparse.ArgumentParser(prog="tests.bench.abuse")
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--tls", type=int, default=1000, help="idle ones inside TLS, measured apart")
    parser.add_argument("--drip", type=int, default=500)
    parser.add_argument("--flood", type=int, default=200)
    parser.add_argument("--hold", type=int, default=4000, help="silent ones, ten from each network")
    parser.add_argument("--mails", type=int, default=25, help="of each of the 20 honest clients, in each storm")
    given = parser.parse_args()
    found = Findings()
    for part, connections in ((storms, 20_000), (siege, SIEGED)):
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            authority = TestCa(folder)
            backend = stack.enter_context(recorder(authority.issue(BACKEND_NAME), folder / "taken"))
            gateway = stack.enter_context(serving(place(folder / "site", backend, authority, connections)))
            part(found, gateway, backend, given)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
