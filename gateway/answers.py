"""What a journey answers, and that each answer is on record.

Every refusal ends in the id of its transaction and goes to the journal at once: a support desk goes from a bounce to
its reason. Used by `pipeline` alone; what is written down is `account`'s.
"""

from gateway.account import Account
from gateway.checks.facts import Facts
from gateway.hearing import LiveHearing
from gateway.house import House
from gateway.log import log
from gateway.mail.envelope import Transaction
from gateway.mail.message import Message
from gateway.mail.received import HOPS_LIMIT, hops
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage
from gateway.policy.judge import Verdict
from gateway.policy.rules import Action

OUR_FAULT = Reply(451, "4.3.0", ("Local error, try again later",))
REFUSED = Reply(550, "5.7.1", ("Refused by policy",))
MALFORMED = Reply(554, "5.6.0", ("The header of the message is malformed",))
LOOPS = Reply(554, "5.4.6", ("Too many hops, this message loops",))


def unacceptable(message: Message) -> tuple[Reply, str] | None:
    """The refusal of a message that no policy can let in, and why, in words for the journal."""
    if message.malformed:
        return MALFORMED, message.malformed
    # Whatever the rules: a loop would go on until a backend or DNS ends it, and each turn costs both sides.
    if (count := hops(message.fields)) > HOPS_LIMIT:
        return LOOPS, f"{count} Received fields"
    return None


class Answers:
    """The answers of one transaction; `account` is their record."""

    def __init__(self, house: House, tx: Transaction, facts: Facts, hearing: LiveHearing) -> None:
        self.account = Account(tx, house.policy.revision)
        self._house = house
        self._tx = tx
        self._facts = facts
        self._hearing = hearing

    def judged(self, stage: Stage, verdict: Verdict, recipient: str = "") -> Reply:
        """A refusal of the policy as the reply for the client, on record."""
        reply = verdict.reply or REFUSED
        if self._house.config.soften:
            reply = reply.softened()
        if stage < Stage.RCPT:
            self.account.hear(self._hearing.asked(stage, {}, verdict))
        action = self._hearing.action(verdict)
        return self.said(stage, action, reply, rule=verdict.rule, because=verdict.because, recipient=recipient)

    def refused(self, stage: Stage, reply: Reply, recipient: str = "") -> Reply:
        """A refusal by the frame, which no policy can widen."""
        return self.said(stage, _action(reply), reply, recipient=recipient)

    def crashed(self, stage: Stage, recipient: str = "") -> Reply:
        """A fault of ours: never the sender's (451), told in the log alone."""
        log.exception("journey crashed", transaction=self._tx.id)
        self.account.fate_detail = "internal error, see the log"
        return self.said(stage, Action.DEFER, OUR_FAULT, recipient=recipient)

    def said(
        self, stage: Stage, action: Action, reply: Reply, *, rule: str = "", because: str = "", recipient: str = ""
    ) -> Reply:
        """The reply with the id. What is said of the whole mail ends it, and is written down with the end."""
        reply = reply.with_id(self._tx.id)
        if recipient:
            self._gather()
        self.account.speak(stage, action.value, rule, reply, because=because, recipient=recipient)
        if recipient:
            self._write()
        return reply

    def overheard(self, reply: Reply) -> None:
        """A refusal by the edge, on record with the others: the sender may ask us about it."""
        self._gather()
        self.account.overhear(Stage.RCPT, _action(reply).value, reply)
        self._write()

    def handed_over(self, host: str) -> None:
        """The dot is about to go to that host: on record first, for the case that we do not live to hear the answer."""
        if self._house.journal is not None:
            self._gather()
        self.account.hand_over(host, self._house.journal)

    def broken_off(self, why: str, reply: Reply | None) -> None:
        """The transaction ends without our answer to a final dot: the edge gave it (`reply`), or there was none."""
        if reply is not None:
            self.said(Stage.DATA, _action(reply), reply)
        elif self._tx.envelope.recipients:
            self.account.fate = "aborted"
        self.account.fate_detail = self.account.fate_detail or why
        self.close()

    def close(self) -> None:
        """The transaction has ended: the whole record."""
        self._gather()
        self.account.close(self._house.journal)

    def _write(self) -> None:
        if self._house.journal is not None:
            self.account.write(self._house.journal)  # who reads the id in a bounce shall find it now

    def _gather(self) -> None:
        account, progress = self.account, self._hearing.progress
        account.facts = self._hearing.values()
        account.client_name = str(account.facts.get("client.name", ""))
        account.did(progress.observed, progress.fired, progress.notes)
        account.failed = self._facts.failed
        account.dns = self._facts.questions
        account.timings.update(self._facts.seconds)


def _action(reply: Reply) -> Action:
    return Action.REJECT if reply.permanent else Action.DEFER
