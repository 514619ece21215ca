"""`gatepost rehearse`: an SMTP session on standard input, as if from a client; delivers nothing.

The dialogue, the checks and the policy are the real ones. The state is new and in memory, so strangers are greylisted
and nothing is remembered; the backend is asked for recipients as always, and gets no mail. Lines may end in LF, as
terminals and files have it, and the next one is said when the last has been answered.
"""

import asyncio
import ipaddress
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gateway import log as logging
from gateway.build import Plan, build, plan, resolver_of, settings_of
from gateway.clock import Clock, SystemClock
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Transaction
from gateway.mail.reply import Reply
from gateway.pipeline import Pipeline
from gateway.relay.delivery import Delivered, Fate, Relay
from gateway.smtp.caller import Caller
from gateway.smtp.census import Census
from gateway.smtp.connection import Connection
from gateway.smtp.server import Edge
from gateway.state.sqlite import SqliteStore

Client = Annotated[str, typer.Option("--client", metavar="IP", help="The client's address, as checks shall see it.")]
Config = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
_NOTHING = Reply(250, "2.0.0", ("Rehearsal: accepted, and nothing was delivered",))


def rehearse(client: Client, config: Config = Path("gatepost.yaml")) -> None:
    """An SMTP session on standard input as if from that client; delivers nothing.

    Example: gatepost rehearse --client 192.0.2.7 < dialogue.txt
    """
    try:
        address = str(ipaddress.ip_address(client))
    except ValueError:
        raise typer.BadParameter(f"{client} is no IP address", param_hint="--client") from None
    logging.configure("error")
    clock = SystemClock()
    made = plan(config, DiskFiles(), clock, today=True)
    with tempfile.TemporaryDirectory(prefix="gatepost-rehearsal-") as folder:
        asyncio.run(_session(made, address, Path(folder), clock))


async def _session(made: Plan, client: str, folder: Path, clock: Clock) -> None:
    store = SqliteStore(folder / "state.db", clock)
    house = build(
        made, clock=clock, store=store, resolver=resolver_of(made.config, made.files, clock), journal=None, relay=_Dry
    )
    settings = settings_of(made.config, made.config.listeners[0], starttls="off", chunking=made.chunking)
    edge = Edge(settings, Pipeline(house), census=Census.alone(), clock=clock)
    wire = _Terminal()
    edge.admit(client)
    connection = Connection(edge, Caller(client, 0, "127.0.0.1", 25))
    connection.connection_made(wire)
    await wire.answered()
    while not wire.is_closing() and (line := await asyncio.to_thread(sys.stdin.buffer.readline)):
        connection.data_received(line.rstrip(b"\r\n") + b"\r\n")
        await wire.answered(line)
    if not wire.is_closing():
        wire.close()
    connection.connection_lost(None)
    await edge.drain(0)
    await house.relay.close()
    await house.resolver.close()
    store.close()


class _Dry(Relay):
    """A relay that asks and never delivers."""

    async def deliver(
        self,
        backend: str,
        tx: Transaction,
        prepended: bytes,
        removed: frozenset[int],
        recipient: Mailbox | None = None,
        *,
        client_name: str = "",
        before_dot: Callable[[str], None] | None = None,
    ) -> Fate:
        return Delivered(_NOTHING, "nowhere")


class _Terminal(asyncio.Transport):
    """Standard output as the wire of one connection. Knows when a line has been answered."""

    def __init__(self) -> None:
        super().__init__()
        self._content = False  # between 354 and the dot nothing is answered
        self._closing = False
        self._said = asyncio.Event()

    async def answered(self, line: bytes = b"") -> None:
        """Waits for the reply to the line just given, where one is due."""
        if self._content and line.rstrip(b"\r\n") != b".":
            return
        await self._said.wait()
        self._said.clear()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        os.write(sys.stdout.fileno(), bytes(data))
        self._content = bytes(data).splitlines()[-1].startswith(b"354 ")
        self._said.set()

    def close(self) -> None:
        self._closing = True
        self._said.set()

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """Nothing is read unasked."""

    def resume_reading(self) -> None:
        """Nothing is read unasked."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write_eof(self) -> None:
        self.close()
