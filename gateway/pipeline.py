"""The journey of one mail, from MAIL to the answer after the final dot. Read this file first.

`Pipeline` is what the edge (`smtp/server`) talks to; it keeps one `Journey` for each open transaction. A journey asks
`checks` for facts and `policy` for a verdict, asks the backend for the recipient, dresses the message and hands it to
`relay`; what it says goes through `answers`, and `account` writes the one log line and the journal entry. The order is
the design:

- RCPT: our domain? one backend, one class of rules? the policy's word on connection, HELO, sender and recipient; and
  only then is the backend asked for the recipient, so that strangers harvest no directory.
- DATA: the facts that the rules name, the verdict, then 250 only after the backend's own 250 (never owns mail).

A journey keeps the `House` (configuration, policy, checks, relay) that it began with; a reload gives the next one a
new house. A fault of ours is a 4xx: whatever is raised here becomes 451 4.3.0 in `smtp/server`.

RFC 5321 section 3.3 (transactions), 4.5.3.1.10 (452 for recipients).
"""

import asyncio
from dataclasses import replace

from gateway import metrics
from gateway.answers import OUR_FAULT, Answers, unacceptable
from gateway.checks.arc import Arc
from gateway.checks.check import Named
from gateway.checks.facts import Facts
from gateway.checks.iprev import Iprev
from gateway.dress import ours, prepended, removed, sealed
from gateway.hearing import LiveHearing, of_recipient
from gateway.house import House
from gateway.log import log
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage
from gateway.policy.classes import DataClass
from gateway.policy.judge import Progress, Verdict
from gateway.policy.rules import Action
from gateway.relay.delivery import Delivered, Known, Refused
from gateway.smtp.familiar import Familiar

__all__ = ["House", "Journey", "Pipeline"]

RELAY_DENIED = Reply(550, "5.7.1", ("Relaying denied: we take no mail for this domain",))
OTHER_GROUP = Reply(452, "4.5.3", ("This recipient needs a transaction of its own, please send it again",))
OTHER_SIZE = Reply(552, "5.3.4", ("The message is not of the size that was announced",))


class Pipeline:
    """The handler of the edge: one for the life of a worker; a reload replaces `house`."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._sessions: dict[str, tuple[House, Facts]] = {}
        self._journeys: dict[str, Journey] = {}
        self._familiar = Familiar()
        self._ended = asyncio.Event()

    async def released(self, house: House) -> None:
        """Waits until no transaction uses that house."""
        while any(journey.house is house for journey in self._journeys.values()):
            self._ended.clear()
            await self._ended.wait()

    async def connected(self, session: Session) -> Reply | None:
        """A client has connected: what needs its address alone starts. A reply refuses it at the banner."""
        facts = self._facts_of(session)
        facts.start(Iprev)
        for kind in self.house.early:
            facts.start(kind)
        if not self.house.policy.speaks_now(Stage.CONNECT):
            return None
        journey = Journey(self.house, _before_mail(session), facts)
        journey.start(Stage.CONNECT)
        verdict = await journey.judge(Stage.CONNECT)
        if verdict is not None and verdict.now and verdict.final:
            reply = journey.answers.judged(Stage.CONNECT, verdict)
            await journey.end()
            return reply
        await journey.facts.close()
        return None

    def familiar(self, session: Session) -> bool:
        """True when mail from the client's network was taken lately."""
        return self._familiar.knows(session.client_ip, self.house.clock.monotonic())

    def greeted(self, session: Session) -> None:
        """HELO or EHLO was accepted; its word is judged with the recipients."""

    async def mail(self, session: Session, envelope: Envelope) -> tuple[Reply, Transaction | None]:
        """MAIL opens a transaction; what needs only the sender starts while the client types on."""
        house = self.house
        tx = Transaction(house.clock.new_id(), session, envelope, house.clock.now())
        journey = self._journeys[tx.id] = Journey(house, tx, self._facts_of(session))
        try:
            journey.start(Stage.MAIL)
            refusal = await journey.spoken_now()
        except Exception:
            refusal = journey.answers.crashed(Stage.MAIL)
        if refusal is not None:
            await self._end(journey)
            return refusal, None
        return Reply(250, "2.1.0", ("Sender ok",)), tx

    def declined(self, session: Session, envelope: Envelope, reply: Reply) -> Reply:
        """The edge refused MAIL: no transaction, and all the same on record under an id, which a bounce may show."""
        house = self.house
        tx = Transaction(house.clock.new_id(), session, envelope, house.clock.now())
        journey = Journey(house, tx, self._facts_of(session))
        reply = journey.answers.refused(Stage.MAIL, reply)
        journey.abort("")
        return reply

    async def rcpt(self, tx: Transaction, recipient: Recipient) -> Reply:
        """RCPT: the reply; when it accepts, the recipient is on the envelope."""
        journey = self._journeys[tx.id]
        try:
            return await journey.rcpt(recipient)
        except Exception:
            return journey.answers.crashed(Stage.RCPT, str(recipient.mailbox))

    async def data(self, tx: Transaction, message: Message) -> Reply:
        """The whole message is here: the final answer."""
        journey = self._journeys[tx.id]
        tx.message = message
        try:
            reply = await journey.data(message)
            if reply.accepted:
                self._familiar.met(tx.session.client_ip, self.house.clock.monotonic())
            return reply
        except Exception:
            return journey.answers.crashed(Stage.DATA)
        finally:
            await self._end(journey)

    def refused(self, tx: Transaction, reply: Reply) -> None:
        """The edge refused a command of the transaction, which goes on."""
        self._journeys[tx.id].answers.overheard(reply)

    def aborted(self, tx: Transaction, why: str, refusal: Reply | None = None) -> None:
        """The transaction ended without delivery: RSET, a lost connection; or with `refusal`, the edge's own answer."""
        journey = self._journeys.get(tx.id)
        if journey is not None:
            try:
                journey.abort(why, refusal)
            finally:
                self._forget(tx)

    def disconnected(self, session: Session) -> None:
        """The connection is gone."""
        _, facts = self._sessions.pop(session.id, (None, None))
        if facts is not None:
            facts.cancel()

    async def _end(self, journey: "Journey") -> None:
        """Closes the books. What fails here must not take the place of the answer that was given."""
        try:
            await journey.end()
        except Exception:
            log.exception("a transaction could not be closed", transaction=journey.tx.id)
        finally:
            self._forget(journey.tx)

    def _forget(self, tx: Transaction) -> None:
        del self._journeys[tx.id]
        self._ended.set()

    def _facts_of(self, session: Session) -> Facts:
        """The facts of the session, begun anew when a reload came between."""
        house, facts = self._sessions.get(session.id, (None, None))
        if facts is None or house is not self.house:
            if facts is not None:
                facts.cancel()
            facts = Facts(self.house.checks, _before_mail(session))
            self._sessions[session.id] = (self.house, facts)
        return facts


