"""One client's connection: the sockets, TLS and timers around the sans-I/O `protocol`.

The one file that imports aiosmtpd. Its `SMTP` is the base class; of its behaviour the octets, the commands, DATA,
timers, limits, STARTTLS and the treatment of errors are ours, because the stock ones let bare LF through, answer our
bugs with 500 and their text, share limits between connections and cancel a delivery when the client hangs up
(aiosmtpd 1.4.6). Its constructor is not run: it costs 3 ms a connection and prepares what we replace.

A fault of ours is 451 4.3.0 (421 outside a mail) and an id, its traceback in the log. What the handler was given
after the final dot is never cancelled: what became of it at the backend must be known.

RFC 3207 (STARTTLS), RFC 2920 section 3.2 (replies may wait until the input is empty). Made by `server`.
"""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from aiosmtpd.smtp import SMTP

from gateway import metrics
from gateway.log import log
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp.census import canonical
from gateway.smtp.events import Content, Event, Greeted, Mail, Rcpt, Say, StartTls
from gateway.smtp.handshake import described, upgraded
from gateway.smtp.patience import Patience
from gateway.smtp.protocol import Dialogue

if TYPE_CHECKING:
    from gateway.smtp.server import Edge

HIGH_WATER = 64 * 1024  # octets of commands that may wait before we stop reading

GOING_DOWN = Reply(421, "4.3.2", ("Going down for maintenance, try again later",))
_TOO_SLOW = Reply(421, "4.4.2", ("Timeout",))


