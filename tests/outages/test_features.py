"""What a backend offers is used, and what goes wrong with it is no worse: CHUNKING, XCLIENT, XFORWARD."""

import asyncio
from pathlib import Path

import pytest

from gateway.mail.address import Mailbox
from gateway.relay.delivery import Answered, Delivered, Refused, Unknown
from tests.outages.backend import CLOSE, FEATURES, GOOD, HANG, RESET, Action, Backend
from tests.outages.rig import OCTETS, OURS, Rig, deliver, run, transaction

CHUNKING = (*FEATURES, "CHUNKING")
XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO"
XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
ON = "{positive: 24h, negative: 30m}"


def mails(backend: Backend) -> list[str]:
    return [line for line in backend.lines() if not line.startswith("EHLO")]


# CHUNKING


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("recipients", [1, 3])
def test_a_mail_in_a_chunk(tmp_path: Path, recipients: int, loop: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=CHUNKING)
        relay = rig.relay(backend.port)
        names = [f"u{n}@example.com" for n in range(recipients)]
        for _ in range(2):
            assert isinstance(await deliver(relay, transaction(*names)), Delivered)
        assert backend.mails == [OURS + OCTETS] * 2
        assert backend.connections == 1
        ends = [f"BDAT {len(OURS + OCTETS)} LAST", "RSET"]
        assert [line for line in mails(backend) if not line.startswith(("MAIL", "RCPT"))] == ends * 2

    run(tmp_path, test, loop=loop)


