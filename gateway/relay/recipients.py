"""Does the backend know this recipient? Asked at RCPT, remembered, and asked once however many want to know.

A short transaction without mail asks the backend itself, so that we keep no list that could be wrong. Its yes and its
no are kept in the store for as long as the configuration says; a temporary answer is not kept. A backend that cannot
be asked is a 451, never a guess. A store that is away costs a question to the backend, nothing else.

Called by `delivery`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ParamSpec, TypeVar

from gateway.clock import Clock
from gateway.log import log
from gateway.mail.address import Mailbox
from gateway.mail.reply import Reply
from gateway.mail.terms import Unavailable
from gateway.relay.client import Answer, Connection
from gateway.relay.fate import Broken, Step, Unreachable, passed_on
from gateway.relay.hosts import Hosts
from gateway.state.store import Store, ask

#: A client waits for its answer to RCPT, and others may stand behind it in the same pool.
_SECONDS = 30.0
_UNKNOWN_MAILBOX = Reply(550, "5.1.1", ("The mail server knows no such mailbox",))
_NO_UTF8 = Reply(553, "5.6.7", ("The mail server takes no UTF-8 addresses",))

P = ParamSpec("P")
R = TypeVar("R")


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


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds that a yes and a no are kept."""

    positive: float
    negative: float


class Recipients:
    """The answers of one backend."""

    def __init__(self, hosts: Hosts, lifetimes: Lifetimes | None, store: Store, clock: Clock, seconds: float) -> None:
        self._hosts = hosts
        self._lifetimes = lifetimes
        self._store = store
        self._clock = clock
        self._seconds = min(seconds, _SECONDS)
        self._flights: dict[Mailbox, asyncio.Task[Known]] = {}

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
        if remembered is not None:
            return Known(Answered.YES) if remembered else Known(Answered.NO, _UNKNOWN_MAILBOX)
        flight = self._flights.get(mailbox)
        if flight is None:
            # A task of its own: the first asker may go away while others wait for the same answer. `close` ends it.
            flight = asyncio.get_running_loop().create_task(self._fly(mailbox, self._lifetimes))
            self._flights[mailbox] = flight
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if not flight.cancelled():
                raise
            return Known(Answered.UNKNOWN, Unreachable.reply)  # we are closing; the asker was not cancelled

    async def forget(self, mailbox: Mailbox) -> None:
        """Drops what was remembered: the next RCPT meets the truth."""
        await self._stored(self._store.forget_recipient, None, self._hosts.name, str(mailbox))

    async def close(self) -> None:
        """Ends the questions that are still open."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, mailbox: Mailbox, lifetimes: Lifetimes) -> Known:
        try:
            answer = await self._hosts.converse(asyncio.get_running_loop().time() + self._seconds, _question(mailbox))
            return answer if isinstance(answer, Known) else await self._judged(mailbox, answer, lifetimes)
        except Broken as why:
            return Known(Answered.UNKNOWN, why.reply)
        finally:
            self._flights.pop(mailbox, None)  # not before the store has the answer: who comes then asks nobody

    async def _judged(self, mailbox: Mailbox, answer: Answer, lifetimes: Lifetimes) -> Known:
        if answer.response.code < 400:
            await self._remember(mailbox, True, lifetimes.positive)
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
        return Known(Answered.NO, reply)

    async def _remember(self, mailbox: Mailbox, known: bool, seconds: float) -> None:
        until = self._clock.now() + seconds
        await self._stored(self._store.remember_recipient, None, self._hosts.name, str(mailbox), known, until)

    async def _stored(self, call: Callable[P, R], otherwise: R, *args: P.args, **keywords: P.kwargs) -> R:
        try:
            return await ask(self._store, call, *args, **keywords)
        except Unavailable:  # the store has told log and metrics
            return otherwise


def _question(mailbox: Mailbox) -> Callable[[Connection], Awaitable[Answer | Known]]:
    async def question(connection: Connection) -> Answer | Known:
        if mailbox.is_utf8 and "SMTPUTF8" not in connection.features:
            return Known(Answered.NO, _NO_UTF8)
        return await connection.ask(mailbox)

    return question
