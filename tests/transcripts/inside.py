"""The gateway inside this process, on a given socket and clock: what `worker` serves, without the processes."""

import socket
from dataclasses import dataclass
from pathlib import Path

from gateway.build import build, plan, resolver_of, settings_of
from gateway.clock import Clock
from gateway.files import DiskFiles
from gateway.pipeline import House, Pipeline
from gateway.smtp.census import Census
from gateway.smtp.server import Edge
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Store


@dataclass(frozen=True, slots=True)
class Inside:
    """A serving gateway."""

    edge: Edge
    house: House
    store: Store

    def sweep(self) -> None:
        """Ends the connections whose time is up."""
        self.edge.sweep()

    async def stop(self) -> None:
        """Ends everything."""
        await self.edge.drain(0.1)
        await self.house.relay.drain()
        await self.house.relay.close()
        await self.house.resolver.close()
        self.store.close()


async def start_gateway(file: Path, listener: socket.socket, clock: Clock) -> Inside:
    """Serves the first listener of that configuration on `listener`."""
    made = plan(file, DiskFiles(), clock, today=True)
    store = SqliteStore(file.with_name("inside.db"), clock)
    house = build(made, clock=clock, store=store, resolver=resolver_of(made.config, made.files, clock), journal=None)
    settings = settings_of(made.config, made.config.listeners[0], chunking=made.chunking)
    edge = Edge(settings, Pipeline(house), census=Census.alone(), clock=clock, tls=lambda: made.contexts[0])
    edge.pause = _at_once
    await edge.start(listener)
    return Inside(edge, house, store)


async def _at_once(_: float) -> None:
    """Nobody waits in a transcript: its clock stands still."""
