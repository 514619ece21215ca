"""Hosts in a time that only passes when nothing else is to be done: minutes of silence cost a test nothing.

The loop is asyncio's own with a clock that jumps to the next timer. A `Peer` is a host behind the real `Wire`: each
step of the dialogue takes its time, or ends the connection. Opening a connection (sockets, TLS) is one step.
"""

import asyncio
import math
import selectors
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.clock import Clock
from gateway.relay.addresses import Addresses
from gateway.relay.client import Connection
from gateway.relay.fate import Lost
from gateway.relay.hosts import Hosts
from gateway.relay.pool import Bounds
from gateway.relay.targets import Endpoint, Fixed, Target
from gateway.relay.wire import Wire

STEPS = ("open", "mail", "rcpt", "data", "body", "dot", "rset")
NEVER = math.inf
#: Instead of seconds: the connection ends, or the host says 421.
CLOSES, LEAVES = -1.0, -2.0


class Jump(selectors.SelectSelector):
    """Where a loop would sleep, its clock moves on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen any more"
        self.now += max(timeout, 0.0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jump = Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


class LoopClock:
    """The loop's time as the gateway's clock."""

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def new_id(self) -> str:
        return "T1"


@dataclass
class Host:
    """What one host does at each step: seconds until its reply; `CLOSES`; `LEAVES`."""

    steps: Mapping[str, float] = field(default_factory=dict)
    features: tuple[str, ...] = ("PIPELINING",)
    dots: int = 0  # ends of mails that came here
    yes: int = 0  # of them answered 250
    no: int = 0  # of them answered 421
    connections: int = 0

    @property
    def prompt(self) -> bool:
        """True for a host without a fault."""
        return not any(self.steps.values())


class Peer(asyncio.Transport):
    """The other end of one connection."""

    def __init__(self, host: Host, wire: Wire, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._host, self._wire = host, wire
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._body = False
        self._due = 0  # octets of the mail, where BDAT said so
        self._over = False
        task = asyncio.get_running_loop().create_task(self._serve())
        tasks.add(task)
        wire.connection_made(self)
        wire.data_received(b"220 hm\r\n")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self  # a socket, too

    def setsockopt(self, *_: int) -> None:
        pass

    def write(self, data: Any) -> None:
        octets = bytes(data)
        if octets.startswith(b"BDAT"):
            said, _, octets = octets.partition(b"\r\n")
            self._body, self._due = True, int(said.split()[1])
        if self._body:
            behind = octets[self._due :] if self._due >= 0 else b""
            self._due -= len(octets) - len(behind)
            self._body = self._due != 0 and not octets.endswith(b"\r\n.\r\n")
            if self._body:
                self._swallow(self._host.steps.get("body", 0.0))
                return
            self._lines.put_nowait("DOT")
            octets = behind
        for line in octets.decode().splitlines():
            self._lines.put_nowait(line[:4].upper())

    def _swallow(self, seconds: float) -> None:
        """A piece of a body, which takes that long."""
        if seconds == CLOSES:
            self.abort()
            return
        self._wire.pause_writing()
        if seconds not in (NEVER, LEAVES):
            asyncio.get_running_loop().call_later(seconds, self._wire.resume_writing)

    def is_closing(self) -> bool:
        return self._over

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._over:
            self._over = True
            asyncio.get_running_loop().call_soon(self._wire.connection_lost, None)

    async def _serve(self) -> None:
        replies = {"MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n", "RSET": b"250 ok\r\n"}
        while True:
            line = await self._lines.get()
            step = line.lower()
            if line == "DOT":
                self._host.dots += 1
            seconds = self._host.steps.get(step, 0.0)
            if seconds == CLOSES:
                self.abort()
                return
            if seconds > 0:
                await asyncio.sleep(seconds if seconds < NEVER else 1e6)
            if self.is_closing():
                return
            if seconds == LEAVES:
                self._host.no += line == "DOT"
                self._wire.data_received(b"421 4.3.2 bye\r\n")
                self.abort()
                return
            if line == "DATA":
                self._body, self._due = True, -1
            if line == "DOT":
                self._host.yes += 1
            self._wire.data_received(replies.get(line, b"250 ok\r\n"))


class Town:
    """Hosts of one backend, and the code under test in front of them."""

    def __init__(self, *hosts: Host, connections: int = 2) -> None:
        self.by_address = {f"192.0.2.{number}": host for number, host in enumerate(hosts, 1)}
        self.tasks: set[asyncio.Task[None]] = set()
        endpoints = [Endpoint(address, 25, "mail.example") for address in self.by_address]
        clock: Clock = LoopClock()
        self.hosts = Hosts(
            "main",
            Fixed(endpoints),
            self,
            "mx.example.com",
            _Literal(),
            clock,
            Bounds(connections),
        )

    async def demand(self, target: Target) -> tuple[Any, str]:
        """Stands in for a verifier."""
        return None, ""

    def opener(self) -> Any:
        """What takes the place of `Connection.open`."""

        async def open_(endpoint: Endpoint, address: str, *_: object) -> Connection:
            host = self.by_address[address]
            host.connections += 1
            seconds = host.steps.get("open", 0.0)
            if seconds < 0:
                raise Lost("closed")
            await asyncio.sleep(seconds if seconds < NEVER else 1e6)
            wire = Wire()
            Peer(host, wire, self.tasks)
            await wire.response()
            return Connection(wire, endpoint, dict.fromkeys(host.features, ""), "mx.example.com")

        return open_

    async def close(self) -> None:
        await self.hosts.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class _Literal(Addresses):
    def __init__(self) -> None:
        pass

    async def of(self, name: str) -> list[str]:
        return [name]


def run(test: Coroutine[Any, Any, None]) -> None:
    """Runs to its end in virtual time."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(test)
