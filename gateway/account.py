"""What is written down of a journey: one log line, one journal entry, the counters.

Called by `pipeline` when something was refused (the entry is there as soon as the reply is, under the id that the
reply ends with) and once more when the transaction ends; the later entry replaces the earlier one.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway import metrics
from gateway.checks.check import Named
from gateway.journal import Asked, Entry, Journal, Judged, Spoken
from gateway.log import log
from gateway.mail.envelope import Transaction
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage

#: Decisions kept of one transaction, and after how many the journal hears of further ones only at the end.
_VERDICTS = 200
_WRITTEN_AT_ONCE = 5


@dataclass(slots=True)
class Account:
    """The record of one transaction while it grows."""

    tx: Transaction
    revision: str
    facts: Named = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    dns: dict[str, str] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    verdicts: list[Spoken] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    observed: tuple[tuple[str, str], ...] = ()
    fired: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    asked: list[Asked] = field(default_factory=list)
    judged: Judged = field(default_factory=Judged)
    client_name: str = ""
    backend: str = ""
    fate: str = "none"
    fate_detail: str = ""
    _last: Spoken | None = None  # the house's last word
    _started: float = field(default_factory=time.monotonic)

    def speak(
        self, stage: Stage, action: str, rule: str, reply: Reply, *, because: str = "", recipient: str = ""
    ) -> None:
        """Notes a decision and its reply. Recipients accepted on the way are not noted one by one."""
        self._last = self._note(Spoken(stage.name.lower(), action, rule, _text(reply), because, recipient))
        if rule:
            metrics.rule_fired(rule, action)
        if recipient and not reply.accepted:
            self.refused.append(recipient)

    def overhear(self, stage: Stage, action: str, reply: Reply) -> None:
        """Notes a refusal by the edge (grammar, sequence, a limit): the last word only where there is no other."""
        self._note(Spoken(stage.name.lower(), action, "", _text(reply)))

    def _note(self, spoken: Spoken) -> Spoken:
        if len(self.verdicts) < _VERDICTS:
            self.verdicts.append(spoken)
        return spoken

    def hear(self, asked: Asked) -> None:
        """Notes what the policy was asked about a recipient."""
        if len(self.asked) < _VERDICTS:
            self.asked.append(asked)

    def did(
        self, observed: Iterable[tuple[str, str]], fired: Iterable[str], notes: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Notes which rules acted, or would have, and what they remarked: of all recipients together."""
        self.observed = tuple(dict.fromkeys((*self.observed, *observed)))
        self.notes = tuple(dict.fromkeys((*self.notes, *notes)))
        self.fired = tuple(dict.fromkeys((*self.fired, *fired)))

    def entry(self) -> Entry:
        """The journal's entry as things stand."""
        tx, last = self.tx, self._last or (self.verdicts[-1] if self.verdicts else None)
        accepted = tuple(str(r.mailbox) for r in tx.envelope.recipients)
        return Entry(
            id=tx.id,
            time=tx.started,
            client=tx.session.client_ip,
            sender=str(tx.envelope.reverse_path or ""),
            recipients=(*accepted, *(r for r in self.refused if r not in accepted)),
            client_name=self.client_name,
            helo=tx.session.helo,
            tls=tx.session.tls,
            session=tx.session.id,
            size=tx.message.size if tx.message is not None else tx.envelope.declared_size,
            facts=dict(self.facts),
            failed=dict(self.failed),
            dns=dict(self.dns),
            stage=last.stage if last else "",
            action=last.action if last else "",
            rule=last.rule if last else "",
            because=last.because if last else "",
            reply=last.reply if last else "",
            verdicts=tuple(self.verdicts),
            asked=tuple(self.asked),
            judged=self.judged,
            fired=self.fired,
            observed=self.observed,
            notes=self.notes,
            backend=self.backend,
            fate=self.fate,
            fate_detail=self.fate_detail,
            revision=self.revision,
            timings={**self.timings, "total": time.monotonic() - self._started},
        )

    def hand_over(self, host: str, journal: Journal | None) -> None:
        """The dot is about to go to that host: the fate is open, and stays so should nothing more be heard of us."""
        self.fate = "unknown"
        self.fate_detail = f"{host} was sent the final dot, and the gateway ended before it wrote down the answer"
        if journal is not None:
            journal.note(self.entry())

    def write(self, journal: Journal) -> None:
        """Keeps the entry as things stand; not for every one of many refused recipients."""
        if len(self.verdicts) <= _WRITTEN_AT_ONCE:
            journal.record(self.entry())

    def close(self, journal: Journal | None) -> None:
        """The transaction ended: the log line, the final entry, the counters."""
        entry = self.entry()
        if journal is not None:
            journal.record(entry)
        metrics.transaction(entry.outcome, entry.timings["total"])
        log.info(
            "transaction",
            id=entry.id,
            session=entry.session,
            client=entry.client,
            client_name=entry.client_name,
            helo=entry.helo,
            tls=entry.tls,
            sender=entry.sender,
            recipients=[str(r.mailbox) for r in self.tx.envelope.recipients[:20]],
            recipient_count=len(self.tx.envelope.recipients),
            refused=self.refused[:20],
            size=entry.size,
            outcome=entry.outcome,
            stage=entry.stage,
            rule=entry.rule,
            reply=entry.reply,
            backend=entry.backend,
            fate=entry.fate,
            fate_detail=entry.fate_detail,
            observed=[f"{rule}: {action}" for rule, action in self.observed],
            failed=entry.failed,
            seconds=round(entry.timings["total"], 4),
        )


def _text(reply: Reply) -> str:
    return " ".join((str(reply.code), reply.status, *reply.text))
