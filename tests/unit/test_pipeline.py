"""The journey of one mail: the order of questions, the replies, what is on record."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.build import build, plan
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.journal import Entry
from gateway.journal.entry import decode, encode
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.reply import Reply
from gateway.mail.terms import Unavailable
from gateway.pipeline import House, Pipeline
from gateway.relay.delivery import Answered, Delivered, Fate, Known, Refused, Relay, Unknown
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Greylisted, GreylistKey, Limited

ZONE = {
    "good.example": {"TXT": ["v=spf1 ip4:192.0.2.7 -all"]},
    "strict.example": {"TXT": ["v=spf1 -all"]},
    "broken.example": {"TXT": "SERVFAIL"},
    "7.2.0.192.in-addr.arpa": {"PTR": ["mail.good.example."]},
    "mail.good.example": {"A": ["192.0.2.7"]},
}
CONFIG = """
hostname: mx.example.com
listeners: [{bind: "127.0.0.1:0", starttls: off}]
domains:
  example.com: {backend: main}
  example.org: {backend: main}
  other.example: {backend: second}
backends:
  main: {hosts: "127.0.0.1:1"}
  second: {hosts: "127.0.0.1:2"}
policies: policies
lists: policies/lists
state: sqlite:state.db
dns: {zone: zone.json}
quarantine: quarantine@example.com
"""
MAIL = b"From: a@good.example\r\nSubject: hi\r\n\r\nbody\r\n"


class StandIn(Relay):
    """A relay that is told what the backend says, and remembers what it was asked."""

    answers: dict[str, Known]
    fate: Fate
    crash: Exception | None = None
    asked: list[str]
    sent: list[tuple[str, bytes, frozenset[int], str]]

    async def known(self, backend: str, tx: Transaction, mailbox: Mailbox) -> Known:
        self.asked.append(str(mailbox))
        return self.answers.get(str(mailbox), Known(Answered.YES))

    async def deliver(
        self,
        backend: str,
        tx: Transaction,
        prepended: bytes,
        removed: frozenset[int],
        recipient: Mailbox | None = None,
        *,
        client_name: str = "",
        before_dot: Callable[[str], None] | None = None,
    ) -> Fate:
        self.sent.append((backend, prepended, removed, str(recipient or "")))
        if before_dot is not None:
            before_dot("192.0.2.25:25")
        if self.crash is not None:
            raise self.crash
        return self.fate


class Memory:
    """A journal that keeps entries at hand."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.noted: list[Entry] = []

    def note(self, entry: Entry) -> None:
        self.noted.append(entry)

    def record(self, entry: Entry) -> None:
        self.entries[entry.id] = entry


@dataclass
class Stage:
    """A pipeline on a stage set."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    journal: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        (self.folder / "policies" / "lists").mkdir(parents=True)
        (self.folder / "gatepost.yaml").write_text(CONFIG)
        (self.folder / "zone.json").write_text("{}")
        self.store = SqliteStore(self.folder / "state.db", self.clock)

    def house(self, rules: str, extra: str = "") -> House:
        (self.folder / "policies" / "a.yaml").write_text("rules:\n" + rules if rules else "rules: []\n")
        (self.folder / "gatepost.yaml").write_text(CONFIG + extra)
        made = plan(self.folder / "gatepost.yaml", DiskFiles(), self.clock, today=True)
        house = build(
            made,
            clock=self.clock,
            store=self.store,
            resolver=Resolver(Zone(ZONE), self.clock),
            journal=self.journal,  # type: ignore[arg-type]
            relay=StandIn,
        )
        relay = house.relay
        assert isinstance(relay, StandIn)
        relay.answers, relay.asked, relay.sent = {}, [], []
        relay.fate = Delivered(Reply(250, "2.0.0", ("OK, kept",)), "127.0.0.1:1")
        return house


@dataclass
class Client:
    """One client's session with the pipeline."""

    pipeline: Pipeline
    ip: str = "192.0.2.7"

    def __post_init__(self) -> None:
        self.session = Session("S", self.ip, 1, "127.0.0.1", 25, 0.0, helo="mail.good.example", esmtp=True)

    async def mail(self, sender: str | None, size: int = 0) -> Transaction:
        path = Mailbox.parse(sender.encode()) if sender else None
        reply, tx = await self.pipeline.mail(self.session, Envelope(path, declared_size=size))
        assert tx is not None
        assert reply.code == 250
        return tx

    async def rcpt(self, tx: Transaction, address: str) -> str:
        return said(await self.pipeline.rcpt(tx, Recipient(Mailbox.parse(address.encode()))))

    async def data(self, tx: Transaction, octets: bytes = MAIL) -> str:
        return said(await self.pipeline.data(tx, Message.from_octets(octets)))

    async def whole(self, sender: str | None, recipient: str, octets: bytes = MAIL) -> str:
        tx = await self.mail(sender)
        reply = await self.rcpt(tx, recipient)
        if not reply.startswith("250"):
            self.pipeline.aborted(tx, "RSET")
            return reply
        return await self.data(tx, octets)


