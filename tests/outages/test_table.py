"""The table of the relay through the pipeline: every fault at every step of the dialogue.

For each: what the client is told, what the journal says became of the mail, what the pool holds afterwards, what lies
in the backend's mailbox, and that the next mail goes its way as if nothing had been. Two recipients, so that each RCPT
is a step of its own; deadlines of a fraction of a second, so that silence costs little.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.build import build, plan
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session
from gateway.mail.message import Message
from gateway.mail.reply import Reply
from gateway.pipeline import House, Pipeline
from gateway.relay import pool
from gateway.state.sqlite import SqliteStore
from tests.outages.backend import CLOSE, DRIP, FEATURES, GOOD, HANG, READ, RESET, STALL, Action, Backend
from tests.outages.rig import NAME, Rig, run
from tests.unit.test_pipeline import Memory

U0, U1 = "u0@example.com", "u1@example.com"
#: The steps in their order. "reply" is the middle of the reply to the dot, "quit" comes when the pool is closed.
OPENING = ("connect", "banner", "ehlo", "starttls", "handshake", "ehlo-tls")
COMMANDS = ("mail", f"rcpt {U0}", f"rcpt {U1}", "data", "dot")
STEPS = (*OPENING, *COMMANDS, "body", "reply", "rset", "quit")
FAULTS = ("refuse", "hang", "close", "reset", "garbage", "4xx", "5xx", "wrong", "drip")
SILENT = {"hang", "drip"}
GONE = {"close", "reset"}
BODY = b"Subject: one of many\r\n\r\n" + b"0123456789\r\n" * 40
LARGE = b"Subject: one of many\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 200_000


@dataclass(frozen=True)
class Expected:
    """What must come of it. `idle` is how many connections the pool may keep; `mails` how many copies there may be."""

    code: int
    status: str
    fate: str
    idle: int = 0
    mails: tuple[int, ...] = (0,)


DELIVERED = Expected(250, "2.0.0", "delivered", idle=1, mails=(1,))


def expected(step: str, fault: str) -> Expected:
    """The table of DESIGN section 7, as a function of step and fault."""
    if step in OPENING:
        return Expected(451, _opening(step, fault), "refused")
    if step == "body":  # before the dot: the mail is not there, and no reply is due
        return Expected(451, "4.4.2" if fault in SILENT - {"drip"} | GONE else "4.3.0", "refused")
    if step == "reply" or (step == "dot" and fault not in {"4xx", "5xx"}):
        return Expected(451, "4.3.0" if fault in {"garbage", "wrong"} else "4.4.2", "unknown", mails=(0, 1))
    if step == "rset":  # the refusal before it is what counts; the connection may be lost
        return Expected(450, "4.2.1", "refused")
    if step == "quit":
        return DELIVERED
    if fault == "4xx":
        return Expected(450, "4.2.0", "refused", idle=1)
    if fault == "5xx":  # one of several recipients: the others would lose their mail by it
        return Expected(451 if step.startswith("rcpt") else 550, "4.7.1" if step.startswith("rcpt") else "5.7.1",
                        "refused", idle=1)  # fmt: skip
    return Expected(451, "4.4.2" if fault in SILENT | GONE else "4.3.0", "refused")


def _opening(step: str, fault: str) -> str:
    if step == "handshake":
        return "4.4.1" if fault == "hang" else "4.7.5"
    if step == "starttls" and fault in {"4xx", "5xx"}:
        return "4.7.5"
    if step == "ehlo" and fault == "5xx":
        return "4.7.5"
    return "4.3.0" if fault in {"garbage", "wrong"} else "4.4.1"


def script(step: str, fault: str) -> dict[str, Action]:
    """What the backend does."""
    wrong = {"banner": b"250 hm\r\n", "starttls": b"250 hm\r\n", "data": b"250 hm\r\n"}.get(step, b"354 hm\r\n")
    acts: dict[str, Action] = {
        "hang": HANG, "close": CLOSE, "reset": RESET, "drip": DRIP, "garbage": b"\x00\xff no reply at all\r\n",
        "4xx": b"450 4.2.0 later\r\n", "5xx": b"550 5.7.1 never\r\n", "wrong": wrong,
    }  # fmt: skip
    act = acts[fault]
    if step == "handshake":
        return {step: (READ, act)} if not isinstance(act, tuple) else {}
    if step == "reply":
        return {"dot": (b"250-2.0", b"\xff\x00\n" if fault == "garbage" else act)}  # type: ignore[dict-item]
    if step == "body":
        return {"data": (GOOD, STALL)} if fault == "hang" else {step: act}
    if step == "rset":
        return {"mail": b"450 4.2.1 later\r\n", step: act}
    return {step: act}


def cases() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Step, fault, and what the backend offers: with PIPELINING, with CHUNKING, with neither."""
    for step in STEPS:
        for fault in FAULTS:
            if fault == "refuse" and step != "connect":
                continue  # a port refuses; what is connected does not
            if step == "connect" and fault not in {"refuse", "hang", "close", "reset"}:
                continue  # its words are the banner
            if step == "reply" and fault in {"4xx", "5xx", "wrong"}:
                continue  # in the middle of a reply there is no code any more
            yield step, fault, FEATURES
            if step != "data" and (step, fault) != ("body", "hang"):  # there is no DATA with CHUNKING
                yield step, fault, (*FEATURES, "CHUNKING")
            if fault not in SILENT:  # silence is the same without PIPELINING, and takes its time
                yield step, fault, ("8BITMIME",)