def test_without_pipelining_there_is_no_chunk(tmp_path: Path) -> None:
    """A step of its own would confirm each BDAT; DATA has one."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=("CHUNKING",))
        assert isinstance(await deliver(rig.relay(backend.port)), Delivered)
        assert backend.lines()[-1] == "DATA"

    run(tmp_path, test)


def test_a_large_mail_in_a_chunk_without_some_fields(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=CHUNKING)
        relay = rig.relay(backend.port)
        body = b"".join(b".line %d\r\n" % n for n in range(200_000))
        tx = transaction(octets=b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n" + body)
        assert isinstance(await relay.deliver("main", tx, OURS, frozenset({1})), Delivered)
        assert backend.mails == [OURS + b"A: 1\r\nC: 3\r\n\r\n" + body]

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("step", "said", "fate_is", "code", "status"),
    [
        ("mail", b"451 4.7.1 no\r\n", Refused, 451, "4.7.1"),
        ("rcpt", b"550 5.1.1 no\r\n", Refused, 550, "5.1.1"),
        ("dot", b"554 5.7.1 no\r\n", Refused, 554, "5.7.1"),
        ("dot", b"452 4.3.1 full\r\n", Refused, 452, "4.3.1"),
        # It offered CHUNKING: that it does not know BDAT is not the sender's fault.
        ("dot", b"500 5.5.1 what\r\n", Refused, 451, "4.3.0"),
        ("dot", b"502 5.5.1 what\r\n", Refused, 451, "4.3.0"),
        ("dot", b"503 5.5.1 what\r\n", Refused, 451, "4.3.0"),
        ("dot", b"354 go on\r\n", Unknown, 451, "4.3.0"),
        ("dot", b"421 4.3.2 bye\r\n", Refused, 451, "4.3.2"),
        ("dot", HANG, Unknown, 451, "4.4.2"),
        ("dot", CLOSE, Unknown, 451, "4.4.2"),
        ("dot", RESET, Unknown, 451, "4.4.2"),
    ],
)
@pytest.mark.parametrize("recipients", [1, 3])
def test_chunks_that_go_wrong(
    tmp_path: Path, step: str, said: Action, fate_is: type, code: int, status: str, recipients: int
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({step: said}, {}, features=CHUNKING)
        relay = rig.relay(backend.port, seconds=1.0 if said is HANG else 10.0)
        names = [f"u{n}@example.com" for n in range(recipients)]
        fate = await deliver(relay, transaction(*names))
        assert isinstance(fate, fate_is)
        wanted = (451, "4.1.1") if step == "rcpt" and recipients > 1 else (code, status)
        assert (fate.reply.code, fate.reply.status) == wanted
        if step != "dot":
            assert backend.pieces == []  # no octet of the mail went out
        whole = isinstance(said, bytes) and fate.reply.status not in ("4.3.0", "4.3.2")
        if whole:
            assert backend.lines()[-1] == "RSET"
        backend.scripts = ({},)
        # The mail that follows is its own.
        again = rig.relay(backend.port) if whole else relay
        before = len(backend.mails)
        assert before == 0 or fate_is is Unknown
        assert isinstance(await deliver(again), Delivered)
        assert backend.mails[before:] == [OURS + OCTETS]

    run(tmp_path, test)


@pytest.mark.parametrize("act", [CLOSE, RESET, b"552 5.3.4 too big\r\n", b"x"])
def test_in_the_middle_of_a_chunk(tmp_path: Path, act: Action) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"body": act}, features=CHUNKING)
        fate = await deliver(rig.relay(backend.port), transaction(octets=b"\r\n" + b"0123456789\r\n" * 2_000_000))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.3.0" if isinstance(act, bytes) else "4.4.2")
        assert backend.mails == []

    run(tmp_path, test)


# A reply too many: the backend's 250 to one command may be taken for that to the next

SURPLUS = b"250 2.0.0 once more\r\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("features", [CHUNKING, FEATURES, ("CHUNKING",)])
@pytest.mark.parametrize("recipients", [1, 2])
@pytest.mark.parametrize("step", ["mail", "rcpt"])
@pytest.mark.parametrize("end", [GOOD, CLOSE, HANG, b"451 4.3.0 no\r\n", b"554 5.7.1 spam\r\n", b"421 4.3.2 bye\r\n"])
def test_a_reply_too_many(
    tmp_path: Path, step: str, end: Action, recipients: int, features: tuple[str, ...], loop: str
) -> None:
    """It comes with the reply to that step, and the last reply before the mail comes when the mail is on its way:
    what is read for the verdict is none. 250 only where the backend has said it of the mail."""

    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        names = [f"u{n}@example.com" for n in range(recipients)]
        last = f"rcpt {names[-1]}"
        script: dict[str, Action] = {last: (gate, GOOD), "dot": end}
        if step == "mail":
            script["mail"] = (GOOD, SURPLUS)
        elif recipients == 1:
            script[last] = (SURPLUS, gate, GOOD)
        else:
            script[f"rcpt {names[0]}"] = (GOOD, SURPLUS)
        backend = await rig.backend(script, features=features)
        relay = rig.relay(backend.port, seconds=1.0)

        def on_its_way(host: str) -> None:
            gate.set()

        async def answered() -> None:  # a relay that waits for the verdict is none that took another reply for it
            await asyncio.sleep(0.3)
            gate.set()

        async with asyncio.TaskGroup() as group:
            watch = group.create_task(answered())
            fate = await relay.deliver("main", transaction(*names), OURS, frozenset(), before_dot=on_its_way)
            watch.cancel()
        if isinstance(fate, Delivered):
            assert features == CHUNKING
            assert backend.mails == [OURS + OCTETS]
        else:
            assert fate.reply.code == 451
            # Where nobody has doubts nothing went out.
            assert isinstance(fate, Unknown) or backend.mails == []
        if features != CHUNKING:
            assert isinstance(fate, Refused)
        elif end is not GOOD:
            assert isinstance(fate, Unknown)

    run(tmp_path, test, loop=loop)


@pytest.mark.parametrize("features", [CHUNKING, FEATURES])
@pytest.mark.parametrize("step", ["mail", "rcpt"])
def test_a_reply_too_many_at_once(tmp_path: Path, step: str, features: tuple[str, ...]) -> None:
    """All in one segment: nothing of the mail goes out."""

    async def test(rig: Rig) -> None:
        said = b"250 2.1.0 ok\r\n250 2.1.0 ok\r\n"
        backend = await rig.backend({"mail": b"", "rcpt": said + SURPLUS, "dot": HANG}, features=features)
        fate = await deliver(rig.relay(backend.port, seconds=2.0))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.3.0")
        assert backend.pieces == []

    run(tmp_path, test)


@pytest.mark.parametrize(
    "script",
    [
        {"dot": (GOOD, CLOSE)},
        {"dot": (GOOD, RESET)},
        {"rset": b"421 4.3.2 bye\r\n"},
        {"rset": b"500 5.5.1 what\r\n"},
        {"rset": CLOSE},
    ],
)
def test_a_backend_that_leaves_after_each_mail_leaves_one_in_doubt(tmp_path: Path, script: dict[str, Action]) -> None:
    """It says 250 and hangs up, and never answers the RSET behind BDAT. The next mail goes by DATA."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend(script, features=CHUNKING)
        relay = rig.relay(backend.port)
        assert isinstance(await deliver(relay), Unknown)
        for _ in range(3):
            assert isinstance(await deliver(relay), Delivered)
        assert len(backend.mails) == 4
        assert sum(line.startswith("BDAT") for line in backend.lines()) == 1

    run(tmp_path, test)


