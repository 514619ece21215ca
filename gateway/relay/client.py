"""SMTP towards one backend: a connection inside verified TLS (`opening`), and then transactions, pipelined.

In clear text nothing is ever said but EHLO and STARTTLS. A `Connection` that exists is inside TLS with a checked
certificate; its features are those of the EHLO inside TLS. Every method raises `Broken` (but for `Unfit`), or is
cancelled, with the connection closed: one in an unknown state cannot go back to the pool.

RFC 5321, 2920 (pipelining), 3030 (CHUNKING). Called by `hosts` (open), `delivery` and `recipients`.
"""

import asyncio
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from gateway.mail.address import Mailbox
from gateway.relay.fate import Broken, Lost, OutOfPlace, Step, Unfit, Unreachable, means_yes
from gateway.relay.introduction import Introduction
from gateway.relay.opening import ehlo, opened
from gateway.relay.outgoing import NO_UTF8, Features, Outgoing, command
from gateway.relay.response import Response
from gateway.relay.targets import Endpoint
from gateway.relay.turn import Turn
from gateway.relay.wire import Wire
from gateway.tls import Trust

_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")  # what can be said again in a command
#: Replies to a command that is not known, or not here: said of a mail they would blame its sender.
_NOT_KNOWN = frozenset({500, 501, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transaction came to: the reply that decided it, at which step; `refused` are indices of recipients."""

    step: Step
    response: Response
    refused: tuple[int, ...] = ()

    @property
    def delivered(self) -> bool:
        """True when the backend took the mail."""
        return self.step is Step.DOT and self.response.code == 250


class Connection:
    """One connection inside TLS. `transactions` counts what it has carried; the pool reads it.

    `turn` limits each step before the dot; where there is none, the caller sets the time limit.
    """

    def __init__(self, wire: Wire, endpoint: Endpoint, features: Features, hostname: str) -> None:
        self.endpoint = endpoint
        self.features = features
        self._hostname = hostname
        #: The backend takes us for a client (XCLIENT), until told otherwise.
        self.masked = False
        self.transactions = 0
        self.turn: Turn | None = None
        #: It was idle in the pool since it was opened.
        self.kept = False
        #: A reply came in this transaction: the connection had not died while it was idle.
        self.answered = False
        #: The dot was handed to the transport: from here on the backend may have the mail.
        self.dot_sent = False
        #: Cleared where BDAT has left a mail in doubt: it goes by DATA.
        self.may_chunk = True
        self._wire = wire

    @classmethod
    async def open(cls, endpoint: Endpoint, address: str, trust: Trust, name: str, hostname: str) -> Self:
        """A connection to that address, ready for a transaction; `name` is asked for in TLS. The caller sets the
        time limit."""
        try:
            _, wire = await asyncio.get_running_loop().create_connection(Wire, address, endpoint.port)
        except OSError as why:
            raise Unreachable(f"{endpoint}: {why}") from None
        try:
            features = await opened(wire, trust, name, hostname)
            return cls(wire, endpoint, features, hostname)
        except Lost as why:  # a service that hangs up before it serves is none
            raise Unreachable(f"{endpoint}: {why.why}") from None
        except BaseException:
            wire.abort()
            raise

    @property
    def usable(self) -> bool:
        """True while nothing has broken the connection."""
        return self._wire.broken is None

    @property
    def wire(self) -> Wire:
        """The octets themselves, for probes that say what no mail may."""
        return self._wire

    @property
    def gone(self) -> bool:
        """True when the connection is closed altogether."""
        return self._wire.gone

    async def transact(self, mail: Outgoing) -> Answer:
        """Relays one mail. The first refusal decides; afterwards the connection is ready again, or closed.

        Raises `Unfit`, before anything was said of the mail, where the backend does not offer what it needs.
        """
        self.transactions += 1
        self.answered = self.dot_sent = False
        if mail.introduction is not None:
            with self._whole():
                await self._introduce(mail.introduction)
        untold = self.masked and "XCLIENT" not in self.features  # the next client could not be told
        unfit = mail.unfit(self.features)  # not before: what is offered may depend on the client
        if unfit is not None:
            if untold:
                self.close()
            raise Unfit(str(self.endpoint), unfit)
        with self._whole():
            answer = await self._transact(mail)
        if answer.response.code == 421 or untold:  # it closes now (RFC 5321 section 3.8)
            self.close()
        elif answer.step is not Step.DOT:
            await self._reset()
        elif self.chunking and not answer.delivered:  # RFC 3030 section 2 wants it after a refused BDAT, too
            await self._reset(written=True)
        return answer

    async def ask(self, mailbox: Mailbox, sender: Mailbox | None = None) -> Answer:
        """Whether the backend takes mail for that mailbox: MAIL, RCPT, RSET, and no mail. The reply that decides.

        The null reverse-path is the rule, because the answer is remembered for every sender. Raises `Unfit`.
        """
        self.transactions += 1
        self.answered = self.dot_sent = False
        if self.masked:  # else the answer for all would be one for the last client
            with self._whole():
                await self._introduce(self._ourselves())
        if mailbox.is_utf8 and "SMTPUTF8" not in self.features:
            raise Unfit(str(self.endpoint), NO_UTF8)
        parameters = ["SMTPUTF8"] if mailbox.is_utf8 else []
        steps = [
            (Step.MAIL, command("MAIL FROM:", sender, parameters)),
            (Step.RCPT, command("RCPT TO:", mailbox, [])),
        ]
        with self._whole():
            pipelined = "PIPELINING" in self.features
            if pipelined:
                self._wire.write(b"".join(line for _, line in steps) + b"RSET\r\n", replies=3)
            answer = await self._converse(steps, written=pipelined)
        if answer.response.code == 421:
            self.close()
        else:
            await self._reset(written=pipelined)
        return answer

    def close(self) -> None:
        """Takes leave; the connection is of no further use."""
        self._wire.close(b"QUIT\r\n")

    def abort(self) -> None:
        """Closes at once."""
        self._wire.abort()

    async def closed(self) -> None:
        """Waits until the connection is gone."""
        await self._wire.closed()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A dialogue that does not come to its end leaves no connection."""
        try:
            yield
        except BaseException:
            self._wire.abort()
            raise

    async def _transact(self, mail: Outgoing) -> Answer:
        steps = [(Step.MAIL, mail.mail(self.features))]
        steps += [(Step.RCPT, line) for line in mail.rcpt(self.features)]
        pipelined = "PIPELINING" in self.features
        # DATA goes with the others only for a sole recipient. With several, a backend that refuses one of them would
        # still say 354, and then there is no way to take the mail back but to break the connection: a dot would
        # deliver an empty mail to the others.
        eager = pipelined and len(mail.recipients) == 1 and not self.chunking
        data = (Step.DATA, b"DATA\r\n")
        if eager:
            steps.append(data)
        if pipelined:
            self._wire.write(b"".join(line for _, line in steps), replies=len(steps))
        answer = await self._converse(steps, written=pipelined)
        if answer.response.code >= 400:
            return answer
        if not eager and not self.chunking:
            answer = await self._converse([data], written=False)
            if answer.response.code >= 400:
                return answer
        return await self._send(mail)

    async def _converse(self, steps: list[tuple[Step, bytes]], *, written: bool) -> Answer:
        """The first refusal among the replies to these commands, or the last yes."""
        decided: Answer | None = None
        refused: list[int] = []
        for index, (step, line) in enumerate(steps):
            if not written:
                self._wire.write(line, replies=1)
            response = await self._next()
            if means_yes(step, response):
                if step is Step.DATA and decided is not None:
                    if refused:
                        await self._lone_dot()
                    else:
                        # It refused MAIL and took RCPT all the same: a dot would deliver an empty mail.
                        self._wire.abort()
                decided = decided or (Answer(step, response) if index == len(steps) - 1 else None)
                continue
            if step is Step.RCPT:
                refused.append(index - 1)
            decided = decided or Answer(step, response)
            if response.code == 421 or not written:
                break
        assert decided is not None
        return Answer(decided.step, decided.response, tuple(refused) if decided.step is Step.RCPT else ())

    async def _next(self) -> Response:
        """The next reply. A kept connection that closes (421) or says nothing on being spoken to had died idle."""
        untried = self.kept and not self.answered
        response = await self._wire.response(self._by(first=untried))
        if untried and response.code == 421:
            raise Lost("421 on a kept connection")
        self.answered = True
        return response

    def _by(self, *, first: bool = False) -> float | None:
        """By when the next step before the dot must be done."""
        if self.turn is None:
            return None
        now = asyncio.get_running_loop().time()
        return self.turn.first(now) if first else self.turn.step(now)

    async def _lone_dot(self) -> None:
        """Ends a DATA that was let in though nobody is there to get the mail (RFC 2920 section 3.1)."""
        self._wire.write(b".\r\n", replies=1)
        response = await self._wire.response(self._by())
        if response.code < 400:
            # It took an empty mail for nobody. Its next replies are not to be relied on.
            self._wire.close()

    async def _send(self, mail: Outgoing) -> Answer:
        held = b""
        for piece in mail.chunk() if self.chunking else mail.pieces():
            if held:
                self._wire.write(held, replies=0)
            await self._wire.drain(self._by())  # and sees what came before it was due
            held = piece
        if mail.before_dot is not None:
            mail.before_dot(str(self.endpoint))
        self.dot_sent = True
        if self.chunking:
            self._wire.write(held + b"RSET\r\n", replies=2)
        else:
            self._wire.write(held, replies=1)
        response = await self._wire.response()
        if self.chunking and response.code in _NOT_KNOWN:
            self.dot_sent = False
            raise OutOfPlace(f"CHUNKING was offered, and BDAT gets {response.code}")
        if means_yes(Step.DOT, response) and self.chunking:
            await self._in_step()
        self.dot_sent = False  # answered: no doubt any more
        return Answer(Step.DOT, response)

    async def _in_step(self) -> None:
        """The reply to the RSET behind BDAT, before the one to BDAT is believed. Raises `Broken`.

        With DATA nothing but 354 lets the mail out, so a reply too many before it is found out. Around BDAT all codes
        are 250: behind a reply too many, that to the last RCPT would be taken for the one to the mail. But then the one
        to the mail stands here, and where it is no 250 nobody hears one from us. RFC 2920 section 3.1 lets RSET follow
        a message at once, so it costs no time; EHLO, whose reply nothing resembles, some servers refuse (503) when it
        comes twice.
        """
        response = await self._wire.response()
        if response.code != 250:
            raise OutOfPlace(f"{response.code} in reply to RSET behind BDAT")

    @property
    def chunking(self) -> bool:
        """Whether mails go by BDAT: not where that went wrong, nor where each reply would have to be waited for."""
        return self.may_chunk and "CHUNKING" in self.features and "PIPELINING" in self.features

    def _ourselves(self) -> Introduction:
        address, port = self._wire.own_address
        return Introduction("XCLIENT", self._hostname, address, port, self._hostname, esmtp=True)

    async def _introduce(self, client: Introduction) -> None:
        """Tells who the client is, where the backend offers to hear it. Raises `Broken`."""
        line = client.command(self.features[client.verb]) if client.verb in self.features else None
        if line is None:
            return
        self._wire.write(line, replies=1)
        response = await self._next()
        if response.code == 421:
            raise Unreachable(f"421 in reply to {client.verb}")
        if client.verb == "XFORWARD":
            return  # for its log alone: a refusal changes nothing for the mail
        if response.code != 220:  # it would take every stranger for us, with all that it allows us
            raise OutOfPlace(f"{response.code} in reply to XCLIENT: is it configured to trust us?")
        self.masked = True
        # The dialogue begins anew inside the same TLS, and the client greets: Postfix takes its name from here.
        name = client.helo if _HELO.fullmatch(client.helo) else self._hostname
        self.features = await ehlo(self._wire, name, self._by())

    async def _reset(self, *, written: bool = False) -> None:
        """Leaves no half transaction behind, or closes. The answer is known: a failure here does not change it."""
        now = asyncio.get_running_loop().time()
        try:
            if not written:
                self._wire.write(b"RSET\r\n", replies=1)
            response = await self._wire.response((self.turn or Turn(math.inf)).reset(now))
        except Broken:
            self._wire.abort()
        except BaseException:
            self._wire.abort()
            raise
        else:
            if response.code != 250:
                self.close()