@dataclass
class Front:
    """A pipeline with the real relay, before one scripted backend."""

    rig: Rig
    backend: Backend
    journal: Memory
    house: House

    async def mail(self, number: int, octets: bytes = BODY) -> tuple[Reply, str]:
        """One mail by a client; the reply to it and its fate in the journal."""
        session = Session(f"S{number}", "192.0.2.7", 1, "127.0.0.1", 25, 0.0, helo="client.example.org", esmtp=True)
        pipeline = Pipeline(self.house)
        _, tx = await pipeline.mail(session, Envelope(Mailbox.parse(b"a@example.org")))
        assert tx is not None
        for name in (U0, U1):
            assert (await pipeline.rcpt(tx, Recipient(Mailbox.parse(name.encode())))).code == 250
        reply = await pipeline.data(tx, Message.from_octets(octets))
        pipeline.disconnected(session)
        entry = self.journal.entries[tx.id]
        assert reply.text[-1].endswith(tx.id)
        assert entry.reply.startswith(str(reply.code))
        return reply, entry.fate


def front(rig: Rig, backend: Backend) -> Front:
    folder = rig.directory
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "a.yaml").write_text("rules: []\n")
    (folder / "zone.json").write_text("{}")
    (folder / "gatepost.yaml").write_text(
        f"""hostname: mx.example.com
listeners: [{{bind: "127.0.0.1:0", starttls: "off"}}]
domains: {{example.com: {{backend: main}}}}
backends:
  main: {{hosts: "127.0.0.1:{backend.port}", tls: {{ca: ca.pem, name: {NAME}}}, verify_recipients: off, connections: 1}}
policies: policies
state: sqlite:state.db
dns: {{zone: zone.json}}
deadlines: {{backend: 500ms}}
"""
    )
    made = plan(folder / "gatepost.yaml", DiskFiles(), rig.clock, today=True)
    journal, store = Memory(), SqliteStore(folder / "state.db", rig.clock)
    house = build(
        made,
        clock=rig.clock,
        store=store,
        resolver=Resolver(Zone({}), rig.clock),
        journal=journal,  # type: ignore[arg-type]
    )
    return Front(rig, backend, journal, house)


@pytest.mark.parametrize(("step", "fault", "features"), list(cases()))
def test_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: str, features: tuple[str, ...]
) -> None:
    monkeypatch.setattr(pool, "_FAREWELL_SECONDS", 0.05)
    monkeypatch.setattr("gateway.relay.turn._RESET_SECONDS", 0.05)

    async def test(rig: Rig) -> None:
        backend = await rig.backend({} if fault == "refuse" else script(step, fault), features=features)
        gateway = front(rig, backend)
        if fault == "refuse":
            await backend.stop()
        wanted = expected(step, fault)
        reply, fate = await gateway.mail(1, LARGE if step == "body" else BODY)
        assert (reply.code, reply.status, fate) == (wanted.code, wanted.status, wanted.fate)
        if fate == "unknown":  # a backend that hangs takes its mail when the connection ends
            await backend.closed[0].wait()
        assert len(backend.mails) in wanted.mails
        (kept,) = (hosts._pools.values() for hosts in gateway.house.relay._hosts.values())
        for one in kept:
            assert (one.busy, one._promised, len(one._waiters)) == (0, 0, 0)
            assert one.idle <= wanted.idle
            if wanted.idle and step != "quit":
                assert one.idle == 1, "a refusal costs no connection"
        said = bytes(backend.clear)
        assert set(said.split(b"\r\n")) <= {b"", b"EHLO mx.example.com", b"STARTTLS"} or step == "handshake"
        assert b"one of many" not in said
        # What has failed once is whole again: the next mail arrives, once.
        before = len(backend.mails)
        if step != "quit":
            backend.scripts = ({},)
            if fault == "refuse":
                await backend.start()
            for one in kept:
                one._retire({connection for connection, _ in one._idle})
            reply, fate = await gateway.mail(2)
            assert (reply.code, fate) == (250, "delivered")
            assert len(backend.mails) == before + 1
            assert backend.mails[-1].endswith(BODY)
        await gateway.house.relay.drain()
        await gateway.house.relay.close()
        await backend.stop()
        gateway.house.store.close()

    run(tmp_path, test)


def test_the_table_is_whole() -> None:
    """Every step that the issue names has cases, and every fault."""
    steps, faults, _ = zip(*cases(), strict=True)
    assert set(steps) == set(STEPS)
    assert set(faults) == set(FAULTS)
