"""The hearing of one mail: the policy is asked until it has a verdict.

The policy is pure. It says which facts it needs next, and they are awaited; or which effect must happen first (the
greylist is asked), and that is done; then it is asked again. What was found stays here as values, for the journal.
`Hearing` is that loop, for whoever judges mail (`gatepost check` too); `LiveHearing` is the pipeline's.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from gateway.checks.check import Named
from gateway.checks.facts import AnyCheck, Facts
from gateway.checks.history import KEEP, History
from gateway.checks.iprev import Iprev
from gateway.checks.spf import Spf
from gateway.house import House
from gateway.journal import Asked, Judged
from gateway.log import log
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Stage, Unavailable
from gateway.policy import classes
from gateway.policy.classes import DataClass
from gateway.policy.loader import Policy
from gateway.policy.outcome import ERROR, PASSED, Effect, Need, Progress, Verdict
from gateway.policy.rules import Action, Limit, Rule
from gateway.policy.vocabulary import SIZE
from gateway.state import greylist
from gateway.state.store import ask


class Court(Protocol):
    """What a hearing needs of a house."""

    @property
    def policy(self) -> Policy:
        """The rules."""

    @property
    def checks(self) -> Mapping[type[AnyCheck], AnyCheck]:
        """What can be found out."""

    @property
    def providers(self) -> Mapping[str, type[AnyCheck]]:
        """Dotted name of a fact to the check that gives it."""


class Hearing(ABC):
    """Facts and policy of one transaction."""

    def __init__(self, court: Court, tx: Transaction, facts: Facts) -> None:
        self._court = court
        self._tx = tx
        self._facts = facts
        self._values: Named = {}
        self._told: set[type[AnyCheck]] = set()  # checks whose facts are among the values
        #: What the policy did so far, through all stages.
        self.progress = Progress()
        #: What effects answered, by who asked what: before RCPT; with a recipient, what came before included; at DATA.
        self.outcomes: dict[str, str] = {}
        self._early: dict[str, str] = {}

    def values(self) -> Named:
        """All facts known by now, by their dotted names; the last recipient's own among them."""
        for kind, fact in self._facts.known().items():
            if kind not in self._told:
                self._told.add(kind)
                self._values.update(self._court.checks[kind].named(fact))
        return dict(self._values)

    async def judge(
        self,
        stage: Stage,
        own: Named,
        progress: Progress,
        recipient: str = "",
        known: Callable[[], Awaitable[str]] | None = None,
    ) -> Verdict | None:
        """The verdict of a stage; `self.progress` is what it left behind.

        `own` are the facts that no check gives, `known` asks the backend for the fact `rcpt.known`.
        """
        self._values.update(own)
        if stage >= Stage.RCPT:
            self.outcomes = dict(self._early) if stage is Stage.RCPT else {}
        if known is not None:
            self._values.pop("rcpt.known", None)  # the last recipient's
        while True:
            judged = self._court.policy.judge(stage, self._values, progress, recipient, self._facts.failed)
            if judged.fault:
                log.error("a rule failed", transaction=self._tx.id, why=judged.fault)
            match judged.outcome:
                case Need(facts=names):
                    await self._fetch(names, stage, known)
                case Effect() as effect:
                    self.outcomes[effect.entry] = answer = await self.perform(effect, recipient)
                    if stage < Stage.RCPT:
                        self._early[effect.entry] = answer
                    progress = progress.with_outcome(effect.rule, answer)
                case outcome:
                    self.progress = judged.progress
                    return outcome

    async def _fetch(self, names: frozenset[str], stage: Stage, known: Callable[[], Awaitable[str]] | None) -> None:
        """Makes those facts known, cheap ones first: the backend is asked when nothing else is missing."""
        providers = self._court.providers
        kinds = {providers[name] for name in names if name in providers}
        if kinds:
            self._values.update(await self._facts.named(kinds))
        elif "rcpt.known" in names and known is not None:
            self._values["rcpt.known"] = await known()
        else:
            raise RuntimeError(f"nothing gives {', '.join(sorted(names))} at {stage.name}")

    @abstractmethod
    async def perform(self, effect: Effect, recipient: str) -> str:
        """Does what must happen before the policy can go on: the outcome as `judge` wants it."""


