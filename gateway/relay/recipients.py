"""Does the backend know this recipient? Asked at RCPT, remembered, and asked once however many want to know.

A short transaction without mail asks the backend itself, so that we keep no list that could be wrong. Its yes and its
no are kept in the store for as long as the configuration says; a temporary answer is not kept. A backend that cannot
be asked is a 451, never a guess. A store that is away costs a question to the backend, nothing else.

A yes that is used in the last fifth of its life is asked for again meanwhile, so that busy recipients never wait: by
one of all workers and gateways that share the store. A backend that said yes twenty times and never no is asked for a
mailbox that cannot be (at most once a day and domain): one that takes that, too, takes everybody, and then no
recipient is verified; log and metrics say so.

Called by `delivery`.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ParamSpec, TypeVar

from gateway import metrics
from gateway.clock import Clock
from gateway.log import log
from gateway.mail.address import Mailbox
from gateway.mail.reply import Reply
from gateway.mail.terms import Unavailable
from gateway.relay.client import Answer, Connection
from gateway.relay.fate import Broken, Step, Unfit, Unreachable, passed_on
from gateway.relay.hosts import Hosts
from gateway.relay.outgoing import NO_UTF8
from gateway.state.store import Store, ask

#: A client waits for its answer to RCPT, and others may stand behind it in the same pool.
_SECONDS = 30.0
_UNKNOWN_MAILBOX = Reply(550, "5.1.1", ("The mail server knows no such mailbox",))

#: Of a yes's lifetime; when no more than that is left, its next use asks again.
_STALE = 0.2
_REFRESH_PAUSE = 60.0  # seconds between two attempts to refresh one answer
#: Yes in a row for a domain, after which a backend is suspected to take everybody.
_SUSPICIOUS = 20
_DOMAIN_LIMIT = 1000
PROBE_SECONDS = 86_400.0

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Answered(StrEnum):
    """The values of the fact `rcpt.known`."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Known:
    """What the backend says of a recipient. `reply` is the refusal to give: one with NO, a 4xx or none with UNKNOWN."""

    answer: Answered
    reply: Reply | None = None
    why: str = ""  # of a backend that could not be asked, for the operator


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds that a yes and a no are kept."""

    positive: float
    negative: float


def everybody(domain: str) -> str:
    """The key of the answer to a probe: no mailbox is spelt like this."""
    return f"@{domain}"


def nobody(domain: str) -> Mailbox:
    """A mailbox that cannot be there."""
    return Mailbox(f"gatepost-probe-{secrets.token_hex(8)}", domain)


async def takes_everybody(hosts: Hosts, domain: str, deadline: float) -> bool | None:
    """Whether the backend takes a mailbox that cannot be there; `None` when it does not say. Raises `Broken`."""
    answer = await hosts.converse(deadline, lambda connection: connection.ask(nobody(domain)))
    if answer.response.code < 400:
        return True
    return False if answer.step is Step.RCPT and answer.response.code >= 500 else None


class Recipients:
    """The answers of one backend."""

    def __init__(self, hosts: Hosts, lifetimes: Lifetimes | None, store: Store, clock: Clock, seconds: float) -> None:
        self._hosts = hosts
        self._lifetimes = lifetimes
        self._store = store
        self._clock = clock
        self._seconds = min(seconds, _SECONDS)
        self._flights: dict[Mailbox, asyncio.Task[Known]] = {}
        self._yes_in_a_row: dict[str, int] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._takes_everybody: dict[str, bool] = {}

    @property
    def verified(self) -> bool:
        """False when the configuration says that the backend is not to be asked."""
        return self._lifetimes is not None

    async def known(self, mailbox: Mailbox) -> Known:
        """Whether the backend takes mail for that mailbox."""
        if self._lifetimes is None:
            return Known(Answered.UNKNOWN)
        store = self._store
        remembered = await self._stored(store.recipient, None, self._hosts.name, str(mailbox), self._clock.now())
        if remembered is not None and remembered.known:
            if remembered.until - self._clock.now() <= _STALE * self._lifetimes.positive:
                await self._refresh(mailbox, self._lifetimes)
            return Known(Answered.YES)
        if remembered is not None:
            return Known(Answered.NO, _UNKNOWN_MAILBOX)
        flight = self._flight(mailbox, self._lifetimes)
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if not flight.cancelled():
                raise
            return Known(Answered.UNKNOWN, Unreachable.reply)  # we are closing; the asker was not cancelled

    async def _refresh(self, mailbox: Mailbox, lifetimes: Lifetimes) -> None:
        """Asks again, unless somebody who shares the store does so or tried a moment ago; nobody waits for it."""
        if mailbox in self._flights:
            return
        # A rate of one in a while, counted in the store: its first asker is the one. No rule's id begins like this.
        claim, store = f"@refresh {self._hosts.name} {mailbox}", self._store
        ours = await self._stored(store.limit, None, claim, now=self._clock.now(), rate=1, per=_REFRESH_PAUSE)
        if ours is None or ours.allowed:
            self._flight(mailbox, lifetimes)

    def _flight(self, mailbox: Mailbox, lifetimes: Lifetimes) -> asyncio.Task[Known]:
        flight = self._flights.get(mailbox)
        if flight is None:
            # A task of its own: the first asker may go away while others wait for the same answer. `close` ends it.
            flight = asyncio.get_running_loop().create_task(self._fly(mailbox, lifetimes))
            self._flights[mailbox] = flight
        return flight

    async def internationalised(self) -> Known | None:
        """Why a mail that its sender declared with SMTPUTF8 cannot go there; `None` when the backend offers it.

        Asked at RCPT, so that it is no surprise after the message; a kept connection knows without a word.
        """

        async def offered(connection: Connection) -> None:
            # Behind an XCLIENT that is what the last client was offered; then delivery finds out.
            if "SMTPUTF8" not in connection.features and not connection.masked:
                raise Unfit(str(connection.endpoint), NO_UTF8)

        try:
            await self._hosts.converse(asyncio.get_running_loop().time() + self._seconds, offered)
        except Broken as why:
            return Known(Answered.UNKNOWN, why.reply, why.why)
        return None

    async def forget(self, mailbox: Mailbox) -> None:
        """Drops what was remembered: the next RCPT meets the truth."""
        await self._stored(self._store.forget_recipient, None, self._hosts.name, str(mailbox))

    async def close(self) -> None:
        """Ends the questions that are still open."""
        flights: list[asyncio.Task[Known] | asyncio.Task[None]] = [*self._flights.values(), *self._probes.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, mailbox: Mailbox, lifetimes: Lifetimes) -> Known:
        try:
            deadline = asyncio.get_running_loop().time() + self._seconds
            answer = await self._hosts.converse(deadline, lambda connection: connection.ask(mailbox))
            return await self._judged(mailbox, answer, lifetimes)
        except Unfit as why:
            return Known(Answered.NO, why.reply, why.why)
        except Broken as why:
            return Known(Answered.UNKNOWN, why.reply, why.why)
        finally:
            self._flights.pop(mailbox, None)  # not before the store has the answer: who comes then asks nobody

    async def _judged(self, mailbox: Mailbox, answer: Answer, lifetimes: Lifetimes) -> Known:
        if answer.response.code < 400:
            await self._remember(mailbox, True, lifetimes.positive)
            self._said_yes(mailbox)
            return Known(Answered.YES)
        reply = passed_on(answer.response)
        if not reply.permanent:
            return Known(Answered.UNKNOWN, reply)
        if answer.step is Step.MAIL:
            # It refuses the null reverse-path (against RFC 5321 section 4.5.5): that says nothing of the recipient.
            log.warning("backend refuses MAIL FROM:<>, recipients go unverified", backend=self._hosts.name)
            return Known(Answered.UNKNOWN)
        # Only "no such mailbox" lasts; a full one or a matter of policy may be otherwise for the next mail.
        if reply.code != 552 and reply.status.startswith(("5.0.", "5.1.", "5.2.1")):
            await self._remember(mailbox, False, lifetimes.negative)
            self._yes_in_a_row[mailbox.domain] = 0
        return Known(Answered.NO, reply)

    def _said_yes(self, mailbox: Mailbox) -> None:
        domain, counts = mailbox.domain, self._yes_in_a_row
        if domain in counts or len(counts) < _DOMAIN_LIMIT:
            counts[domain] = counts.get(domain, 0) + 1
            if counts[domain] >= _SUSPICIOUS and domain not in self._probes:
                counts[domain] = 0
                self._probes[domain] = asyncio.get_running_loop().create_task(self._probe(domain))

    async def _probe(self, domain: str) -> None:
        """Finds out whether the backend takes everybody; a worker that did so today has told the store."""
        name, key = self._hosts.name, everybody(domain)
        try:
            told = await self._stored(self._store.recipient, None, name, key, self._clock.now())
            if told is not None:
                takes: bool | None = told.known
            else:
                takes = await takes_everybody(self._hosts, domain, asyncio.get_running_loop().time() + self._seconds)
                if takes is None:
                    return
                until = self._clock.now() + PROBE_SECONDS
                await self._stored(self._store.remember_recipient, None, name, key, takes, until)
                if takes:
                    hint = "its recipients are not verified: mail for nobody is accepted, and bounces; mend it there"
                    log.warning("backend accepts every recipient", backend=name, domain=domain, hint=hint)
            self._takes_everybody[domain] = bool(takes)
            metrics.backend_takes_everybody(name, any(self._takes_everybody.values()))
        except Broken as why:
            log.info("backend could not be probed", backend=name, why=why.why)
        finally:
            self._probes.pop(domain, None)

    async def _remember(self, mailbox: Mailbox, known: bool, seconds: float) -> None:
        until = self._clock.now() + seconds
        await self._stored(self._store.remember_recipient, None, self._hosts.name, str(mailbox), known, until)

    async def _stored(self, call: Callable[P, R], otherwise: T, *args: P.args, **keywords: P.kwargs) -> R | T:
        try:
            return await ask(self._store, call, *args, **keywords)
        except Unavailable:  # the store has told log and metrics
            return otherwise
