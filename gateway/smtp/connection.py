"""One client's connection: the sockets, TLS and timers around the sans-I/O `protocol`.

The one file that imports aiosmtpd. Its `SMTP` is the base class; of its behaviour the octets, the commands, DATA,
timers, limits, STARTTLS and the treatment of errors are ours, because the stock ones let bare LF through, answer our
bugs with 500 and their text, share limits between connections and cancel a delivery when the client hangs up
(aiosmtpd 1.4.6). Its constructor is not run: it costs 3 ms a connection and prepares what we replace.

A fault of ours is 451 4.3.0 (421 outside a mail) and an id, its traceback in the log. What the handler was given
after the final dot is never cancelled: what became of it at the backend must be known.

Over 300 lines, for reading, working, waiting and leaving are one state: parted, each would need the others' flags.

RFC 3207 (STARTTLS), RFC 2920 section 3.2 (replies may wait until the input is empty). Made by `server`.
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from aiosmtpd.smtp import SMTP

from gateway import metrics
from gateway.log import log
from gateway.mail.envelope import Session
from gateway.mail.reply import Reply
from gateway.smtp.caller import Caller, told
from gateway.smtp.events import Become, Content, Event, Greeted, Mail, Rcpt, Say, StartTls
from gateway.smtp.handshake import note, upgraded
from gateway.smtp.patience import Patience
from gateway.smtp.protocol import Dialogue
from gateway.smtp.trusted import among
from gateway.smtp.visit import our_fault
from gateway.smtp.xclient import Attributes

if TYPE_CHECKING:
    from gateway.smtp.server import Edge

HIGH_WATER = 64 * 1024  # octets of commands that may wait before we stop reading

GOING_DOWN = Reply(421, "4.3.2", ("Going down for maintenance, try again later",))
_TOO_SLOW = Reply(421, "4.4.2", ("Timeout",))
_DISPLACED = Reply(421, "4.3.2", ("Others are waiting, try again later",))
_DISPLACED_SECONDS = 0.1  # for its last word to be on its way: who gives way must be gone when the next one comes


class Connection(SMTP):
    """One client: feeds the dialogue, asks the handler, writes the replies.

    At most one task works for a connection, and only while the handler is asked; all else happens where the octets
    arrive. While it works, what the client sends waits in the dialogue, and beyond `HIGH_WATER` in the network.
    """

    _wire: asyncio.Transport

    def __init__(self, edge: "Edge", caller: Caller) -> None:
        """`caller` was admitted by the edge."""
        # Deliberately without SMTP.__init__ (see the module's text).
        self._edge = edge
        self._settings = settings = edge.settings
        self._dialogue = Dialogue(
            settings.rules,
            tls=settings.implicit_tls,
            tls_ready=edge.tls_ready,
            writer=partial(edge.writer, caller.ip),
            xclient=among(caller.ip, settings.xclient),
        )
        self._visit = edge.visit(caller)
        self._work: asyncio.Task[None] | None = None
        self._replies: list[bytes] = []
        self._patience = Patience(settings.deadlines, edge.clock.monotonic())
        self._stranger = True
        self._welcomed = False  # the banner was written
        self._moved = False  # something was done since the deadline was set
        self._shaking = False  # TLS is being negotiated
        self._choked = False  # the client does not read our replies
        self._full = False  # we do not read its commands
        self._ended = False  # it has closed its half
        self._leaving = False  # our last word is said
        self._gone = False

    @property
    def _session(self) -> Session:
        return self._visit.session

    @property
    def familiar(self) -> bool:
        """True for a network that is no stranger."""
        return self._edge.handler.familiar(self._session)

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._edge.connections.add(self)
        if self._settings.implicit_tls:
            note(self._session, self._wire, self._edge.strangers.troubles)
        self._work = self._edge.spawn(self._welcome())

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
            self._gone = self._session.gone = True
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
            if not isinstance(event, Content):
                if self._edge.draining:
                    event = self._dialogue.hang_up(GOING_DOWN, "draining")
                elif self._dialogue.reading is None and self._patience.session_over(self._edge.clock.monotonic()):
                    event = self._dialogue.hang_up(_TOO_SLOW, "timeout")
            match event:
                case Say(reply, ended=""):
                    self._say(event if reply.accepted else replace(event, reply=self._visit.refused(reply)))
                case Say():
                    self._say(event)
                case Greeted():
                    self._visit.abort(event.ended)
                    self._visit.greeted(event.name, event.esmtp)
                    self._replies.append(event.reply.encode())
                case StartTls():
                    # Reading stops before the client may begin: from here on all that is read is inside TLS.
                    self._visit.abort(event.ended)
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
            case Become(said):
                await self._become(said)
                return
            case Mail(envelope):
                reply = await self._visit.mail(envelope)
            case Rcpt(recipient):
                reply = await self._visit.rcpt(recipient)
            case Content(message):
                reply = await self._visit.data(message)
            case _:
                raise AssertionError(event)
        if not self._gone and not self._leaving:
            self._say(self._dialogue.decide(reply))

    # Beginning and end

    async def _welcome(self) -> None:
        """Greets, strangers after the delay that tells early talkers from the others."""
        event: Event | None = None
        try:
            began = self._edge.clock.monotonic()
            refusal, self._stranger = await self._visit.connected()
            delay = self._settings.greeting_delay - (self._edge.clock.monotonic() - began)
            if refusal is None and self._stranger and delay > 0:
                await asyncio.sleep(delay)
            if refusal is not None:
                metrics.connection_refused("policy")
            elif self._edge.draining:
                metrics.connection_refused("draining")
                refusal = GOING_DOWN
            if refusal is None:
                self._replies.append(self._banner().encode())
                self._welcomed = self._moved = True
                event = self._advance()
            else:
                self._say(self._dialogue.hang_up(refusal, ""))
        except Exception:
            self._crashed()
        await self._consider_all(event)

    def _banner(self) -> Reply:
        return Reply(220, "", (f"{self._settings.rules.hostname} ESMTP",))

    async def _become(self, said: Attributes) -> None:
        """XCLIENT: another client from here on, counted and judged as itself; TLS stays the proxy's."""
        edge, before = self._edge, self._session
        caller = told(said, before)
        self._visit.end("XCLIENT")
        edge.census.release(before.client_ip)
        refusal = edge.refusal(caller.ip)
        edge.census.take(caller.ip)
        self._visit = edge.visit(caller)
        session = self._session
        session.tls, session.cipher, session.told_helo = before.tls, before.cipher, said.helo or before.told_helo
        if refusal is None:
            refusal, self._stranger = await self._visit.connected()
        if not self._gone and not self._leaving:
            again = among(caller.ip, self._settings.xclient)
            self._say(self._dialogue.become(refusal or self._banner(), partial(edge.writer, caller.ip), xclient=again))

    async def _shake_hands(self) -> bool:
        """TLS on this connection. False when it failed."""
        self._shaking = True
        if self._stranger:
            self._edge.strangers.shakes(self, self._edge.clock.monotonic())
        wire = await upgraded(self._wire, self, self._edge.tls(), self._session, self._edge.strangers.troubles)
        if wire is None:
            self.connection_lost(None)  # neither asyncio nor uvloop tells of a connection lost in the handshake
            return False
        self._wire, self._shaking = wire, False
        self._edge.strangers.left(self)
        note(self._session, wire, self._edge.strangers.troubles)
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

    def give_way(self) -> bool:
        """Ends the session for a newcomer's sake; not while we work for it, or a message of its comes in."""
        if self._shaking and self._work is not None:
            return self._work.cancel()  # `upgraded` takes it for a handshake that failed
        if self._work is not None or self._leaving or self._dialogue.brings_mail:
            return False
        self._say(self._dialogue.hang_up(_DISPLACED, "displaced"))
        asyncio.get_running_loop().call_later(_DISPLACED_SECONDS, self._wire.abort)
        return True

    def check_time(self, now: float) -> None:
        """Ends what takes too long. What is answered already is not held back while we work on the rest."""
        if self._work is not None and not self._leaving:
            self._flush()
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
        reader = self._dialogue.reading
        if self._moved or reader is not self._patience.reader:
            self._moved, now = False, self._edge.clock.monotonic()
            if reader is None:
                self._patience.command(now, greeted=self._session.helo != "")
                if self._stranger:
                    self._edge.strangers.fell_silent(self, now)
            else:
                self._patience.content(now, reader)
        if self._full and not self._choked:
            self._full = False
            self._wire.resume_reading()

    def _say(self, said: Say) -> None:
        reply, tx = said.reply, self._visit.tx
        if tx is not None and not reply.accepted and not reply.text[-1].endswith(tx.id):
            reply = reply.with_id(tx.id)
        # A 503 refuses a command, not the mail: what did that, if anything, is on record.
        self._visit.abort(said.ended, None if reply.accepted or reply.code == 503 else reply)
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

    def _crashed(self) -> None:
        """Our bug, outside the handler's calls: the mail stays with the client."""
        log.exception("session crashed", session=self._session.id)
        if not self._leaving and not self._gone:
            self._say(self._dialogue.hang_up(our_fault(self._session.id, 421), "internal error"))

    def _farewell(self) -> None:
        if self in self._edge.connections:
            self._visit.end("connection lost")
            self._edge.dismiss(self._session.client_ip, self)
