"""One connection over real sockets, on both event loops: replies, faults, TLS, half-closed and vanished clients."""

import asyncio
import socket
import ssl

import pytest

from gateway.mail.reply import Reply, SyntaxRefused
from gateway.mail.terms import Unavailable
from gateway.smtp.connection import HIGH_WATER, Connection
from gateway.smtp.events import Rules
from gateway.smtp.server import Deadlines, Settings
from tests.unit.smtp.conftest import Run
from tests.unit.smtp.scripted import Certificates, door

MESSAGE = b"From: <a@a.example>\r\n\r\n" + b"..stuffed\r\n" * 1000
DELIVERED = MESSAGE.replace(b"\r\n..", b"\r\n.")


def test_a_mail_arrives(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin(data=True)
            assert client.text == "354 End data with <CR><LF>.<CR><LF>"
            assert await client.say(MESSAGE + b".\r\n") == "250 2.0.0"
            assert client.text.endswith(" TX3")
            assert await client.say(b"QUIT\r\n") == "221 2.0.0"
            assert await client.reply() == ""
            await client.close()
            await place.house.gone.wait()
            assert place.house.messages == [DELIVERED]
            assert place.house.happened == [
                "connected",
                "greeted client.example ESMTP",
                "mail",
                "rcpt",
                "data",
                "disconnected",
            ]
            session = place.house.sessions[0]
            assert (session.client_ip, session.server_ip, session.server_port) == ("127.0.0.1", "127.0.0.1", place.port)
            assert (session.early_talker, session.tls, session.esmtp) == (False, "", True)

    run(talk())


def test_octet_by_octet_and_whole_are_the_same(run: Run) -> None:
    turns = [
        b"EHLO client.example\r\n",
        b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<bad\r\nNOOP\r\nDATA\r\n",
        b"A: b\r\n\r\n..\r\n.x\r\n.\r\nRSET\r\nVRFY x\r\nMAIL FROM:<>\r\nQUIT\r\n",
    ]

    async def replies(single: bool) -> tuple[list[str], list[bytes]]:
        async with door() as place:
            client = await place.connect()
            client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            said = []
            for turn in turns:
                for piece in [bytes([octet]) for octet in turn] if single else [turn]:
                    client.send(piece)
                    await asyncio.sleep(0)
                while (
                    not said or said[-1] not in {"250", "354", "221 2.0.0"} or (turn is turns[1] and said[-1] == "250")
                ):
                    said.append(await client.reply())
                if turn is turns[0]:
                    assert said == ["250"]
            await client.close()
            return said, place.house.messages

    async def talk() -> None:
        assert await replies(single=True) == await replies(single=False)

    run(talk())


@pytest.mark.parametrize("where", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("error", [RuntimeError("secret"), Unavailable("secret"), TimeoutError("secret")])
def test_our_fault_is_451_with_an_id_and_no_word_more(where: str, error: Exception) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.errors[where] = error
            client = await place.connect()
            client.send(b"EHLO a\r\n")
            assert await client.reply() == "250"
            said = [await client.say(b"MAIL FROM:<a@a.example>\r\n")]
            if where != "mail":
                said.append(await client.say(b"RCPT TO:<b@b.example>\r\n"))
            if where == "data":
                said += [await client.say(b"DATA\r\n"), await client.say(b"A: b\r\n.\r\n")]
            assert said[-1] == "451 4.3.0"
            assert "secret" not in client.text
            name = place.house.sessions[0].id if where == "mail" else "TX"
            assert client.text.rsplit(" ", 1)[1].startswith(name)
            assert await client.say(b"NOOP\r\n") == "250 2.0.0"
            await client.close()

    asyncio.run(talk())


def test_a_refusal_by_the_edge_in_a_transaction_reaches_the_house_with_the_id() -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin()
            assert await client.say(b"RCPT TO:<x\r\n") == "501 5.1.3"
            assert client.text.endswith(" TX3")
            assert await client.say(b"BDAT 3 LAST\r\nA\nB") == "554 5.6.0", "the end of the transaction is told as that"
            assert place.house.happened[-2:] == [
                "refused: 501",
                "aborted: content refused: A bare CR, a bare LF or a NUL in the message",
            ]
            await client.close()
            other = await place.connect()
            assert await other.say(b"RCPT TO:<x>\r\n") == "503 5.5.1"
            assert " TX" not in other.text
            await other.close()
            assert place.house.happened.count("refused: 503") == 0

    asyncio.run(talk())


@pytest.mark.parametrize("where", ["connected", "greeted"])
def test_our_fault_outside_a_mail_is_421(where: str) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.errors[where] = RuntimeError("secret")
            client = await place.connect(banner=where != "connected")
            client.send(b"EHLO a\r\n")
            assert await client.all_replies() == ["421 4.3.0"]
            assert client.text == f"421 4.3.0 Internal error, try again later {place.house.sessions[0].id}"
            await client.close()

    asyncio.run(talk())


def test_a_fault_at_the_very_end_loses_nothing() -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.errors["disconnected"] = RuntimeError("secret")
            client = await place.connect()
            await client.close()
            await place.house.gone.wait()

    asyncio.run(talk())


def test_the_handler_may_refuse_the_syntax() -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.errors["rcpt"] = SyntaxRefused(Reply(553, "5.1.3", ("No",)))
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            await client.say(b"MAIL FROM:<a@a.example>\r\n")
            assert await client.say(b"RCPT TO:<b@b.example>\r\n") == "553 5.1.3"
            await client.close()

    asyncio.run(talk())


def test_an_acceptance_without_transaction_is_our_bug() -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.without_transaction = True
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            assert await client.say(b"MAIL FROM:<a@a.example>\r\n") == "451 4.3.0"
            assert await client.say(b"RCPT TO:<b@b.example>\r\n") == "503 5.5.1"
            await client.close()

    asyncio.run(talk())


@pytest.mark.parametrize(("where", "words"), [("mail", 1), ("rcpt", 2)])
def test_a_421_of_the_handler_closes(where: str, words: int) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.replies[where] = Reply(421, "4.7.0", ("Enough",))
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nNOOP\r\n")
            replies = await client.all_replies()
            assert (len(replies), replies[-1]) == (words, "421 4.7.0")
            await client.close()

    asyncio.run(talk())


def test_a_refusal_before_the_banner(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.replies["connected"] = Reply(421, "4.7.0", ("Not now",))
            client = await place.connect(banner=False)
            assert await client.all_replies() == ["421 4.7.0"]
            await client.close()
            await place.house.gone.wait()

    run(talk())


def test_who_speaks_before_the_banner_is_known_for_it() -> None:
    async def talk() -> None:
        settings = Settings(Rules("mx.example.com"), greeting_delay=0.05)
        async with door(settings=settings) as place:
            early = await place.connect(banner=False)
            early.send(b"EHLO a\r\n")
            assert [await early.reply(), await early.reply()] == ["220", "250"]
            late = await place.connect()
            assert await late.say(b"EHLO a\r\n") == "250"
            assert [session.early_talker for session in place.house.sessions] == [True, False]
            await early.close()
            await late.close()

    asyncio.run(talk())


def test_a_delivery_under_way_survives_its_client(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates["data"] = asyncio.Event()
            client = await (await place.connect()).begin(data=True)
            client.send(MESSAGE + b".\r\n")
            assert await place.house.reached.get() == "data"
            client.vanish()
            connection = next(iter(place.edge.connections))
            await place.until(lambda: connection._gone)
            assert place.edge.census.total() == 1
            place.house.gates["data"].set()
            await place.house.gone.wait()
            assert place.house.messages == [DELIVERED]
            assert place.house.happened[-2:] == ["data", "disconnected"]

    run(talk())


@pytest.mark.parametrize("where", ["mail", "rcpt"])
def test_a_client_gone_while_we_ask_ends_its_transaction_afterwards(run: Run, where: str) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates[where] = asyncio.Event()
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n")
            assert await place.house.reached.get() == where
            client.vanish()
            connection = next(iter(place.edge.connections))
            await place.until(lambda: connection._gone)
            assert place.house.happened[-1] == where
            place.house.gates[where].set()
            await place.house.gone.wait()
            assert place.house.happened[-2:] == ["aborted: connection lost", "disconnected"]

    run(talk())


@pytest.mark.parametrize("octets", [b"", b"A: b\r\n"])
def test_a_client_gone_in_data_aborts(run: Run, octets: bytes) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin(data=True)
            client.send(octets)
            await client.close()
            await place.house.gone.wait()
            assert place.house.happened[-2:] == ["aborted: connection lost", "disconnected"]
            assert place.house.messages == []

    run(talk())


def test_half_closed_clients_get_their_replies(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates["rcpt"] = asyncio.Event()
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nNOOP\r\n")
            client.writer.write_eof()
            await place.house.reached.get()
            connection = next(iter(place.edge.connections))
            await place.until(lambda: connection._ended)
            place.house.gates["rcpt"].set()
            assert await client.all_replies() == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
            await client.close()
            await place.house.gone.wait()

    run(talk())


def test_a_flood_of_commands_waits_in_the_network(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates["rcpt"] = asyncio.Event()
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            rcpt = b"RCPT TO:<b@" + b"b" * 60 + b".example>" + b" " * 400 + b"\r\n"
            client.send(b"MAIL FROM:<a@a.example>\r\n" + rcpt * 900)
            await place.house.reached.get()
            connection = next(iter(place.edge.connections))
            await place.until(lambda: connection._full)
            assert connection._dialogue.waiting_octets < HIGH_WATER + 256 * 1024
            place.house.gates["rcpt"].set()
            assert [await client.reply() for _ in range(901)][-1] == "452 4.5.3"
            assert await client.say(b"RSET\r\n") == "250 2.0.0"
            await client.close()

    run(talk())


def test_a_client_that_does_not_read_is_not_served_and_then_cut() -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            connection = next(iter(place.edge.connections))
            connection.pause_writing()
            client.send(b"NOOP\r\n" * 3)
            await place.until(lambda: connection._dialogue.waiting_octets == 18)
            client.send(b"X" * 2 * HIGH_WATER)
            await place.until(lambda: connection._full)
            connection.resume_writing()
            assert [await client.reply() for _ in range(4)] == [*["250 2.0.0"] * 3, "500 5.5.2"]
            await client.close()
            slow = await place.connect()
            connection = next(iter(place.edge.connections))
            connection.pause_writing()
            await place.elapse(301)
            await place.until(lambda: connection._gone)
            await slow.close()

    asyncio.run(talk())


@pytest.mark.parametrize(
    "octets",
    [
        b"NOOP\nNOOP\r\n",
        b"x" * 5000,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-x\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"INVITE sip:alice@example.com SIP/2.0\r\nVia: x\r\n\r\n",
    ],
)
def test_what_is_no_smtp_gets_one_reply_and_the_end(run: Run, octets: bytes) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            client.send(octets)
            replies = await client.all_replies()
            assert [reply[:3] for reply in replies] == ["500"]
            client.send(b"NOOP\r\n" * 1000)  # read and dropped
            await client.close()
            await place.house.gone.wait()

    run(talk())


def test_a_bug_of_ours_ends_the_session_softly(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin()

            def broken(_: Connection) -> None:
                raise RuntimeError("secret")

            monkeypatch.setattr(Connection, "_pump", broken)
            assert await client.say(b"NOOP\r\n") == "421 4.3.0"
            assert "secret" not in client.text
            await client.close()
            await place.house.gone.wait()
            assert "aborted: internal error" in place.house.happened

    asyncio.run(talk())


# TLS


def test_starttls_begins_a_new_session(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await (await place.connect()).begin()
            await client.starttls(certificates.client())
            assert await client.say(b"RCPT TO:<b@b.example>\r\n") == "503 5.5.1"
            assert await client.say(b"DATA\r\n") == "503 5.5.1"
            assert await client.say(b"MAIL FROM:<a@a.example>\r\n") == "503 5.5.1"
            await client.begin(data=True)
            assert await client.say(MESSAGE + b".\r\n") == "250 2.0.0"
            assert await client.say(b"EHLO again\r\n") == "250"
            assert "STARTTLS" not in client.text
            assert await client.say(b"STARTTLS\r\n") == "503 5.5.1"
            assert await client.say(b"QUIT\r\n") == "221 2.0.0"
            await client.close()
            await place.house.gone.wait()
            assert place.house.messages == [DELIVERED]
            assert "aborted: STARTTLS" in place.house.happened
            assert "greeted client.example ESMTP TLSv1.3" in place.house.happened
            assert place.house.sessions[0].cipher.startswith("TLS_")

    run(talk())


def test_each_handshake_takes_the_certificate_of_the_moment(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        current: list[ssl.SSLContext | None] = [certificates.server]
        async with door(starttls="required", tls=lambda: current[0]) as place:
            seen = []
            for context in (certificates.server, certificates.issue("second")):
                current[0] = context
                client = await place.connect()
                assert await client.say(b"EHLO a\r\n") == "250"
                assert await client.say(b"MAIL FROM:<a@a.example>\r\n") == "530 5.7.0"
                await client.starttls(certificates.client())
                seen.append(client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
                await client.close()
            assert seen[0] != seen[1]
            current[0] = None
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            assert await client.say(b"STARTTLS\r\n") == "454 4.7.0"
            assert await client.say(b"NOOP\r\n") == "250 2.0.0"
            await client.close()

    run(talk())


@pytest.mark.parametrize(
    "octets", [b"NOOP\r\n" * 3, b"\x16\x03\x01\x00\x05hello", b"EHLO a\r\nMAIL FROM:<a@a.example>\r\n"]
)
def test_a_handshake_that_fails_closes_without_a_word(run: Run, certificates: Certificates, octets: bytes) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await (await place.connect()).begin()
            assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
            client.send(octets)
            async with asyncio.timeout(10):
                answer = await client.reader.read()
            assert b"250" not in answer  # a TLS alert at most
            await client.close()
            await place.house.gone.wait()
            assert place.house.happened[-2:] == ["aborted: STARTTLS", "disconnected"]

    run(talk())


@pytest.mark.parametrize("abrupt", [True, False])
def test_a_client_gone_in_the_handshake(run: Run, certificates: Certificates, abrupt: bool) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
            client.send(b"\x16\x03\x01\x02\x00\x01")
            if abrupt:
                client.writer.transport.abort()
            await client.close()
            await asyncio.wait_for(place.house.gone.wait(), 10)

    run(talk())


@pytest.mark.parametrize(
    "glued", [b"NOOP\r\n", b"EHLO x\r\nMAIL FROM:<a@attack.com>\r\nRCPT TO:<victim@victim.com>\r\n", b"\x16\x03\x01"]
)
def test_what_is_glued_behind_starttls_ends_the_connection(run: Run, certificates: Certificates, glued: bytes) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            client.send(b"STARTTLS\r\n" + glued)
            assert await client.all_replies() == ["503 5.5.0"]
            await client.close()

    run(talk())


def test_a_handshake_that_stalls_is_cut_off(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.smtp.handshake.HANDSHAKE_SECONDS", 0.05)

    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
            assert await client.reply() == ""
            await client.close()
            await place.house.gone.wait()

    run(talk())


def test_a_certificate_lost_between_220_and_handshake(certificates: Certificates) -> None:
    async def talk() -> None:
        contexts = iter([certificates.server, None])
        async with door(starttls="offered", tls=lambda: next(contexts)) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
            assert await client.reply() == ""
            await client.close()
            await place.house.gone.wait()

    asyncio.run(talk())


def test_a_refusal_in_a_transaction_ends_in_its_id() -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin()
            assert await client.say(b"RCPT TO:<@@>\r\n") == "501 5.1.3"
            assert client.text.endswith(" TX3")
            place.house.replies["rcpt"] = Reply(550, "5.1.1", ("Unknown TX3",))
            assert await client.say(b"RCPT TO:<c@b.example>\r\n") == "550 5.1.1"
            assert client.text == "550 5.1.1 Unknown TX3"
            assert await client.say(b"DATA\r\n") == "354"
            assert await client.say(b"a\nb\r\n.\r\n") == "554 5.6.0"
            assert client.text.endswith(" TX3")
            assert await client.reply() == ""
            await client.close()

    asyncio.run(talk())


def test_too_much_at_once_inside_tls_before_we_know_of_it(certificates: Certificates) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            connection = next(iter(place.edge.connections))
            connection._shaking = True
            connection._work = asyncio.ensure_future(asyncio.sleep(0))
            connection.data_received(b"NOOP\r\n" * HIGH_WATER)
            connection._work = None
            assert await client.reply() == ""
            await client.close()
            await place.house.gone.wait()

    asyncio.run(talk())


def test_implicit_tls(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        settings = Settings(Rules("mx.example.com"), greeting_delay=0.0, implicit_tls=True)
        async with door(settings=settings, starttls="offered", tls=lambda: certificates.server) as place:
            client = await (await place.connect(context=certificates.client())).begin(data=True)
            assert await client.say(b"A: b\r\n.\r\n") == "250 2.0.0"
            assert await client.say(b"EHLO a\r\n") == "250"
            assert "STARTTLS" not in client.text
            await client.close()
            assert place.house.sessions[0].tls == "TLSv1.3"
            plain = await place.connect(banner=False)
            plain.send(b"EHLO a\r\n")
            async with asyncio.timeout(10):
                assert b"220" not in await plain.reader.read()
            await plain.close()

    run(talk())


def test_a_bare_octet_inside_tls_closes(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await place.connect()
            await client.say(b"EHLO a\r\n")
            await client.starttls(certificates.client())
            client.send(b"NOOP\nNOOP\r\n")
            assert await client.all_replies() == ["500 5.5.2"]
            await client.close()

    run(talk())


def test_the_session_ends_in_its_time_though_the_work_is_ours(run: Run) -> None:
    """Pipelined commands behind a slow backend must not hold a connection for ever."""
    settings = Settings(Rules("mx.example.com"), deadlines=Deadlines(session=60.0), greeting_delay=0.0)

    async def talk() -> None:
        async with door(settings=settings) as place:
            client = await (await place.connect()).begin()
            place.house.gates["rcpt"] = asyncio.Event()
            client.send(b"RCPT TO:<c@b.example>\r\n" * 3)
            assert await place.house.reached.get() == "rcpt"
            await place.elapse(61.0)
            place.house.gates["rcpt"].set()
            assert await client.all_replies() == ["250 2.1.5", "421 4.4.2"]
            assert place.house.happened.count("rcpt") == 2
            await client.close()

    run(talk())


def test_what_is_answered_is_not_held_back_while_we_work_on_the_rest(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            assert await client.say(b"EHLO client.example\r\n") == "250"
            place.house.gates["rcpt"] = asyncio.Event()
            client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n")
            assert await place.house.reached.get() == "rcpt"
            await place.elapse(1.0)
            assert await client.reply() == "250 2.1.0"
            place.house.gates["rcpt"].set()
            assert await client.reply() == "250 2.1.5"
            await client.close()

    run(talk())


def test_the_house_hears_what_the_edge_answered_itself(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin(data=True)
            assert await client.say(b"A: b\r\n\r\nbare\nlf\r\n.\r\n") == "554 5.6.0"
            (refusal,) = place.house.refusals
            assert refusal is not None
            assert refusal.code == 554
            other = await (await place.connect()).begin()
            assert await other.say(b"RSET\r\n") == "250 2.0.0"
            assert place.house.refusals == [refusal, None]
            # A command out of turn refuses no mail.
            assert await other.say(b"MAIL FROM:<a@a.example>\r\n") == "250 2.1.0"
            assert await other.say(b"BDAT 0 LAST\r\n") == "503 5.5.1"
            assert place.house.refusals == [refusal, None, None]
            await client.close()
            await other.close()

    run(talk())