def said(reply: Reply) -> str:
    return " ".join((str(reply.code), reply.status, *reply.text))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario()

    asyncio.run(run())


def relay_of(house: House) -> StandIn:
    assert isinstance(house.relay, StandIn)
    return house.relay


def test_a_mail_is_delivered_with_our_fields_and_on_record(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("")
        forged = b"Authentication-Results: mx.example.com; dmarc=pass\r\n"
        assert await Client(Pipeline(house)).whole("a@good.example", "joe@example.com", forged + MAIL) == (
            "250 2.0.0 OK, kept T00000000001"
        )
        ((backend, fields, removed, target),) = relay_of(house).sent
        assert (backend, removed, target) == ("main", frozenset({0}), "")
        assert fields.startswith(b"Authentication-Results: mx.example.com;\r\n\tiprev=pass")
        assert b"spf=pass smtp.mailfrom=good.example" in fields
        assert b"for <joe@example.com>" in fields
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.fate, entry.fate_detail) == ("accept", "delivered", "127.0.0.1:1")
        assert (entry.facts["spf.result"], entry.facts["client.name"]) == ("pass", "mail.good.example")
        assert entry.client_name == "mail.good.example"

    play(scenario)


def test_other_domains_are_refused_before_anything_is_asked(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: all, when: true, then: accept, owner: us, expires: never}\n")
        reply = await Client(Pipeline(house)).whole("a@good.example", "joe@elsewhere.example")
        assert reply.startswith("550 5.7.1 Relaying denied")
        assert relay_of(house).asked == []

    play(scenario)


def test_the_backend_is_asked_only_after_the_policy_has_spoken(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: no, when: spf.result == 'fail', then: reject}\n")
        client = Client(Pipeline(house))
        assert (await client.whole("a@strict.example", "joe@example.com")).startswith("550 5.7.1")
        assert relay_of(house).asked == []
        assert (await client.whole("a@good.example", "joe@example.com")).startswith("250")
        assert relay_of(house).asked == ["joe@example.com"]

    play(scenario)


def test_a_rule_on_rcpt_known_asks_once(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: gone, when: rcpt.known == 'no', then: reject, reply: 550 5.1.1 Gone}\n")
        relay_of(house).answers["x@example.com"] = Known(Answered.NO, Reply(550, "5.1.1", ("nobody",)))
        client = Client(Pipeline(house))
        assert (await client.whole("a@good.example", "x@example.com")).startswith("550 5.1.1 Gone")
        assert (await client.whole("a@good.example", "y@example.com")).startswith("250")
        assert relay_of(house).asked == ["x@example.com", "y@example.com"]

    play(scenario)


@pytest.mark.parametrize(
    ("known", "reply"),
    [
        (Known(Answered.NO, Reply(550, "5.1.1", ("nobody",))), "550 5.1.1 nobody"),
        (Known(Answered.UNKNOWN, Reply(451, "4.4.1", ("away",))), "451 4.4.1 away"),
        (Known(Answered.UNKNOWN), "250 2.1.5 Recipient ok"),
    ],
)
def test_what_the_backend_says_of_a_recipient(stage: Stage, known: Known, reply: str) -> None:
    async def scenario() -> None:
        house = stage.house("")
        relay_of(house).answers["joe@example.com"] = known
        client = Client(Pipeline(house))
        tx = await client.mail("a@good.example")
        assert (await client.rcpt(tx, "joe@example.com")).startswith(reply)
        assert len(tx.envelope.recipients) == (1 if reply.startswith("250") else 0)
        client.pipeline.aborted(tx, "RSET")

    play(scenario)