def test_a_backend_that_knows_no_bdat_gets_data(tmp_path: Path) -> None:
    """It offers CHUNKING and refuses BDAT: one 451, and not one for every mail."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend({"dot": b"503 5.5.1 what\r\n"}, {}, features=CHUNKING)
        relay = rig.relay(backend.port)
        assert isinstance(await deliver(relay), Refused)
        assert isinstance(await deliver(relay), Delivered)
        assert backend.lines()[-1] == "DATA"

    run(tmp_path, test)


# XCLIENT, XFORWARD


@pytest.mark.parametrize(
    ("how", "offered", "first"),
    [
        ("off", (XCLIENT, XFORWARD), "MAIL FROM:<a@example.org> SIZE"),
        ("xclient", (XFORWARD,), "MAIL FROM:<a@example.org> SIZE"),  # configured and not offered
        (
            "xclient",
            (XCLIENT,),
            "XCLIENT NAME=client.example.org ADDR=192.0.2.1 PORT=4711 PROTO=SMTP HELO=[UNAVAILABLE]",
        ),
        ("xclient", ("XCLIENT ADDR",), "XCLIENT ADDR=192.0.2.1"),
        ("xforward", (XCLIENT, "XFORWARD ADDR IDENT SOURCE"), "XFORWARD ADDR=192.0.2.1 IDENT=T1 SOURCE=REMOTE"),
    ],
)
def test_who_the_client_was(tmp_path: Path, how: str, offered: tuple[str, ...], first: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=(*FEATURES, *offered))
        relay = rig.relay(backend.port, more=f"tell_client: {how}")
        for _ in range(2):
            fate = await relay.deliver("main", transaction(), OURS, frozenset(), client_name="client.example.org")
            assert isinstance(fate, Delivered)
        assert mails(backend)[0].startswith(first)
        assert backend.connections == 1
        assert sum(line.startswith(("XCLIENT", "XFORWARD")) for line in backend.lines()) == 2 * first.startswith("X")
        assert b"XCLIENT" not in backend.clear
        assert b"XFORWARD" not in backend.clear

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("how", "said", "fate_is", "status"),
    [
        ("xclient", b"550 5.7.0 not authorized\r\n", Refused, "4.3.0"),
        ("xclient", b"421 4.3.2 bye\r\n", Refused, "4.4.1"),
        ("xclient", b"250 2.0.0 fine\r\n", Refused, "4.3.0"),
        ("xclient", CLOSE, Refused, "4.4.2"),
        ("xforward", b"550 5.7.0 not authorized\r\n", Delivered, ""),
        ("xforward", b"421 4.3.2 bye\r\n", Refused, "4.4.1"),
    ],
)
def test_a_backend_that_does_not_trust_us(tmp_path: Path, how: str, said: Action, fate_is: type, status: str) -> None:
    """XCLIENT refused: without it every stranger would come with our own rights."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend({how: said}, features=(*FEATURES, XCLIENT, XFORWARD))
        fate = await deliver(rig.relay(backend.port, more=f"tell_client: {how}"))
        assert isinstance(fate, fate_is)
        if fate_is is Refused:
            assert (fate.reply.code, fate.reply.status) == (451, status)
            assert not any(line.startswith("MAIL") for line in backend.lines())

    run(tmp_path, test)


