"""The relay as the pipeline sees it: octets, quarantine, sharing of connections. The outages have their own folder."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.mail.address import Mailbox
from gateway.mail.envelope import Recipient
from gateway.relay.delivery import Delivered, Refused
from tests.outages.backend import GOOD
from tests.outages.rig import OCTETS, OURS, Rig, deliver, run, transaction


def test_route(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        relay = rig.relay(25)
        assert [relay.route(d) for d in ("example.com", "a.b.example.net", "example.net", "x.example.com")] == [
            "main",
            "main",
            None,
            None,
        ]

    run(tmp_path, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 3_000_000])
def test_octets_arrive_as_they_came(tmp_path: Path, size: int, loop: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port)
        body = (b".dots\r\n..\r\n.\r\nnone\r\n" * (size // 20 + 1))[:size].rstrip(b"\r\n") + b"\r\n"
        forged = b"Authentication-Results: mx.example.com; spf=pass\r\n"
        tx = transaction(octets=b"A: 1\r\n" + forged + b"B: 2\r\n\r\n" + body)
        fate = await relay.deliver("main", tx, OURS, frozenset({1}))
        assert isinstance(fate, Delivered)
        assert backend.mails == [OURS + b"A: 1\r\nB: 2\r\n\r\n" + body]
        assert f"SIZE={len(backend.mails[0])}" in backend.lines()[1]

    run(tmp_path, test, loop=loop)


def test_many_at_once_share_few_connections(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port, share={"main": 3})
        fates = await asyncio.gather(*(deliver(relay) for _ in range(30)))
        assert all(isinstance(fate, Delivered) for fate in fates)
        assert backend.connections == 3
        assert backend.mails == [OURS + OCTETS] * 30

    run(tmp_path, test)


def test_no_connection_becomes_free(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        backend = await rig.backend({"dot": (gate, GOOD)})
        relay = rig.relay(backend.port, share=1)
        first = asyncio.create_task(deliver(relay))
        await backend.event("dot").wait()
        relay._seconds = 0.1  # for those who come now
        fate = await deliver(relay)
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.4.5")
        gate.set()
        await first

    run(tmp_path, test)


@pytest.mark.parametrize("step", ["mail", "rcpt", "dot"])
def test_the_quarantine_never_refuses_for_good(tmp_path: Path, step: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({step: b"550 5.7.1 not here\r\n"})
        relay = rig.relay(backend.port)
        fate = await relay.deliver("main", transaction(), OURS, frozenset(), Mailbox("quarantine", "example.com"))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.7.1")
        assert "RCPT TO:<quarantine@example.com>" in backend.lines()
        assert "RCPT TO:<u@example.com>" not in backend.lines()

    run(tmp_path, test)


def test_nobody_writes_to_the_sender_of_a_quarantined_mail(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        tx = transaction()
        tx.envelope = replace(tx.envelope, parameters=(("RET", "FULL"), ("ENVID", "forged")))
        assert tx.envelope.reverse_path is not None
        fate = await rig.relay(backend.port).deliver("main", tx, OURS, frozenset(), Mailbox("spam", "example.com"))
        assert isinstance(fate, Delivered)
        (said,) = (line for line in backend.lines() if line.startswith("MAIL"))
        assert said.startswith("MAIL FROM:<> SIZE=")
        assert not {"RET=FULL", "ENVID=forged"} & set(said.split())
        await deliver(rig.relay(backend.port), tx)
        assert backend.lines()[-1] != said, "what is not quarantined keeps its sender"
        assert any(line.startswith(f"MAIL FROM:<{tx.envelope.reverse_path}>") for line in backend.lines())

    run(tmp_path, test)


@pytest.mark.parametrize("said", [b"550 5.1.1", b"450 4.2.2", b"250 2.0.0"])
def test_the_sender_does_not_learn_of_the_quarantine(tmp_path: Path, said: bytes) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"dot": said + b" <spam@example.com> in the quarantine\r\n"})
        relay = rig.relay(backend.port)
        fate = await relay.deliver("main", transaction(), b"", frozenset(), Mailbox("spam", "example.com"))
        assert "quarantine" not in str(fate.reply)
        assert str(fate.reply.code) == said[:3].decode().replace("550", "451")
        if isinstance(fate, Refused):  # the operator does
            assert "<spam@example.com> in the quarantine" in fate.why

    run(tmp_path, test)


def test_addresses_go_as_they_were_checked(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port)
        tx = transaction('"a b"@example.com', "x%y!z@example.com", sender="", octets=b"\r\n")
        tx.envelope.recipients.append(Recipient(Mailbox("postmaster", "")))
        assert isinstance(await deliver(relay, tx), Delivered)
        assert backend.lines()[1:6] == [
            f"MAIL FROM:<> SIZE={len(OURS) + 2}",
            'RCPT TO:<"a b"@example.com>',
            "RCPT TO:<x%y!z@example.com>",
            "RCPT TO:<postmaster>",
            "DATA",
        ]

    run(tmp_path, test)


def test_an_address_that_could_speak_is_our_bug(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port, share=1)
        tx = transaction()
        tx.envelope.recipients.append(Recipient(Mailbox("a>\r\nRCPT TO:<b", "example.com")))
        with pytest.raises(ValueError, match="control octet"):
            await deliver(relay, tx)
        assert not any("RCPT" in line for line in backend.lines())
        assert isinstance(await deliver(relay), Delivered)  # and no place in the pool is lost

    run(tmp_path, test)


@pytest.mark.parametrize("features", [("PIPELINING",), ("PIPELINING", "8BITMIME")])
def test_a_backend_that_cannot_take_it_is_not_asked(tmp_path: Path, features: tuple[str, ...]) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=features)
        relay = rig.relay(backend.port)
        fate = await deliver(relay, transaction("ü@example.com", smtputf8=True))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (553, "5.6.7")
        fate = await deliver(relay, transaction(octets=b"\r\n\xff\r\n"))
        assert isinstance(fate, Refused if features == ("PIPELINING",) else Delivered)
        assert (fate.reply.code, fate.reply.status) == (
            (554, "5.6.3") if features == ("PIPELINING",) else (250, "2.0.0")
        )
        assert backend.connections == 1

    run(tmp_path, test)


NEEDS = {
    "SMTPUTF8": (lambda: transaction("ü@example.com", smtputf8=True), (553, "5.6.7")),
    "8BITMIME": (lambda: transaction(octets=b"\r\n\xff\r\n"), (554, "5.6.3")),
    "SIZE": (lambda: transaction(octets=b"\r\n" + b"x\r\n" * 1000), (552, "5.3.4")),
}
ALL = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 5000")


def without(feature: str) -> tuple[str, ...]:
    less = tuple(one for one in ALL if not one.startswith(feature))
    return (*less, "SIZE 1000") if feature == "SIZE" else less


@pytest.mark.parametrize("feature", NEEDS)
def test_the_host_that_offers_what_a_mail_needs_gets_it(tmp_path: Path, feature: str) -> None:
    """And the other one is well: it gets the next mail, on the same connection."""

    async def test(rig: Rig) -> None:
        first, second = await rig.backend(features=without(feature)), await rig.backend(features=ALL)
        relay = rig.relay(first.port, second.port)
        for _ in range(2):
            assert isinstance(await deliver(relay, NEEDS[feature][0]()), Delivered)
            assert isinstance(await deliver(relay), Delivered)
        assert (len(first.mails), len(second.mails)) == (2, 2)
        assert (first.connections, second.connections) == (1, 1)

    run(tmp_path, test)


@pytest.mark.parametrize("feature", NEEDS)
@pytest.mark.parametrize("order", [0, 1])
def test_no_host_offers_what_a_mail_needs(tmp_path: Path, feature: str, order: int) -> None:
    """All were asked: a refusal for good. One that is down may offer it: 451."""

    async def test(rig: Rig) -> None:
        first, second = await rig.backend(features=without(feature)), await rig.backend(features=without(feature))
        ports = [first.port, second.port][:: 1 - 2 * order]
        relay = rig.relay(*ports)
        mail, said = NEEDS[feature]
        fate = await deliver(relay, mail())
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == said
        assert not any(line.startswith("MAIL") for line in first.lines() + second.lines())
        await second.stop()
        fate = await deliver(rig.relay(*ports), mail())
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.4.1")

    run(tmp_path, test)


def test_a_size_that_is_no_limit(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        for size in ("SIZE", "SIZE 0", "SIZE what", "SIZE \xb2"):
            backend = await rig.backend(features=("PIPELINING", size))
            assert isinstance(await deliver(rig.relay(backend.port), NEEDS["SIZE"][0]()), Delivered)

    run(tmp_path, test)


def test_close_says_quit(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port)
        assert isinstance(await deliver(relay), Delivered)
        await relay.close()
        await backend.closed[0].wait()
        assert backend.lines()[-1] == "QUIT"

    run(tmp_path, test)
