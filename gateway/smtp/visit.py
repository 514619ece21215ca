"""One session at the house: what the handler is asked, and the transaction that is open.

A fault of the handler is 451 4.3.0 and an id, its traceback in the log (promise: our fault is never the sender's).
Before the handler, size: what is too large is 552 5.3.4 at MAIL (RFC 1870 section 6.1), no room for another message
452 4.3.1. After it, harvesters: who asks for unknown recipients waits for the answer, longer each time. Used by
`connection`.
"""

from collections.abc import Awaitable, Callable

from gateway.log import log
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp.handler import Handler
from gateway.smtp.strangers import Strangers

_NO_ROOM = Reply(452, "4.3.1", ("No room for the message now, try again later",))
_HARVESTER = Reply(421, "4.7.0", ("Too many unknown recipients",))


class Visit:
    """`largest` message taken, in octets; `room` says whether one of that many fits now; `pause` waits; `now` is the
    monotonic clock."""

    __slots__ = ("_handler", "_largest", "_now", "_pause", "_room", "_strangers", "session", "tx")

    def __init__(
        self,
        session: Session,
        handler: Handler,
        strangers: Strangers,
        *,
        largest: int,
        room: Callable[[int], bool],
        pause: Callable[[float], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self.session = session
        self.tx: Transaction | None = None
        self._handler = handler
        self._strangers = strangers
        self._largest = largest
        self._room = room
        self._pause = pause
        self._now = now

    async def connected(self) -> tuple[Reply | None, bool]:
        """Before the banner: the reply that refuses the client, and whether it is a stranger."""
        return await self._handler.connected(self.session), not self._handler.familiar(self.session)

    def greeted(self, name: str, esmtp: bool) -> None:
        """HELO or EHLO was accepted. What a trusted XCLIENT called the client stays its name."""
        self.session.helo, self.session.esmtp = self.session.told_helo or name, esmtp
        self._handler.greeted(self.session)

    async def mail(self, envelope: Envelope) -> Reply:
        """MAIL: on acceptance a transaction is open."""
        session = self.session
        answer = await self._ask(self._open(envelope), session.id)
        if answer.accepted and self.tx is None:
            log.error("accepted without a transaction", session=session.id)
            return our_fault(session.id)
        return answer

    async def _open(self, envelope: Envelope) -> Reply:
        if envelope.declared_size > self._largest:
            too_large = Reply(552, "5.3.4", (f"The limit is {self._largest} octets",))
            return self._handler.declined(self.session, envelope, too_large)
        if not self._room(envelope.declared_size):
            self._trouble("no memory for more mail")
            return self._handler.declined(self.session, envelope, _NO_ROOM)
        reply, tx = await self._handler.mail(self.session, envelope)
        if reply.accepted:
            self.tx = tx
        return reply

    async def rcpt(self, recipient: Recipient) -> Reply:
        """RCPT: an unknown recipient's refusal may be held back; beyond measure it is a 421."""
        assert self.tx is not None
        reply = await self._ask(self._handler.rcpt(self.tx, recipient), self.tx.id)
        seconds = self._strangers.harvest.heard(self.session.client_ip, reply, self._now())
        if seconds is None:
            self._trouble("recipients are guessed")
            return _HARVESTER
        if seconds:
            await self._pause(seconds)
        return reply

    async def data(self, message: Message) -> Reply:
        """The whole message is here; the transaction ends, and the octets are given back."""
        tx, self.tx = self.tx, None
        assert tx is not None
        tx.message = message
        try:
            return await self._ask(self._handler.data(tx, message), tx.id)
        finally:
            message.close()

    def refused(self, reply: Reply) -> Reply:
        """The edge refused a command: the reply with the id of the transaction, where one is open and knows of it."""
        if self.tx is None:
            return reply
        reply = reply.with_id(self.tx.id)
        self._handler.refused(self.tx, reply)
        return reply

    def abort(self, why: str, refusal: Reply | None = None) -> None:
        """The transaction, if there is one, ends without its message; not at all where `why` is empty."""
        if why and self.tx is not None:
            tx, self.tx = self.tx, None
            self._handler.aborted(tx, why, refusal)

    def end(self, why: str) -> None:
        """The session is over."""
        try:
            self.abort(why)
            self._handler.disconnected(self.session)
        except Exception:
            log.exception("handler failed", id=self.session.id)

    def _trouble(self, event: str) -> None:
        session = self.session
        self._strangers.troubles.tell(event, session.client_ip, warn=True, session=session.id)

    async def _ask(self, answer: Awaitable[Reply], name: str) -> Reply:
        try:
            return await answer
        except SyntaxRefused as refused:
            return refused.reply
        except Exception:
            log.exception("handler failed", id=name)
            return our_fault(name)


def our_fault(name: str, code: int = 451) -> Reply:
    """What is said where we have a bug."""
    return Reply(code, "4.3.0", ("Internal error, try again later",)).with_id(name)
