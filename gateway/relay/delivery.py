"""The relay: to which backend, does it know the recipient, and what became of the mail.

`Relay` is what the pipeline talks to; one is built for each configuration. `deliver` gives a `Fate` and raises
nothing that a backend can cause: 250 only after the backend's own 250 to the dot, its refusals in their class, and
451 for everything that is our or its trouble (the table of the relay). Should the caller be cancelled, the connection
is closed and the mail was either taken by the backend or not sent.

RFC 5321 sections 4.2.5 and 6.1 (who is responsible when), RFC 1047 (duplicates). Called by `pipeline`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from gateway import tls
from gateway.clock import Clock
from gateway.config import Backend, Config
from gateway.dns.resolver import Resolver
from gateway.files import DiskFiles, Files
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Recipient, Transaction
from gateway.mail.reply import Reply
from gateway.relay.client import Answer, Connection
from gateway.relay.fate import (
    Abandoned,
    Broken,
    Busy,
    Delivered,
    Fate,
    InDoubt,
    Refused,
    Step,
    Unknown,
    about_us,
    passed_on,
    temporary,
)
from gateway.relay.hosts import Hosts
from gateway.relay.introduction import Introduction
from gateway.relay.outgoing import Outgoing
from gateway.relay.pool import Bounds
from gateway.relay.recipients import Answered, Known, Lifetimes, Recipients
from gateway.relay.route import route
from gateway.relay.sts import Fetch
from gateway.relay.way import Way
from gateway.state.store import Store

__all__ = ["Answered", "Delivered", "Fate", "Known", "Refused", "Relay", "Unknown"]


class Relay:
    """The way out of one configuration. `share` is this worker's part of the connections to each host, by backend."""

    def __init__(
        self,
        config: Config,
        hostname: str,
        resolver: Resolver,
        store: Store,
        clock: Clock,
        share: Mapping[str, int] | int,
        *,
        files: Files | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self._domains = {domain: target.backend for domain, target in config.domains.items()}
        self._seconds = config.deadlines.backend
        self._tell = {name: backend.tell_client for name, backend in config.backends.items()}
        contexts = tls.ClientContexts(files or DiskFiles())
        self._way = way = Way(config, hostname, resolver, clock, contexts, store=store, fetch=fetch)
        self._hosts: dict[str, Hosts] = {}
        self._recipients: dict[str, Recipients] = {}
        for name, backend in config.backends.items():
            part = share if isinstance(share, int) else share[name]
            bounds = Bounds(max(1, min(part, backend.connections)))
            hosts = way.hosts(name, backend, bounds)
            self._hosts[name] = hosts
            self._recipients[name] = Recipients(hosts, _lifetimes(backend), store, clock, self._seconds)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def route(self, domain: str) -> str | None:
        """The backend for that domain; `None` means relay denied."""
        return route(self._domains, domain)

    async def known(self, backend: str, tx: Transaction, mailbox: Mailbox) -> Known:
        """Whether the backend takes mail for that mailbox, and a mail as `tx` declares it."""
        with self._under_way():
            unfit = await self._recipients[backend].internationalised() if tx.envelope.smtputf8 else None
            return unfit or await self._recipients[backend].known(mailbox)

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
        """Relays the message of `tx`, `prepended` in front, without the fields whose indices are in `removed`.

        With `recipient` (the quarantine) it goes there instead, from the null reverse-path: nobody is to write to what
        may be a forged sender (RFC 5321 section 6.1). Then no refusal is permanent, for the sender can mend nothing
        about it, and the reply has none of the backend's words. `client_name` is the client's verified reverse
        name, for a backend that is told of the client.
        `before_dot` hears the host right before the final dot goes there: after it the process may die in doubt.
        """
        assert tx.message is not None
        envelope, recipients = tx.envelope, tuple(tx.envelope.recipients)
        if recipient is not None:
            envelope, recipients = replace(envelope, reverse_path=None, parameters=()), (Recipient(recipient),)
        told = self._told(backend, tx, client_name)

        def last_call(host: str) -> None:
            _heard_by(tx)
            if before_dot is not None:
                before_dot(host)

        mail = Outgoing(envelope, recipients, prepended, tx.message, removed, told, last_call)
        with self._under_way():
            fate = await self._deliver(backend, tx, mail)
        return fate if recipient is None else _in_our_words(fate)

    def _told(self, backend: str, tx: Transaction, name: str) -> Introduction | None:
        how, session = self._tell[backend], tx.session
        if how == "off":
            return None
        verb: Literal["XCLIENT", "XFORWARD"] = "XCLIENT" if how == "xclient" else "XFORWARD"
        return Introduction(verb, name, session.client_ip, session.client_port, session.helo, session.esmtp, tx.id)

    async def drain(self) -> None:
        """Waits for deliveries and questions that are under way."""
        await self._idle.wait()

    async def close(self) -> None:
        """Ends questions, takes leave of the backends. Call `drain` first."""
        for recipients in self._recipients.values():
            await recipients.close()
        for hosts in self._hosts.values():
            await hosts.close()
        await self._way.close()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _deliver(self, backend: str, tx: Transaction, mail: Outgoing) -> Fate:
        async def talk(connection: Connection) -> tuple[Answer, str]:
            _heard_by(tx)
            host = str(connection.endpoint)
            answer = await connection.transact(mail)
            if about_us(answer.response) and answer.step is not Step.DOT:  # nothing was handed over yet
                raise Busy(host, answer.response)
            return answer, host

        try:
            deadline = asyncio.get_running_loop().time() + self._seconds
            answer, host = await self._hosts[backend].converse(deadline, talk)
        except InDoubt as why:
            return Unknown(why.reply, why.why)
        except Broken as why:
            return Refused(why.reply, why.why)
        if answer.delivered:
            return Delivered(passed_on(answer.response), host)
        reply = passed_on(answer.response)
        if answer.step is Step.RCPT:
            asked = self._recipients[backend]
            for index in answer.refused:
                await asked.forget(mail.recipients[index].mailbox)
            # One refusal cannot be told for the others, and one that contradicts an earlier yes is to be asked again.
            if asked.verified or len(mail.recipients) > 1:
                reply = temporary(reply)
        return Refused(reply, f"{host} refused at {answer.step.name}")


def _heard_by(tx: Transaction) -> None:
    """Raises `Abandoned` when the client that would hear the answer is gone."""
    if tx.session.gone:
        raise Abandoned("the client has gone")


def _in_our_words(fate: Fate) -> Fate:
    """What became of a mail for the quarantine, as its sender may hear it.

    Servers repeat the recipient in their replies: a stranger would learn that, and where, its mail is held.
    """
    if isinstance(fate, Delivered):
        return Delivered(Reply(fate.reply.code, fate.reply.status, ("Ok",)), fate.host)
    if isinstance(fate, Refused):
        reply, later = temporary(fate.reply), "The mail server does not take it now; try again later"
        said = f"{fate.why}: {fate.reply.code} {' '.join(fate.reply.text)}"
        return Refused(Reply(reply.code, reply.status, (later,)), said)
    return fate


def _lifetimes(backend: Backend) -> Lifetimes | None:
    verify = backend.verify_recipients
    return None if verify == "off" else Lifetimes(verify.positive, verify.negative)