class Connection(SMTP):
    """One client: feeds the dialogue, asks the handler, writes the replies.

    At most one task works for a connection, and only while the handler is asked; all else happens where the octets
    arrive. While it works, what the client sends waits in the dialogue, and beyond `HIGH_WATER` in the network.
    """

    _session: Session
    _wire: asyncio.Transport

    def __init__(self, edge: "Edge", *, admitted: str = "") -> None:
        # Deliberately without SMTP.__init__ (see the module's text).
        self._edge = edge
        self._settings = edge.settings
        self._handler = edge.handler
        self._dialogue = Dialogue(
            self._settings.rules,
            tls=self._settings.implicit_tls,
            tls_ready=lambda: edge.tls() is not None,
            writer=self._settings.writer,
        )
        self._tx: Transaction | None = None
        self._work: asyncio.Task[None] | None = None
        self._replies: list[bytes] = []
        self._patience = Patience(self._settings.deadlines, edge.clock.monotonic())
        self._admitted = admitted  # the address that the census has counted
        self._welcomed = False  # the banner was written
        self._moved = False  # something was done since the deadline was set
        self._shaking = False  # TLS is being negotiated
        self._choked = False  # the client does not read our replies
        self._full = False  # we do not read its commands
        self._ended = False  # it has closed its half
        self._leaving = False  # our last word is said
        self._gone = False

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        edge = self._edge
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not here:  # it was gone before we came
            self._gone = True
            self._wire.abort()
            if self._admitted:
                edge.dismiss(self._admitted)
            return
        ip = canonical(peer[0])
        refusal = None if self._admitted else edge.admit(ip)
        if refusal is not None:
            self._leaving = self._gone = True
            self._wire.write(refusal.encode())
            self._wire.close()
            return
        self._admitted = ip
        self._session = Session(
            edge.clock.new_id(), ip, int(peer[1]), canonical(here[0]), int(here[1]), started=edge.clock.now()
        )
        edge.connections.add(self)
        if self._settings.implicit_tls:
            self._session.tls, self._session.cipher = described(self._wire)
        self._work = edge.spawn(self._welcome())

    def data_received(self, data: bytes) -> None:
        if self._leaving or self._gone:
            return
        if not self._welcomed:
            self._session.early_talker = True
        try:
            self._dialogue.receive(data)
            if self._work is None:
                self._pump()
        except Exception:
            self._crashed()
        if self._dialogue.waiting_octets > HIGH_WATER and not self._full:
            if self._shaking:  # inside TLS before we know of it; and nobody has that much to say at once
                self._wire.abort()
            self._full = True
            self._wire.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        # Half-closed clients still get the replies to what they said; TLS has no half-closed state.
        return (self._work is not None or self._choked) and not self._leaving and not self._session.tls

    def connection_lost(self, error: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self._dialogue.hang_up(_TOO_SLOW, "")  # frees what was read of a message
            if self._work is None:
                self._farewell()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self._work is None and not self._gone:
            self._pump()

    # The walk of events

    def _pump(self) -> None:
        """Does what can be done at once; starts a task where the handler must be asked."""
        event = self._advance()
        if event is None:
            self._rest()
        else:
            self._patience.working()
            self._work = self._edge.spawn(self._consider_all(event))

    async def _consider_all(self, event: Event | None) -> None:
        try:
            while event is not None:
                await self._consider(event)
                event = self._advance()
        except Exception:
            self._crashed()
        finally:
            self._work = None
        if self._gone:
            self._farewell()
        else:
            self._rest()

    def _advance(self) -> Event | None:
        """Does what needs no waiting; gives the next event that does, `None` when there is nothing to do."""
        while not (self._choked or self._leaving or self._gone):
            event = self._dialogue.next_event()
            if event is None:
                return None
            self._moved = True
            if self._edge.draining and not isinstance(event, Content):
                event = self._dialogue.hang_up(GOING_DOWN, "draining")
            match event:
                case Say():
                    self._say(event)
                case Greeted():
                    self._abort(event.ended)
                    self._session.helo, self._session.esmtp = event.name, event.esmtp
                    self._handler.greeted(self._session)
                    self._replies.append(event.reply.encode())
                case StartTls():
                    # Reading stops before the client may begin: from here on all that is read is inside TLS.
                    self._abort(event.ended)
                    self._wire.pause_reading()
                    self._replies.append(event.reply.encode())
                    self._flush()
                    return event
                case _:
                    return event
        return None

    async def _consider(self, event: Event) -> None:
        match event:
            case StartTls():
                if await self._shake_hands():
                    self._dialogue.secured()
                return
            case Mail(envelope):
                reply = await self._open(envelope)
            case Rcpt(recipient):
                assert self._tx is not None
                reply = await self._ask(self._handler.rcpt(self._tx, recipient), self._tx.id)
            case Content(message):
                reply = await self._deliver(message)
            case _:
                raise AssertionError(event)
        if not self._gone and not self._leaving:
            self._say(self._dialogue.decide(reply))

    async def _open(self, envelope: Envelope) -> Reply:
        session = self._session
        answer = await self._ask(self._open_with(session, envelope), session.id)
        if answer.accepted and self._tx is None:
            log.error("accepted without a transaction", session=session.id)
            return _our_fault(session.id)
        return answer

    async def _open_with(self, session: Session, envelope: Envelope) -> Reply:
        reply, tx = await self._handler.mail(session, envelope)
        if reply.accepted:
            self._tx = tx
        return reply

    async def _deliver(self, message: Message) -> Reply:
        tx, self._tx = self._tx, None
        assert tx is not None
        tx.message = message
        try:
            return await self._ask(self._handler.data(tx, message), tx.id)
        finally:
            message.close()

    async def _ask(self, answer: Awaitable[Reply], name: str) -> Reply:
        """The handler's reply; when it fails, ours (promise: our fault is never the sender's)."""
        try:
            return await answer
        except SyntaxRefused as refused:
            return refused.reply
        except Exception:
            log.exception("handler failed", id=name)
            return _our_fault(name)

    # Beginning and end

    async def _welcome(self) -> None:
        """Greets, after the delay that tells early talkers from the others."""
        event: Event | None = None
        try:
            began = self._edge.clock.monotonic()
            refusal = await self._handler.connected(self._session)
            delay = self._settings.greeting_delay - (self._edge.clock.monotonic() - began)
            if refusal is None and delay > 0:
                await asyncio.sleep(delay)
            if refusal is not None:
                metrics.connection_refused("policy")
            elif self._edge.draining:
                metrics.connection_refused("draining")
                refusal = GOING_DOWN
            if refusal is None:
                self._replies.append(Reply(220, "", (f"{self._settings.rules.hostname} ESMTP",)).encode())
                self._welcomed = self._moved = True
                event = self._advance()
            else:
                self._say(self._dialogue.hang_up(refusal, ""))
        except Exception:
            self._crashed()
        await self._consider_all(event)

    async def _shake_hands(self) -> bool:
        """TLS on this connection. False when it failed."""
        self._shaking = True
        wire = await upgraded(self._wire, self, self._edge.tls(), self._session)
        if wire is None:
            self.connection_lost(None)  # neither asyncio nor uvloop tells of a connection lost in the handshake
            return False
        self._wire, self._shaking = wire, False
        self._session.tls, self._session.cipher = described(wire)
        self._session.helo, self._session.esmtp = "", False
        return True

    def retire(self) -> None:
        """Draining: ends the session now unless a mail is on its way."""
        if self._work is None and not self._leaving and not self._dialogue.in_transaction:
            self._say(self._dialogue.hang_up(GOING_DOWN, "draining"))

    def evict(self) -> None:
        """Draining, the time is up: ends the session, but for one whose handler works; that ends in `_rest`."""
        if self._leaving:
            self._wire.abort()
        elif self._work is None:
            self._say(self._dialogue.hang_up(GOING_DOWN, "draining"))

    def check_time(self, now: float) -> None:
        """Ends what takes too long."""
        if not self._patience.over(now):
            return
        if self._leaving or self._choked:
            self._wire.abort()
        else:
            self._say(self._dialogue.hang_up(_TOO_SLOW, "timeout"))

    def _rest(self) -> None:
        """Nothing to do until the client speaks again."""
        if self._leaving or self._gone:
            return
        if self._edge.evicting or (self._edge.draining and not self._dialogue.in_transaction):
            self._say(self._dialogue.hang_up(GOING_DOWN, "draining"))
            return
        self._flush()
        if self._ended and not self._choked:
            self._leave()
            return
        if self._moved:
            self._moved, now, reader = False, self._edge.clock.monotonic(), self._dialogue.reading
            if reader is None:
                self._patience.command(now, greeted=self._session.helo != "")
            else:
                self._patience.content(now, reader)
        if self._full and not self._choked:
            self._full = False
            self._wire.resume_reading()

    def _say(self, said: Say) -> None:
        reply = said.reply
        if self._tx is not None and not reply.accepted and not reply.text[-1].endswith(self._tx.id):
            reply = reply.with_id(self._tx.id)
        self._abort(said.ended)
        self._replies.append(reply.encode())
        if said.close:
            self._leave()

    def _flush(self) -> None:
        if self._replies and not self._wire.is_closing():
            self._wire.write(b"".join(self._replies))
        self._replies.clear()

    def _leave(self) -> None:
        """Hangs up once our last words are read: what still comes is read and dropped, for a short while."""
        self._leaving = True
        self._patience.leaving(self._edge.clock.monotonic())
        self._flush()
        if self._session.tls or self._ended or self._wire.is_closing():
            self._wire.close()
            return
        try:
            self._wire.write_eof()
            self._wire.resume_reading()
        except (OSError, RuntimeError):  # gone, and nobody has told us yet
            self._wire.abort()

    def _abort(self, why: str) -> None:
        if why and self._tx is not None:
            tx, self._tx = self._tx, None
            self._handler.aborted(tx, why)

    def _crashed(self) -> None:
        """Our bug, outside the handler's calls: the mail stays with the client."""
        log.exception("session crashed", session=self._session.id)
        if not self._leaving and not self._gone:
            self._say(self._dialogue.hang_up(_our_fault(self._session.id, 421), "internal error"))

    def _farewell(self) -> None:
        if self._admitted:
            ip, self._admitted = self._admitted, ""
            try:
                self._abort("connection lost")
                self._handler.disconnected(self._session)
            except Exception:
                log.exception("handler failed", id=self._session.id)
            finally:
                self._edge.dismiss(ip, self)


def _our_fault(name: str, code: int = 451) -> Reply:
    return Reply(code, "4.3.0", ("Internal error, try again later",)).with_id(name)
