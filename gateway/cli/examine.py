"""One mail examined without SMTP: all checks, then the policy, as the pipeline would ask them.

Greylisting counts as passed, the backend as one that knows the recipient; nothing is delivered and nothing remembered.
What the edge refuses before any policy (a sender that is no address, a bare CR or LF, a malformed header) is refused
here too. Called by `gatepost check`.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.answers import unacceptable
from gateway.checks.arc import Arc, ArcFact
from gateway.checks.check import Named
from gateway.checks.dkim import Dkim, DkimFact
from gateway.checks.dmarc import Dmarc, DmarcFact
from gateway.checks.facts import AnyCheck, Facts
from gateway.checks.roster import Terms, roster
from gateway.checks.spf import Spf, SpfFact, check_host
from gateway.clock import Clock
from gateway.dns.resolver import Resolver
from gateway.hearing import Hearing
from gateway.mail.address import Mailbox, parse_path
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import HEADER_LIMIT, Field, Message
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.mail.terms import Result, Stage
from gateway.policy.judge import Effect, Verdict
from gateway.policy.loader import Policy
from gateway.policy.outcome import PASSED

#: Who the mail is for when nobody said: a reserved name.
ANYBODY = "user@example.com"


@dataclass(frozen=True, slots=True)
class Case:
    """A mail and where it came from. `mail_from` is raw text ("" is the null sender); `ip` may be unknown ("")."""

    message: Message | None
    ip: str = ""
    helo: str = ""
    mail_from: str = ""
    recipient: str = ANYBODY
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Disposition:
    """What the client would have been told at the end, and why."""

    action: str
    code: int
    rule: str
    reply: str
    because: str = ""
    stage: Stage = Stage.DATA


@dataclass(frozen=True, slots=True)
class Findings:
    """The facts that `gatepost check` speaks of; `values` are all of them as policies name them."""

    spf: SpfFact
    dkim: DkimFact
    arc: ArcFact
    dmarc: DmarcFact
    disposition: Disposition | None
    values: Named = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    trace: tuple[str, ...] = ()


class Garbled(Message):
    """A message with NUL, bare CR or bare LF in its header, whose fields can be named all the same.

    The edge refuses such octets and its `Message` has no fields then; `check` shall still say what each signature and
    the author came to. Those octets become one that no token may hold, so that nothing hides behind them.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields as CRLF alone divides them."""
        head = bytes(self.view(0, min(self.body_offset, HEADER_LIMIT)))
        lines = head.split(b"\r\n")
        clean = b"\r\n".join(line.translate(_GARBLED) for line in lines)
        return Message.from_octets(clean).fields


_GARBLED = bytes.maketrans(b"\0\r\n", b"\x01\x01\x01")


class GivenSpf(Spf):
    """SPF of the sender as it was typed: what is no mailbox has an SPF result all the same (RFC 7208 section 4.3)."""

    def __init__(self, resolver: Resolver, clock: Clock, hostname: str, case: Case) -> None:
        super().__init__(resolver, clock, hostname)
        self._case, self._given, self._time = case, resolver, clock
        self._receiver = hostname

    async def run(self, tx: Transaction, facts: Facts) -> SpfFact:
        case = self._case
        if not case.ip:
            return SpfFact(Result.NONE, why="the client is not known")
        return await check_host(
            self._given, case.ip, case.helo, _unbracketed(case.mail_from), receiver=self._receiver, now=self._time.now()
        )


class Examiner:
    """Checks and policy for many cases. `policy` None: facts alone."""

    def __init__(self, policy: Policy | None, terms: Terms | None = None) -> None:
        self._policy = policy
        self.terms = terms or Terms()

    async def examine(self, case: Case, resolver: Resolver, clock: Clock, terms: Terms | None = None) -> Findings:
        """The findings for one case, under other terms where they are given. `ValueError` when its address is none."""
        terms = terms or self.terms
        ip = canonical_ip(case.ip) if case.ip else ""
        session = Session(clock.new_id(), ip or "0.0.0.0", 0, "127.0.0.1", 25, clock.now(), case.helo, True)  # noqa: S104 - no address, a blank
        refusal, sender = _sender(case)
        envelope = Envelope(sender, smtputf8=case.smtputf8)
        message = case.message
        if message is not None and message.malformed:
            message = Garbled(message.view().tobytes())
        tx = Transaction(clock.new_id(), session, envelope, clock.now(), message)
        checks = roster(terms, resolver, clock, spf=GivenSpf(resolver, clock, terms.hostname, case))
        facts = Facts(checks, tx)
        try:
            spf = await facts.get(Spf)
            dkim, arc, dmarc = await facts.get(Dkim), await facts.get(Arc), await facts.get(Dmarc)
            disposition = None
            if self._policy is not None and case.message is not None:
                disposition = (
                    refusal or _of_octets(case.message) or await _judged(_Court(self._policy, checks), case, facts, tx)
                )
            values = await facts.named(checks)
            trace = [clause for kind, check in checks.items() for clause in check.trace(await facts.get(kind))]
            return Findings(spf, dkim, arc, dmarc, disposition, values, facts.failed, tuple(trace))
        finally:
            await facts.close()


@dataclass(frozen=True, slots=True)
class _Court:
    """Checks and policy, as a hearing wants them."""

    policy: Policy
    checks: Mapping[type[AnyCheck], AnyCheck]

    @property
    def providers(self) -> Mapping[str, type[AnyCheck]]:
        return {name: kind for kind, check in self.checks.items() for name in check.provides}


class _Hearing(Hearing):
    """A hearing without effects: the greylist has let everybody pass, no rate is reached."""

    async def perform(self, effect: Effect, recipient: str) -> str:
        return PASSED


async def _judged(court: _Court, case: Case, facts: Facts, tx: Transaction) -> Disposition:
    assert case.message is not None
    try:
        recipient = Mailbox.parse(case.recipient.encode(), smtputf8=True)
    except SyntaxRefused as refused:
        raise ValueError(f"the recipient: {refused}") from None
    tx.envelope.recipients.append(Recipient(recipient))
    own: Named = {
        "rcpt.address": str(recipient),
        "rcpt.domain": recipient.domain,
        "rcpt.known": "yes",
        "rcpt.count": 1,
        "message.size": case.message.size,
    }
    hearing = _Hearing(court, tx, facts)
    for stage in Stage:
        verdict = await hearing.judge(stage, own, hearing.progress, str(recipient))
        if verdict is not None and (verdict.final or stage is Stage.DATA):
            return _spoken(verdict, stage)
    return Disposition("accept", 250, "", "250 2.0.0 Ok")


def canonical_ip(text: str) -> str:
    """An address in its one spelling; IPv4-mapped IPv6 is IPv4. `ValueError` when it is none."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an address with a zone is of one machine only")
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def _unbracketed(text: str) -> str:
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _sender(case: Case) -> tuple[Disposition | None, Mailbox | None]:
    """The reverse-path, and the refusal at MAIL where the text is none."""
    try:
        octets = f"<{_unbracketed(case.mail_from)}>".encode("utf-8", "surrogateescape")
        return None, parse_path(octets, smtputf8=case.smtputf8, what="reverse")[0]
    except SyntaxRefused as refused:
        return _refused(refused.reply, Stage.MAIL), None


