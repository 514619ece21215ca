"""The journey of one mail, from MAIL to the answer after the final dot. Read this file first.

`Pipeline` is what the edge (`smtp/server`) talks to; it keeps one `Journey` for each open transaction. A journey asks
`checks` for facts and `policy` for a verdict, asks the backend for the recipient, dresses the message and hands it to
`relay`; it answers, and `account` writes the one log line and the journal entry. The order is the design:

- RCPT: our domain? one backend, one class of rules? the policy's word on connection, HELO, sender and recipient; and
  only then is the backend asked for the recipient, so that strangers harvest no directory.
- DATA: the facts that the rules name, the verdict, then 250 only after the backend's own 250 (never owns mail).

A journey keeps the `House` (configuration, policy, checks, relay) that it began with; a reload gives the next one a
new house. A fault of ours is a 4xx: whatever is raised here becomes 451 4.3.0 in `smtp/server`.

RFC 5321 section 3.3 (transactions), 4.5.3.1.10 (452 for recipients).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway import metrics
from gateway.account import Account
from gateway.checks.check import Named
from gateway.checks.facts import AnyCheck, Facts
from gateway.checks.iprev import Iprev
from gateway.checks.spf import Spf
from gateway.clock import Clock
from gateway.config import Config
from gateway.dns.resolver import Resolver
from gateway.dress import prepended, removed
from gateway.journal import Journal
from gateway.log import log
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage, Unavailable
from gateway.policy.judge import Effect, Need, Progress, Verdict
from gateway.policy.loader import DataClass, Policy
from gateway.policy.rules import Action
from gateway.relay.delivery import Delivered, Known, Refused, Relay
from gateway.state import greylist
from gateway.state.store import Store

RELAY_DENIED = Reply(550, "5.7.1", ("Relaying denied: we take no mail for this domain",))
OTHER_GROUP = Reply(452, "4.5.3", ("This recipient needs a transaction of its own, please send it again",))
MALFORMED = Reply(554, "5.6.0", ("The header of the message is malformed",))
NO_QUARANTINE = Reply(451, "4.3.0", ("Local error, try again later",))
REFUSED = Reply(550, "5.7.1", ("Refused by policy",))


@dataclass(frozen=True, slots=True)
class House:
    """Everything a journey needs, built once for each configuration by `worker.build`."""

    config: Config
    policy: Policy
    checks: Mapping[type[AnyCheck], AnyCheck]
    relay: Relay
    resolver: Resolver
    store: Store
    clock: Clock
    journal: Journal | None = None
    providers: Mapping[str, type[AnyCheck]] = field(init=False)

    def __post_init__(self) -> None:
        providers = {name: kind for kind, check in self.checks.items() for name in check.provides}
        object.__setattr__(self, "providers", providers)


class Pipeline:
    """The handler of the edge: one for the life of a worker; a reload replaces `house`."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._sessions: dict[str, tuple[House, Facts]] = {}
        self._journeys: dict[str, Journey] = {}
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
        if not self.house.policy.speaks_now(Stage.CONNECT):
            return None
        journey = Journey(self.house, _before_mail(session), facts)
        verdict = await journey.decide(Stage.CONNECT)
        if verdict is not None and verdict.now and verdict.final:
            reply = journey.speak(Stage.CONNECT, verdict)
            await journey.end()
            return reply
        await journey.facts.close()
        return None

    def greeted(self, session: Session) -> None:
        """HELO or EHLO was accepted; its word is judged with the recipients."""

    async def mail(self, session: Session, envelope: Envelope) -> tuple[Reply, Transaction | None]:
        """MAIL opens a transaction; what needs only the sender starts while the client types on."""
        house = self.house
        tx = Transaction(house.clock.new_id(), session, envelope, house.clock.now())
        journey = self._journeys[tx.id] = Journey(house, tx, self._facts_of(session))
        journey.start(Stage.MAIL)
        return Reply(250, "2.1.0", ("Sender ok",)), tx

    async def rcpt(self, tx: Transaction, recipient: Recipient) -> Reply:
        """RCPT: the reply; when it accepts, the recipient is on the envelope."""
        return await self._journeys[tx.id].rcpt(recipient)

    async def data(self, tx: Transaction, message: Message) -> Reply:
        """The whole message is here: the final answer."""
        journey = self._journeys[tx.id]
        tx.message = message
        try:
            return await journey.data(message)
        finally:
            await journey.end()
            self._forget(tx)

    def aborted(self, tx: Transaction, why: str) -> None:
        """The transaction ended without delivery: RSET, a lost connection, a message refused by the edge."""
        journey = self._journeys.get(tx.id)
        if journey is not None:
            journey.abort(why)
            self._forget(tx)

    def disconnected(self, session: Session) -> None:
        """The connection is gone."""
        _, facts = self._sessions.pop(session.id, (None, None))
        if facts is not None:
            facts.cancel()

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
        self.account = Account(tx, house.policy.revision)
        self._values: Named = {}
        self._progress = Progress()
        self._early: Verdict | None = None
        self._early_done = False
        # What the first recipient fixed: later ones must agree (452 4.5.3 else).
        self._backend = ""
        self._group: DataClass | None = None
        self._first = Progress()
        self._greylisting: set[str] = set()  # rules whose greylist waits

    def start(self, stage: Stage) -> None:
        """Starts the checks whose inputs become complete at this stage: rules or the trace field will ask for them."""
        for kind, check in self.house.checks.items():
            if check.stage == stage:
                self.facts.start(kind)

    # RCPT

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Our domain, one group, the policy, and last the backend: see the module."""
        house, address = self.house, str(recipient.mailbox)
        # <postmaster> without a domain is ours (RFC 5321 section 4.5.1): it goes where our first domain goes.
        backend = house.relay.route(recipient.mailbox.domain or next(iter(house.config.domains)))
        if backend is None:
            return self._refuse(Stage.RCPT, RELAY_DENIED, address)
        if self._backend and self._backend != backend:
            return self._refuse(Stage.RCPT, OTHER_GROUP, address)
        if not self._early_done:
            await self._decide_early()
        verdict, progress, known = self._early, self._progress, None
        if verdict is None or not verdict.final:
            verdict, progress, known = await self._decide_rcpt(recipient, backend)
        if verdict is not None and verdict.final:
            return self.speak(Stage.RCPT, verdict, address)
        group = house.policy.data_class(address, progress)
        if self._group is not None and self._group != group:
            return self._refuse(Stage.RCPT, OTHER_GROUP, address)
        known = known or await house.relay.known(backend, self.tx, recipient.mailbox)
        if known.reply is not None:
            return self._refuse(Stage.RCPT, known.reply, address)
        if self._group is None:
            self._backend, self._group, self._first = backend, group, progress
        self.tx.envelope.recipients.append(recipient)
        return Reply(250, "2.1.5", ("Recipient ok",))

    async def _decide_early(self) -> None:
        """Connection, HELO and sender are judged once, with the first recipient, so that the journal has it."""
        for stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL):
            self._early = await self.decide(stage)
            if self._early is not None and self._early.final:
                break
        self._early_done = True

    async def _decide_rcpt(self, recipient: Recipient, backend: str) -> tuple[Verdict | None, Progress, Known | None]:
        mailbox = recipient.mailbox
        known: Known | None = None
        own: Named = {
            "rcpt.address": str(mailbox),
            "rcpt.domain": mailbox.domain,
            "rcpt.count": len(self.tx.envelope.recipients) + 1,
            "message.size": self.tx.envelope.declared_size,
        }
        self._values.pop("rcpt.known", None)

        async def ask() -> str:
            nonlocal known
            known = await self.house.relay.known(backend, self.tx, mailbox)
            return known.answer.value

        progress = replace(self._progress, outcomes=())
        verdict, progress = await self._judge(Stage.RCPT, own, progress, str(mailbox), ask)
        return verdict, progress, known

    # DATA

    async def data(self, message: Message) -> Reply:
        """The verdict on the whole mail, and its delivery."""
        self.account.backend = self._backend
        if message.malformed:
            self.account.fate_detail = message.malformed
            return self._refuse(Stage.DATA, MALFORMED)
        self.start(Stage.DATA)
        recipient = str(self.tx.envelope.recipients[0].mailbox)
        own: Named = {"message.size": message.size}
        verdict, self._progress = await self._judge(Stage.DATA, own, self._first, recipient)
        if verdict is not None and verdict.final:
            return self.speak(Stage.DATA, verdict)
        return await self._deliver(message, verdict)

    async def _deliver(self, message: Message, verdict: Verdict | None) -> Reply:
        house, backend, target = self.house, self._backend, None
        quarantined = verdict is not None and verdict.action is Action.QUARANTINE
        if quarantined:
            if house.config.quarantine is None:
                log.error("a rule quarantines and no quarantine mailbox is configured", rule=verdict and verdict.rule)
                return self._refuse(Stage.DATA, NO_QUARANTINE)
            target = Mailbox.parse(house.config.quarantine.encode())
            backend = house.relay.route(target.domain) or backend
        self.account.client_name = (await self.facts.get(Iprev)).name
        clauses = await self._clauses()
        fields = prepended(
            self.tx, house.config.hostname, house.clock.now(), self.account.client_name, clauses, self._progress.tags,
            held=verdict.rule if quarantined and verdict else "",
        )  # fmt: skip
        started = house.clock.monotonic()
        fate = await house.relay.deliver(backend, self.tx, fields, removed(message, house.config.hostname), target)
        self.account.timings["relay"] = seconds = house.clock.monotonic() - started
        self.account.fate = type(fate).__name__.lower()
        self.account.fate_detail = fate.host if isinstance(fate, Delivered) else ""
        metrics.relay(backend, self.account.fate, seconds)
        if isinstance(fate, Delivered):
            action = Action.QUARANTINE if quarantined else Action.ACCEPT
        else:
            action = Action.REJECT if isinstance(fate, Refused) and fate.reply.permanent else Action.DEFER
        rule, because = (verdict.rule, verdict.because) if verdict else ("", "")
        return self._say(Stage.DATA, action, fate.reply, rule=rule, because=because)

    async def _clauses(self) -> list[str]:
        """What Authentication-Results says: every check that has something to say, done or not asked for by rules."""
        clauses: list[str] = []
        for kind, check in self.house.checks.items():
            clauses.extend(check.trace(await self.facts.get(kind)))
        return clauses

    # Verdicts

    async def decide(self, stage: Stage) -> Verdict | None:
        """The policy's word at a stage before RCPT."""
        verdict, self._progress = await self._judge(stage, {}, self._progress, "")
        return verdict

    async def _judge(
        self,
        stage: Stage,
        own: Named,
        progress: Progress,
        recipient: str,
        known: Callable[[], Awaitable[str]] | None = None,
    ) -> tuple[Verdict | None, Progress]:
        """The verdict and the progress after it. `own` are the facts that no check gives; `known` asks the backend."""
        self._values.update(own)
        while True:
            judged = self.house.policy.judge(stage, self._values, progress, recipient, self.facts.failed)
            if judged.fault:
                log.error("a rule failed", transaction=self.tx.id, why=judged.fault)
            match judged.outcome:
                case Need(facts=names):
                    kinds = {self.house.providers[name] for name in names if name in self.house.providers}
                    self._values.update(await self.facts.named(kinds))
                    if "rcpt.known" in names and not kinds and known is not None:
                        self._values["rcpt.known"] = await known()
                    elif not kinds:
                        raise RuntimeError(f"nothing gives {', '.join(sorted(names))} at {stage.name}")
                case Effect() as effect:
                    progress = progress.with_outcome(effect.rule, await self._greylist(effect, recipient))
                case outcome:
                    self.account.observed, self.account.fired = judged.progress.observed, judged.progress.fired
                    return outcome, judged.progress

    async def _greylist(self, effect: Effect, recipient: str) -> str:
        """Asks the greylist: the outcome as `judge` wants it."""
        spf, iprev, tx = await self.facts.get(Spf), await self.facts.get(Iprev), self.tx
        identity = greylist.identity(spf.result, spf.domain, iprev.result, iprev.name, tx.session.client_ip)
        key = greylist.key(identity, str(tx.envelope.reverse_path or ""), recipient)
        asked = effect.parameters
        try:
            found = self.house.store.greylist(
                key, now=self.house.clock.now(), wait=asked.wait, window=asked.window, keep=asked.keep
            )
        except Unavailable as why:
            metrics.state_error("greylist")
            log.warning("greylist unavailable", transaction=tx.id, why=str(why))
            return "error"
        if found.passed:
            return "passed"
        self._greylisting.add(effect.rule)
        return f"waiting:{math.ceil(found.wait_left)}"

    # Words and records

    def speak(self, stage: Stage, verdict: Verdict, recipient: str = "") -> Reply:
        """A refusal of the policy as the reply for the client, on record."""
        reply = verdict.reply or REFUSED
        if self.house.config.soften:
            reply = reply.softened()
        action = Action.GREYLIST if verdict.rule in self._greylisting else verdict.action
        return self._say(stage, action, reply, rule=verdict.rule, because=verdict.because, recipient=recipient)

    def _refuse(self, stage: Stage, reply: Reply, recipient: str = "") -> Reply:
        """A refusal by the frame, which no policy can widen."""
        return self._say(stage, Action.REJECT if reply.permanent else Action.DEFER, reply, recipient=recipient)

    def _say(
        self, stage: Stage, action: Action, reply: Reply, *, rule: str = "", because: str = "", recipient: str = ""
    ) -> Reply:
        reply = reply.with_id(self.tx.id)
        self._record()
        self.account.speak(stage, action.value, rule, reply, because=because, recipient=recipient)
        if recipient and self.house.journal is not None:
            self.account.write(self.house.journal)  # who reads the id in a bounce shall find it now
        return reply

    def _record(self) -> None:
        for kind, fact in self.facts.known().items():
            self._values.update(self.house.checks[kind].named(fact))
        self.account.facts = dict(self._values)
        self.account.failed = self.facts.failed
        self.account.timings.update(self.facts.seconds)

    def abort(self, why: str) -> None:
        """The transaction ends without an answer to a final dot."""
        self.account.fate = "aborted" if self.tx.envelope.recipients else "none"
        self.account.fate_detail = why
        self._close()
        self.facts.cancel()

    async def end(self) -> None:
        """The transaction ends; nothing of it runs on."""
        self._close()
        await self.facts.close()

    def _close(self) -> None:
        self._record()
        self.account.close(self.house.journal)