def test_a_backend_that_takes_one_xclient_gets_one_mail_a_connection(tmp_path: Path) -> None:
    """Who the second client was could not be told: its mail would be the first one's."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=(*FEATURES, XCLIENT))
        backend.trusts_us_alone = True
        relay = rig.relay(backend.port, more="tell_client: xclient")
        for _ in range(2):
            assert isinstance(await deliver(relay), Delivered)
        assert backend.connections == 2
        assert sum(line.startswith("XCLIENT") for line in backend.lines()) == 2

    run(tmp_path, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_is_offered_to_one_client_is_not_to_another(tmp_path: Path, loop: str) -> None:
    """Postfix can hide features from some clients: what a mail needs is looked for behind its own XCLIENT, not behind
    that of the mail before."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=(*FEATURES, XCLIENT), withheld={"old.example.org": "8BITMIME"})
        relay = rig.relay(backend.port, more="tell_client: xclient")
        octets = b"Subject: x\r\n\r\n\xff\r\n"
        for name, fits in (("old.example.org", False), ("new.example.org", True), ("old.example.org", False)):
            fate = await relay.deliver("main", transaction(octets=octets), OURS, frozenset(), client_name=name)
            assert isinstance(fate, Delivered if fits else Refused), name
            assert fits or (fate.reply.code, fate.reply.status) == (554, "5.6.3")
        assert backend.mails == [OURS + octets]
        assert backend.connections == 1

    run(tmp_path, test, loop=loop)


def test_what_one_client_is_not_offered_refuses_no_other_at_rcpt(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=(*FEATURES, XCLIENT), withheld={"old.example.org": "SMTPUTF8"})
        relay = rig.relay(backend.port, more="tell_client: xclient")
        await relay.deliver("main", transaction(), OURS, frozenset(), client_name="old.example.org")
        tx = transaction(sender="ü@example.org", smtputf8=True)
        assert (await relay.known("main", tx, Mailbox("u", "example.com"))).reply is None
        fate = await relay.deliver("main", tx, OURS, frozenset(), client_name="new.example.org")
        assert isinstance(fate, Delivered)

    run(tmp_path, test)


def test_what_one_client_is_not_offered_refuses_no_recipient_of_another(tmp_path: Path) -> None:
    """The question about a recipient is our own, and so is what is offered for it."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=(*FEATURES, XCLIENT), withheld={"old.example.org": "SMTPUTF8"})
        relay = rig.relay(backend.port, verify=ON, more="tell_client: xclient")
        await relay.deliver("main", transaction(), OURS, frozenset(), client_name="old.example.org")
        tx = transaction(smtputf8=True)
        assert (await relay.known("main", tx, Mailbox("ü", "example.com"))).reply is None
        assert backend.connections == 1

    run(tmp_path, test)


def test_a_recipient_in_utf_8_is_asked_for_where_it_is_offered(tmp_path: Path) -> None:
    """A host that does not offer SMTPUTF8 is left for the next, and its connection is as good as before."""

    async def test(rig: Rig) -> None:
        plain = await rig.backend(features=("PIPELINING", "8BITMIME"))
        relay = rig.relay(plain.port, verify=ON)
        for _ in range(2):
            known = await relay.known("main", transaction(), Mailbox("ü", "example.com"))
            assert known.answer is Answered.NO
            assert known.reply is not None
            assert known.reply.status == "5.6.7"
        assert mails(plain) == []
        assert plain.connections == 1

    run(tmp_path, test)


def test_a_question_is_our_own(tmp_path: Path) -> None:
    """Recipients are asked for in our name: the answer is kept for every client."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=(*FEATURES, XCLIENT))
        relay = rig.relay(backend.port, verify=ON, more="tell_client: xclient")
        await deliver(relay)
        await relay.known("main", transaction(), Mailbox("v", "example.com"))
        assert [line for line in backend.lines() if line.startswith("XCLIENT")][1].startswith(
            "XCLIENT NAME=mx.example.com ADDR=127.0.0.1 PORT="
        )
        assert backend.connections == 1

    run(tmp_path, test)


def test_dsn_parameters_are_passed_on(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        from gateway.mail.envelope import Recipient

        backend = await rig.backend(features=("DSN", "SIZE 1000"))
        tx = transaction(parameters=(("RET", "HDRS"), ("ENVID", "QQ+2B1")))
        tx.envelope.recipients[0] = Recipient(
            Mailbox("u", "example.com"), (("NOTIFY", "NEVER"), ("ORCPT", "rfc822;U+2B@example.com"))
        )
        await deliver(rig.relay(backend.port), tx)
        size = len(OURS + OCTETS)
        assert mails(backend)[:2] == [
            f"MAIL FROM:<a@example.org> SIZE={size} RET=HDRS ENVID=QQ+2B1",
            "RCPT TO:<u@example.com> NOTIFY=NEVER ORCPT=rfc822;U+2B@example.com",
        ]

    run(tmp_path, test)