def test_recipients_of_other_backends_or_other_rules_come_separately(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house(
            "  - {id: big, for: ['ann@example.com'], when: message.size > 5, then: reject}\n"
            "  - {id: tagged, for: ['tim@example.com'], when: rcpt.count > 0, then: {tag: {name: X-A, value: b}}}\n"
        )
        client = Client(Pipeline(house))
        tx = await client.mail("a@good.example")
        assert (await client.rcpt(tx, "joe@example.com")).startswith("250")
        assert (await client.rcpt(tx, "jim@example.org")).startswith("250")
        for other in ("x@other.example", "ann@example.com", "tim@example.com"):
            assert (await client.rcpt(tx, other)).startswith("452 4.5.3"), other
        assert [str(r.mailbox) for r in tx.envelope.recipients] == ["joe@example.com", "jim@example.org"]
        client.pipeline.aborted(tx, "RSET")

    play(scenario)


def test_rules_that_cannot_fire_any_more_part_nobody(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house(
            "  - {id: big, for: ['ann@example.com'], when: message.size > 500, then: reject}\n"
            "  - {id: far, for: ['tim@example.com'], when: spf.result == 'fail' && message.hops > 1, then: reject}\n"
        )
        client = Client(Pipeline(house))
        everybody = ("joe@example.com", "ann@example.com", "tim@example.com")
        for sender, size, replies in (
            ("a@good.example", 60, ["250", "250", "250"]),
            ("a@good.example", 0, ["250", "452", "250"]),
            ("a@strict.example", 60, ["250", "250", "452"]),
            ("a@broken.example", 60, ["250", "250", "452"]),
        ):
            tx = await client.mail(sender, size=size)
            assert [(await client.rcpt(tx, each))[:3] for each in everybody] == replies, (sender, size)
            client.pipeline.aborted(tx, "RSET")
        # Who announced less than half of what came had recipients taken together that do not belong together.
        tx = await client.mail("a@good.example", size=60)
        assert [(await client.rcpt(tx, each))[:3] for each in everybody] == ["250"] * 3
        assert (await client.data(tx, MAIL + b"x" * 600 + b"\r\n")).startswith("552 5.3.4")
        assert relay_of(house).sent == []
        assert (await client.whole("a@good.example", "joe@example.com", MAIL + b"x" * 600 + b"\r\n")).startswith("250")

    play(scenario)


def test_a_size_rule_counts_again_after_data(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: big, when: message.size > 100, then: reject, reply: 552 5.2.3 Too big}\n")
        client = Client(Pipeline(house))
        tx = await client.mail("a@good.example", size=101)
        assert (await client.rcpt(tx, "joe@example.com")).startswith("552 5.2.3")
        client.pipeline.aborted(tx, "RSET")
        reply = await client.whole("a@good.example", "joe@example.com", MAIL + b"x" * 100 + b"\r\n")
        assert reply.startswith("552 5.2.3")
        assert relay_of(house).sent == []

    play(scenario)


def test_greylisting_tells_the_wait_and_then_lets_pass(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: grey, when: spf.result != 'pass', then: {greylist: {wait: 5m}}}\n")
        client = Client(Pipeline(house), "198.51.100.1")
        reply = await client.whole("a@nowhere.example", "joe@example.com")
        assert reply.startswith("451 4.7.1")
        assert "300" in reply
        assert stage.journal.entries["T00000000001"].action == "greylist"
        stage.clock.advance(301)
        assert (await client.whole("a@nowhere.example", "joe@example.com")).startswith("250")

    play(scenario)


def test_a_store_that_is_away_lets_greylisted_mail_flow(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(key: GreylistKey, **_: float) -> Greylisted:
        raise Unavailable("disk full")

    async def scenario() -> None:
        house = stage.house("  - {id: grey, when: spf.result != 'pass', then: greylist}\n")
        monkeypatch.setattr(stage.store, "greylist", away)
        client = Client(Pipeline(house), "198.51.100.1")
        assert (await client.whole("a@nowhere.example", "joe@example.com")).startswith("250")

    play(scenario)


def test_a_failed_check_defers_what_a_rule_cannot_decide(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: no, when: spf.result == 'fail', then: reject}\n")
        reply = await Client(Pipeline(house)).whole("a@broken.example", "joe@example.com")
        assert reply.startswith("451 4.4.3")
        assert "spf" in stage.journal.entries["T00000000001"].failed

    play(scenario)


@pytest.mark.parametrize(
    "octets", [b" From: x@y.example\r\n" + MAIL, b"no colon\r\n" + MAIL, b"just text\r\n"], ids=["fold", "line", "text"]
)
def test_a_header_that_means_two_things_is_refused(stage: Stage, octets: bytes) -> None:
    async def scenario() -> None:
        house = stage.house("")
        reply = await Client(Pipeline(house)).whole("a@good.example", "joe@example.com", octets)
        assert reply.startswith("554 5.6.0")
        assert relay_of(house).sent == []

    play(scenario)


def test_a_loop_is_refused_whatever_the_policy_is(stage: Stage) -> None:
    """RFC 5321 section 6.3; a limit and no policy, so that neither `accept` nor `soften` lets it in."""
    everybody = "  - {id: all, when: client.tls || !client.tls, then: accept, owner: us, expires: never}\n"

    async def scenario() -> None:
        house = stage.house(everybody, "soften: true\n")
        client, field = Client(Pipeline(house)), b"rEceived : by a.example\r\n"
        reply = await client.whole("a@good.example", "joe@example.com", field * 101 + MAIL)
        assert reply == "554 5.4.6 Too many hops, this message loops T00000000001"
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.rule, entry.fate_detail) == ("reject", "", "101 Received fields")
        assert (await client.whole("a@good.example", "joe@example.com", field * 100 + MAIL)).startswith("250")
        assert len(relay_of(house).sent) == 1

    play(scenario)


def test_quarantine_goes_to_its_mailbox_with_the_envelope_on_top(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: odd, when: message.subject == 'hi', then: quarantine}\n")
        reply = await Client(Pipeline(house)).whole("a@good.example", "joe@example.org")
        assert reply.startswith("250 2.0.0")
        ((_, fields, _, target),) = relay_of(house).sent
        assert target == "quarantine@example.com"
        assert b"X-Gatepost-Envelope-To: <joe@example.org>\r\n" in fields
        assert b"X-Gatepost-Quarantine: odd T00000000001\r\n" in fields
        assert stage.journal.entries["T00000000001"].action == "quarantine"

    play(scenario)


def test_soften_speaks_policy_refusals_as_temporary_and_nothing_else(stage: Stage) -> None:
    async def scenario() -> None:
        rule = "  - {id: no, when: spf.result == 'fail', then: reject, reply: 550 5.7.23 No}\n"
        client = Client(Pipeline(stage.house(rule, "soften: true\n")))
        assert (await client.whole("a@strict.example", "joe@example.com")).startswith("451 4.7.23 No")
        assert (await client.whole("a@good.example", "x@elsewhere.example")).startswith("550 5.7.1")

    play(scenario)


@pytest.mark.parametrize(
    ("fate", "action", "word"),
    [
        (Refused(Reply(550, "5.7.1", ("no",))), "reject", "refused"),
        (Refused(Reply(451, "4.4.1", ("no",))), "defer", "refused"),
        (Unknown(Reply(451, "4.4.2", ("silent",))), "defer", "unknown"),
    ],
)
def test_the_fate_is_the_answer_and_on_record(stage: Stage, fate: Fate, action: str, word: str) -> None:
    async def scenario() -> None:
        house = stage.house("")
        relay_of(house).fate = fate
        reply = await Client(Pipeline(house)).whole("a@good.example", "joe@example.com")
        assert reply == said(fate.reply.with_id("T00000000001"))
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.fate) == (action, word)

    play(scenario)


def test_before_the_dot_the_open_fate_is_noted_with_all_that_is_known(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: seen, when: from.domain == 'good.example', then: accept}\n")
        await Client(Pipeline(house)).whole("a@good.example", "joe@example.com")
        (noted,) = stage.journal.noted
        assert (noted.id, noted.fate, noted.action, noted.reply) == ("T00000000001", "unknown", "", "")
        assert noted.fate_detail.startswith("192.0.2.25:25 was sent the final dot, and the gateway ended")
        assert (noted.sender, noted.recipients, noted.size) == ("a@good.example", ("joe@example.com",), len(MAIL))
        assert (noted.backend, noted.judged.rule, noted.facts["from.domain"]) == ("main", "seen", "good.example")
        assert stage.journal.entries[noted.id].fate == "delivered"

    play(scenario)


def test_a_bug_of_ours_after_the_dot_leaves_the_fate_unknown(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("")
        relay_of(house).crash = RuntimeError("a bug")
        reply = await Client(Pipeline(house)).whole("a@good.example", "joe@example.com")
        assert reply.startswith("451 4.3.0")
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.fate, entry.fate_detail) == ("defer", "unknown", "internal error, see the log")

    play(scenario)


def test_an_open_transaction_keeps_the_house_it_began_with(stage: Stage) -> None:
    async def scenario() -> None:
        old = stage.house("  - {id: no, when: from.domain == 'good.example', then: reject}\n")
        pipeline = Pipeline(old)
        client = Client(pipeline)
        tx = await client.mail("a@good.example")
        pipeline.house = new = stage.house("")
        waiting = asyncio.ensure_future(pipeline.released(old))
        assert (await client.rcpt(tx, "joe@example.com")).startswith("250")
        assert not waiting.done()
        assert (await client.data(tx)).startswith("550")
        await waiting
        assert (await client.whole("a@good.example", "joe@example.com")).startswith("250")
        assert len(relay_of(new).sent) == 1

    play(scenario)


def test_speak_now_refuses_at_the_banner(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house(
            "  - {id: flood, when: client.ip == '198.51.100.1', then: reject, reply: 550 5.7.1 Go away, speak: now}\n"
        )
        pipeline = Pipeline(house)
        refusal = await pipeline.connected(Client(pipeline, "198.51.100.1").session)
        assert refusal is not None
        assert said(refusal).startswith("550 5.7.1 Go away")
        assert await pipeline.connected(Client(pipeline).session) is None

    play(scenario)


def test_refused_recipients_are_on_record_at_once(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("")
        client = Client(Pipeline(house))
        tx = await client.mail("a@good.example")
        reply = await client.rcpt(tx, "joe@elsewhere.example")
        entry = stage.journal.entries[reply.split()[-1]]
        assert entry.recipients == ("joe@elsewhere.example",)
        assert entry.verdicts[0].reply == reply
        client.pipeline.aborted(tx, "QUIT")

    play(scenario)


def test_a_limit_counts_mails_of_a_network(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        rules = "  - {id: slow, when: true, then: {limit: {key: client.network, rate: 2/1m}}, because: fair}\n"
        client = Client(Pipeline(stage.house(rules)))
        replies = [await client.whole("a@good.example", "joe@example.com") for _ in range(3)]
        assert [reply[:9] for reply in replies] == ["250 2.0.0", "250 2.0.0", "451 4.7.1"]
        assert "try again in 30 seconds" in replies[2]
        assert (await Client(client.pipeline, "198.51.100.9").whole("a@x.example", "joe@example.com"))[:3] == "250"
        entry = stage.journal.entries[replies[2].split()[-1]]
        assert (entry.action, entry.rule, entry.because) == ("limit", "slow", "fair")
        assert entry.asked[0].outcomes == {"slow limit client.network=192.0.2.0/24 2/60": "waiting:30"}
        stage.clock.advance(31)
        assert (await client.whole("a@good.example", "joe@example.com"))[:3] == "250"

        def away(*given: object, **named: object) -> Limited:
            raise Unavailable("locked")

        monkeypatch.setattr(stage.store, "limit", away)
        assert (await client.whole("a@good.example", "joe@example.com"))[:3] == "250"

    play(scenario)


@pytest.mark.parametrize("spelling", ["ceo@example.com", "CEO@example.com", '"ceo"@example.com', '"c\\eo"@EXAMPLE.com'])
def test_a_rule_on_a_recipient_holds_however_it_is_spelt(stage: Stage, spelling: str) -> None:
    async def scenario() -> None:
        house = stage.house(
            "  - {id: no, when: rcpt.address == 'ceo@example.com', then: reject}\n"
            "  - {id: nor, for: [ceo@example.com], when: true, then: reject}\n"
        )
        assert (await Client(Pipeline(house)).whole("a@good.example", spelling)).startswith("550 5.7.1")

    play(scenario)


@pytest.mark.parametrize("author", ["ceo@example.com", "CEO@Example.com", '"ceo"@example.com'])
def test_a_rule_on_the_author_holds_however_it_is_spelt(stage: Stage, author: str) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: no, when: from.address == 'ceo@example.com', then: reject}\n")
        octets = f"From: {author}\r\n\r\nbody\r\n".encode()
        assert (await Client(Pipeline(house)).whole("a@good.example", "joe@example.com", octets)).startswith("550")

    play(scenario)


def test_the_octets_of_an_address_are_relayed_as_they_came(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("")
        client = Client(Pipeline(house))
        tx = await client.mail("a@good.example")
        assert (await client.rcpt(tx, '"Joe"@example.com')).startswith("250")
        assert [str(r.mailbox) for r in tx.envelope.recipients] == ['"Joe"@example.com']
        client.pipeline.aborted(tx, "RSET")

    play(scenario)


def test_the_bare_postmaster_is_the_one_of_our_first_domain(stage: Stage) -> None:
    async def scenario() -> None:
        house = stage.house("  - {id: no, when: rcpt.address == 'postmaster@example.com', then: reject}\n")
        client = Client(Pipeline(house))
        tx = await client.mail("a@good.example")
        reply = said(await client.pipeline.rcpt(tx, Recipient(Mailbox("Postmaster", ""))))
        assert reply.startswith("550 5.7.1")
        client.pipeline.aborted(tx, "RSET")

    play(scenario)


@pytest.mark.parametrize("when", ["mail.domain == 'good.example'", "helo.name == 'mail.good.example'"])
def test_speak_now_refuses_at_mail_what_helo_and_sender_tell(stage: Stage, when: str) -> None:
    async def scenario() -> None:
        house = stage.house(f'  - {{id: now, when: "{when}", then: reject, reply: 550 5.7.1 No, speak: now}}\n')
        client = Client(Pipeline(house))
        reply, tx = await client.pipeline.mail(client.session, Envelope(Mailbox("a", "good.example")))
        assert said(reply) == "550 5.7.1 No T00000000001"
        assert tx is None
        assert stage.journal.entries["T00000000001"].rule == "now"

    play(scenario)


def test_a_refusal_by_the_edge_within_a_transaction_is_on_record(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(stage.house("")))
        tx = await client.mail("a@good.example")
        client.pipeline.refused(tx, Reply(501, "5.1.3", ("Bad address T00000000001",)))
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.reply) == ("reject", "501 5.1.3 Bad address T00000000001"), "at once"
        assert (await client.rcpt(tx, "joe@nowhere.example")).startswith("550 5.7.1")
        client.pipeline.refused(tx, Reply(503, "5.5.1", ("No recipient was accepted",)))
        client.pipeline.aborted(tx, "QUIT")
        entry = stage.journal.entries["T00000000001"]
        assert entry.reply.startswith("550 5.7.1 Relaying denied"), "the house's word is the last"
        assert [verdict.reply[:3] for verdict in entry.verdicts] == ["501", "550", "503"]

    play(scenario)


def test_a_mail_that_the_edge_declines_is_on_record_under_the_id_of_the_reply(stage: Stage) -> None:
    async def scenario() -> None:
        pipeline = Pipeline(stage.house(""))
        client = Client(pipeline)
        envelope = Envelope(Mailbox.parse(b"sue@good.example"), declared_size=2**63 - 1)
        reply = pipeline.declined(client.session, envelope, Reply(552, "5.3.4", ("The limit is 1000 octets",)))
        (entry,) = stage.journal.entries.values()
        assert said(reply) == f"552 5.3.4 The limit is 1000 octets {entry.id}"
        assert (entry.stage, entry.action, entry.sender, entry.fate) == ("mail", "reject", "sue@good.example", "none")
        assert (entry.size, entry.reply) == (2**63 - 1, said(reply))
        assert decode(encode(entry)).size == entry.size
        await asyncio.wait_for(pipeline.released(pipeline.house), 1)

    play(scenario)


def test_the_last_word_is_kept_whatever_came_before(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(stage.house("")))
        tx = await client.mail("a@good.example")
        await client.rcpt(tx, "joe@example.com")
        for _ in range(300):
            await client.rcpt(tx, "joe@nowhere.example")
            client.pipeline.refused(tx, Reply(501, "5.1.3", ("Bad address",)))
        assert (await client.data(tx)).startswith("250")
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.outcome, len(entry.verdicts)) == ("accept", "accepted", 200)

    play(scenario)


def test_a_refusal_by_the_edge_is_on_record_with_its_reply(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(stage.house("")))
        tx = await client.mail("a@good.example")
        await client.rcpt(tx, "joe@example.com")
        client.pipeline.aborted(tx, "content refused", Reply(554, "5.6.0", ("bare LF",)))
        entry = stage.journal.entries["T00000000001"]
        assert (entry.action, entry.reply) == ("reject", "554 5.6.0 bare LF T00000000001")
        assert (entry.fate, entry.fate_detail) == ("none", "content refused")

    play(scenario)