def _before_mail(session: Session) -> Transaction:
    """What stands for a transaction while there is none: checks that need the client alone look no further."""
    return Transaction(session.id, session, Envelope(None), session.started)


class Journey:
    """One transaction with its facts, its verdicts and its record."""

    def __init__(self, house: House, tx: Transaction, session_facts: Facts) -> None:
        self.house = house
        self.tx = tx
        self.facts = Facts(house.checks, tx, session_facts)
        self._hearing = LiveHearing(house, tx, self.facts)
        self.answers = Answers(house, tx, self.facts, self._hearing)
        self._account = self.answers.account
        self._sender: Progress | None = None  # after connection, HELO and sender; `None` until judged
        self._early: Verdict | None = None
        # What the first recipient fixed: later ones must agree (452 4.5.3 else).
        self._backend = ""
        self._group: DataClass | None = None
        self._first = Progress()
        self._recipient = ""

    def start(self, stage: Stage) -> None:
        """Starts the checks whose inputs become complete at this stage: rules or the trace field will ask for them."""
        for kind, check in self.house.checks.items():
            # What waits for nothing costs nothing, and a replay under other rules may name it.
            if check.eager and (check.stage == stage or (check.stage < stage and not check.waits)):
                self.facts.start(kind)

    # RCPT

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Our domain, one group, the policy, and last the backend: see the module."""
        house, address = self.house, str(recipient.mailbox)
        # <postmaster> without a domain is ours (RFC 5321 section 4.5.1): that of our first domain.
        mailbox = recipient.mailbox
        if not mailbox.domain:
            mailbox = Mailbox(mailbox.local, next(iter(house.config.domains)).removeprefix("*."))
        backend = house.relay.route(mailbox.domain)
        if backend is None:
            return self.answers.refused(Stage.RCPT, RELAY_DENIED, address)
        if self._backend and self._backend != backend:
            return self.answers.refused(Stage.RCPT, OTHER_GROUP, address)
        verdict, known = await self._judge_sender(), None
        own = of_recipient(self.tx, mailbox)
        if verdict is None or not verdict.final:
            verdict, known = await self._judge_recipient(recipient.mailbox, backend, own)
        if verdict is not None and verdict.final:
            self._heard(own, known, verdict)
            return self.answers.judged(Stage.RCPT, verdict, address)
        progress = self._hearing.progress
        group = house.policy.data_class(mailbox.canonical, progress)
        if self._group is not None and not await self._hearing.alike(self._group, group):
            self._heard(own, known, verdict)
            return self.answers.refused(Stage.RCPT, OTHER_GROUP, address)
        known = known or await house.relay.known(backend, self.tx, recipient.mailbox)
        self._heard(own, known, verdict, taken=known.reply is None)
        if known.reply is not None:
            self._account.fate_detail = known.why or self._account.fate_detail
            return self.answers.refused(Stage.RCPT, known.reply, address)
        if self._group is None:
            self._backend, self._group, self._first = backend, group, progress
            self._recipient = mailbox.canonical
        self.tx.envelope.recipients.append(recipient)
        return Reply(250, "2.1.5", ("Recipient ok",))

    async def spoken_now(self) -> Reply | None:
        """The refusal of a rule on HELO or sender that does not wait for RCPT (`speak: now`)."""
        if not any(self.house.policy.speaks_now(stage) for stage in (Stage.HELO, Stage.MAIL)):
            return None
        verdict = await self._judge_sender()
        if verdict is None or not (verdict.now and verdict.final):
            return None
        return self.answers.judged(Stage.MAIL, verdict)

    async def _judge_sender(self) -> Verdict | None:
        """Connection, HELO and sender are judged once, with the first recipient, so that the journal has it."""
        if self._sender is None:
            for stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL):
                self._early = await self.judge(stage)
                if self._early is not None and self._early.final:
                    break
            self._sender = replace(self._hearing.progress, outcomes=())
        return self._early

    def _heard(self, own: Named, known: Known | None, verdict: Verdict | None, *, taken: bool = False) -> None:
        facts: Named = own if known is None else {**own, "rcpt.known": known.answer.value}
        self._account.hear(self._hearing.asked(Stage.RCPT, facts, verdict, taken=taken))

    async def _judge_recipient(self, mailbox: Mailbox, backend: str, own: Named) -> tuple[Verdict | None, Known | None]:
        known: Known | None = None

        async def ask() -> str:
            nonlocal known
            known = await self.house.relay.known(backend, self.tx, mailbox)
            return known.answer.value

        assert self._sender is not None
        verdict = await self._hearing.judge(Stage.RCPT, own, self._sender, str(own["rcpt.address"]), ask)
        return verdict, known

    # DATA

    async def data(self, message: Message) -> Reply:
        """The verdict on the whole mail, and its delivery."""
        self._account.backend = self._backend
        if refusal := unacceptable(message):
            reply, self._account.fate_detail = refusal
            return self.answers.refused(Stage.DATA, reply)
        if self._hearing.misled(message.size):  # RFC 1870 section 6.3: an announcement need not be forgiven
            return self.answers.refused(Stage.DATA, OTHER_SIZE)
        self.start(Stage.DATA)
        own: Named = {"message.size": message.size}
        verdict = await self._hearing.judge(Stage.DATA, own, self._first, self._recipient)
        self._account.judged = self._hearing.judged(verdict)
        if verdict is not None and verdict.final:
            return self.answers.judged(Stage.DATA, verdict)
        return await self._deliver(message, verdict)

    async def _deliver(self, message: Message, verdict: Verdict | None) -> Reply:
        house, backend, target = self.house, self._backend, None
        quarantined = verdict is not None and verdict.action is Action.QUARANTINE
        if quarantined:
            if house.config.quarantine is None:
                log.error("a rule quarantines and no quarantine mailbox is configured", rule=verdict and verdict.rule)
                return self.answers.refused(Stage.DATA, OUR_FAULT)
            target = Mailbox.parse(house.config.quarantine.encode())
            backend = house.relay.route(target.domain) or backend
        clauses, client_name = await self._clauses(), (await self.facts.get(Iprev)).name
        fields = prepended(
            self.tx, house.config.hostname, house.clock.now(), client_name, clauses, self._hearing.progress.tags,
            held=verdict.rule if quarantined and verdict else "",
        )  # fmt: skip
        hostname, arc = house.config.hostname, await self.facts.get(Arc)
        gone = removed(message, hostname, ours(house.sealer, arc))
        fields = await sealed(house.sealer, message, gone, hostname, clauses, arc, house.clock.now()) + fields
        started = house.clock.monotonic()
        fate = await house.relay.deliver(
            backend, self.tx, fields, gone, target, client_name=client_name, before_dot=self.answers.handed_over
        )
        self._account.timings["relay"] = seconds = house.clock.monotonic() - started
        self._account.fate = type(fate).__name__.lower()
        self._account.fate_detail = fate.host if isinstance(fate, Delivered) else fate.why
        metrics.relay(backend, self._account.fate, seconds)
        if isinstance(fate, Delivered):
            action = Action.QUARANTINE if quarantined else Action.ACCEPT
        else:
            action = Action.REJECT if isinstance(fate, Refused) and fate.reply.permanent else Action.DEFER
        rule, because = (verdict.rule, verdict.because) if verdict else ("", "")
        reply = self.answers.said(Stage.DATA, action, fate.reply, rule=rule, because=because)
        if action is Action.ACCEPT:
            await self._hearing.delivered()
        return reply

    async def _clauses(self) -> list[str]:
        """What Authentication-Results says: every eager check that has something to say, asked for by rules or not."""
        clauses: list[str] = []
        for kind, check in self.house.checks.items():
            if check.eager:
                clauses.extend(check.trace(await self.facts.get(kind)))
        return clauses

    async def judge(self, stage: Stage) -> Verdict | None:
        """The policy's word at a stage before RCPT."""
        return await self._hearing.judge(stage, {}, self._hearing.progress)

    def abort(self, why: str, reply: Reply | None = None) -> None:
        """The transaction ends without our answer to a final dot: the edge gave it (`reply`), or there was none."""
        self.answers.broken_off(why, reply)
        self.facts.cancel()

    async def end(self) -> None:
        """The transaction ends; nothing of it runs on."""
        self.answers.close()
        await self.facts.close()