def _of_octets(message: Message) -> Disposition | None:
    """What the DATA reader and the pipeline refuse before any policy."""
    crlf = cr = lf = nul = 0
    held = b""
    for chunk in message.chunks():
        octets = held + chunk
        held = b"\r" if octets.endswith(b"\r") else b""
        octets = octets[: len(octets) - len(held)]
        crlf += octets.count(b"\r\n")
        cr += octets.count(b"\r")
        lf += octets.count(b"\n")
        nul += octets.count(0)
    if held or nul or cr != crlf or lf != crlf:
        return _refused(Reply(554, "5.6.0", ("The message has a bare CR, a bare LF or a NUL",)), Stage.DATA)
    refusal = unacceptable(message)
    return _refused(refusal[0], Stage.DATA) if refusal else None


def _refused(reply: Reply, stage: Stage) -> Disposition:
    return Disposition("reject" if reply.permanent else "defer", reply.code, "", _words(reply), stage=stage)


def _spoken(verdict: Verdict, stage: Stage) -> Disposition:
    if not verdict.final:
        return Disposition(verdict.action.value, 250, verdict.rule, "250 2.0.0 Ok", verdict.because, stage)
    reply = verdict.reply or Reply(550, "5.7.1", ("Refused by policy",))
    return Disposition(verdict.action.value, reply.code, verdict.rule, _words(reply), verdict.because, stage)


def _words(reply: Reply) -> str:
    return f"{reply.code} {reply.status} {' '.join(reply.text)}".replace("  ", " ")