class LiveHearing(Hearing):
    """The hearing of a mail that is here: effects are real."""

    def __init__(self, house: House, tx: Transaction, facts: Facts) -> None:
        super().__init__(house, tx, facts)
        self._house = house
        #: Rules whose greylist or limit makes the sender wait, and which of the two it is.
        self.waits: dict[str, Action] = {}
        # Rules that are about some recipients alone and that an announced size lets pass.
        self._trusted: dict[str, Rule] = {}

    async def alike(self, one: DataClass, other: DataClass) -> bool:
        """True when DATA will do the same with both: the rules in which they differ are known not to fire."""
        policy, providers = self._house.policy, self._house.providers
        apart = classes.between(one, other, policy.rules)
        if apart is None or not all(classes.early(rule) or SIZE in rule.when.facts for rule in apart):
            return False
        kinds = {providers[name] for rule in apart for name in classes.early(rule) if name in providers}
        facts, failed = await self._facts.named(kinds), self._facts.failed
        announced = self._tx.envelope.declared_size
        if not all(classes.silent(policy.engine, rule, facts, failed, announced) for rule in apart):
            return False
        self._trusted |= {rule.id: rule for rule in apart if SIZE in rule.when.facts}
        return True

    def misled(self, size: int) -> bool:
        """True when the announced size put recipients together whom the counted one would have parted."""
        if not self._trusted:
            return False
        facts, engine = {**self.values(), SIZE: size}, self._house.policy.engine
        return not all(classes.silent(engine, rule, facts, self._facts.failed) for rule in self._trusted.values())

    async def perform(self, effect: Effect, recipient: str) -> str:
        """Asks the greylist, or counts."""
        try:
            left = await self._asked(effect, recipient)
        except Unavailable:  # the store has told log and metrics
            return ERROR
        if left is None:
            return PASSED
        self.waits[effect.rule] = Action(effect.kind)
        return f"waiting:{math.ceil(left)}"

    async def _asked(self, effect: Effect, recipient: str) -> float | None:
        """Seconds that the sender has to wait; None when it may go on."""
        asked, store, now = effect.parameters, self._house.store, self._house.clock.now()
        if isinstance(asked, Limit):
            counted = await ask(
                store, store.limit, f"{effect.rule} {effect.subject}", now=now, rate=asked.rate, per=asked.per
            )
            return None if counted.allowed else counted.wait_left
        spf, iprev, tx = await self._facts.get(Spf), await self._facts.get(Iprev), self._tx
        identity = greylist.identity(spf.result, spf.domain, iprev.result, iprev.name, tx.session.client_ip)
        key = greylist.key(identity, str(tx.envelope.reverse_path or ""), recipient)
        found = await ask(store, store.greylist, key, now=now, wait=asked.wait, window=asked.window, keep=asked.keep)
        return None if found.passed else found.wait_left

    async def delivered(self) -> None:
        """A backend took the mail: from now on its author is known, if a rule asks for that. Raises nothing: what
        fails here must not take the place of the backend's answer."""
        if not self._house.remembers:
            return
        store, now = self._house.store, self._house.clock.now()
        try:
            if key := (await self._facts.get(History)).key:
                await ask(store, store.remember_sender, key, now=now, keep=KEEP)
        except Unavailable:  # the store has told log and metrics
            pass
        except Exception:
            log.exception("a sender could not be remembered", transaction=self._tx.id)

    def action(self, verdict: Verdict) -> Action:
        """The action by its word on record."""
        return self.waits.get(verdict.rule, verdict.action) if verdict.final else verdict.action

    def asked(self, stage: Stage, own: Named, verdict: Verdict | None, *, taken: bool = False) -> Asked:
        """What was asked about a recipient (or before there was one), for the record."""
        recipient = str(own.get("rcpt.address", ""))
        if verdict is None or not verdict.final:
            return Asked(recipient, stage.name.lower(), dict(own), self.outcomes, taken=taken)
        action = self.action(verdict).value
        return Asked(recipient, stage.name.lower(), dict(own), self.outcomes, action, verdict.rule, taken)

    def judged(self, verdict: Verdict | None) -> Judged:
        """What the policy said of the whole message, for the record."""
        action, rule = (self.action(verdict).value, verdict.rule) if verdict else (Action.ACCEPT.value, "")
        return Judged(action, rule, self.outcomes, tuple((tag.name, tag.value) for tag in self.progress.tags))


def of_recipient(tx: Transaction, mailbox: Mailbox) -> Named:
    """The facts of one more recipient."""
    return {
        "rcpt.address": mailbox.canonical,
        "rcpt.domain": mailbox.domain,
        "rcpt.count": len(tx.envelope.recipients) + 1,
        "message.size": tx.envelope.declared_size,
    }
