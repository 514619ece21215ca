"""The door: limits at the banner, deadlines by a clock of our own, draining."""

import asyncio
import errno
import socket
from dataclasses import replace

import pytest

from gateway.mail.reply import Reply
from gateway.smtp.census import Census
from gateway.smtp.events import Rules, StartTlsMode
from gateway.smtp.patience import LINGER_SECONDS
from gateway.smtp.server import Deadlines, Settings
from gateway.smtp.strangers import Strangers
from tests.unit.smtp.conftest import Run
from tests.unit.smtp.scripted import Certificates, Client, Door, door

RULES = Rules("mx.example.com")
PATIENCE = Settings(
    RULES, deadlines=Deadlines(greeting=10, command=20, data=30, session=100, rate=100), greeting_delay=0.0
)


def test_limits_at_the_banner(run: Run) -> None:
    async def talk() -> None:
        for settings, reply in (
            (Settings(RULES, connections=2, greeting_delay=0.0), "421 4.3.2"),
            (Settings(RULES, connections_per_network=2, greeting_delay=0.0), "421 4.7.0"),
        ):
            async with door(settings=settings) as place:
                inside = [await place.connect(), await place.connect()]
                outside = await place.connect(banner=False)
                assert await outside.all_replies() == [reply]
                await outside.close()
                assert len(place.house.sessions) == 2
                await inside[0].close()
                await place.until(lambda: place.edge.census.total() == 1)
                inside[0] = await place.connect()
                for client in inside:
                    await client.close()

    run(talk())


def test_in_a_full_house_the_longest_silent_stranger_gives_way(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=Settings(RULES, connections=3, greeting_delay=0.0)) as place:
            first = await place.connect()
            place.clock.advance(1)
            second = await place.connect()
            place.clock.advance(1)
            third = await place.connect()
            assert await first.say(b"EHLO a\r\n") == "250", "now the second is silent longest"
            place.clock.advance(0.9)
            newcomer = await place.connect()
            assert await newcomer.say(b"EHLO a\r\n") == "250"
            assert await second.all_replies() == ["421 4.3.2"]
            assert second.text == "421 4.3.2 Others are waiting, try again later"
            outside = await place.connect(banner=False)
            assert await outside.all_replies() == ["421 4.3.2"], "nobody else is silent for a second"
            assert await first.say(b"NOOP\r\n") == await third.say(b"NOOP\r\n") == "250 2.0.0"
            await place.until(lambda: place.edge.census.total() == 3)
            for client in (first, second, third, newcomer, outside):
                await client.close()

    run(talk())


def test_who_sends_a_mail_or_waits_for_us_or_is_known_stays_in_a_full_house(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=Settings(RULES, connections=3, greeting_delay=0.0)) as place:
            content = await (await place.connect()).begin(data=True)
            chunks = await (await place.connect()).begin()
            assert await chunks.say(b"BDAT 3\r\nabc") == "250 2.0.0"
            place.house.gates["rcpt"] = asyncio.Event()
            waiting = await place.connect()
            assert await waiting.say(b"EHLO a\r\n") == "250"
            waiting.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n")
            assert await waiting.reply() == "250 2.1.0"
            assert await place.house.reached.get() == "rcpt"
            place.clock.advance(60)
            outside = await place.connect(banner=False)
            assert await outside.all_replies() == ["421 4.3.2"]
            place.house.gates["rcpt"].set()
            assert await waiting.reply() == "250 2.1.5"
            await waiting.close()
            await place.until(lambda: place.edge.census.total() == 2)
            place.house.friend = True
            friend = await place.connect()
            place.clock.advance(60)
            again = await place.connect(banner=False)
            assert await again.all_replies() == ["421 4.3.2"]
            content.send(b"A: b\r\n.\r\n")
            assert await content.reply() == "250 2.0.0"
            assert await chunks.say(b"BDAT 4 LAST\r\nA\r\n\r") == "554 5.6.0"
            assert await friend.say(b"NOOP\r\n") == "250 2.0.0"
            for client in (content, chunks, friend, outside, again):
                await client.close()

    run(talk())


@pytest.mark.parametrize("words", [b"BDAT 9999999\r\n", b"MAIL FROM:<>\r\nBDAT 9999999\r\nA: b"])
def test_a_chunk_that_nobody_asked_for_keeps_no_place(words: bytes) -> None:
    async def talk() -> None:
        async with door(settings=Settings(RULES, connections=1, greeting_delay=0.0)) as place:
            inside = await place.connect()
            assert await inside.say(b"EHLO a\r\n") == "250"
            inside.send(words)
            connection = next(iter(place.edge.connections))
            await place.until(lambda: connection._dialogue.reading is not None)
            place.clock.advance(1)
            newcomer = await place.connect()
            assert (await inside.all_replies())[-1] == "421 4.3.2"
            for client in (inside, newcomer):
                await client.close()

    asyncio.run(talk())


def test_in_a_full_house_strangers_at_another_listener_give_way(run: Run) -> None:
    async def talk() -> None:
        census, strangers = Census.alone(), Strangers()
        settings = Settings(RULES, connections=2, greeting_delay=0.0)
        async with (
            door(settings=settings, census=census, strangers=strangers) as crowded,
            door(settings=settings, census=census, strangers=strangers) as empty,
        ):
            holders = [await crowded.connect(), await crowded.connect()]
            crowded.clock.advance(2)
            empty.clock.advance(2)
            newcomer = await empty.connect()
            assert await holders[0].all_replies() == ["421 4.3.2"]
            for client in (*holders, newcomer):
                await client.close()
            await empty.until(lambda: census.total() == 0)

    run(talk())


@pytest.mark.parametrize("implicit", [True, False])
def test_in_a_full_house_a_stalled_handshake_gives_way(implicit: bool, certificates: Certificates, run: Run) -> None:
    async def talk() -> None:
        settings = Settings(RULES, connections=2, greeting_delay=0.0, implicit_tls=implicit)
        starttls: StartTlsMode = "off" if implicit else "offered"
        async with door(settings=settings, starttls=starttls, tls=lambda: certificates.server) as place:
            stalled = []
            for _ in range(2):
                client = await place.connect(banner=not implicit)
                if not implicit:
                    assert await client.say(b"EHLO a\r\n") == "250"
                    assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
                client.send(b"\x16\x03\x01")
                stalled.append(client)
            await place.until(lambda: len(place.edge.strangers._shaking) == 2)
            place.clock.advance(4)
            early = await place.connect(banner=False)
            assert await early.all_replies() == ([] if implicit else ["421 4.3.2"]), "we may be the slow ones"
            place.clock.advance(1)
            newcomer = await place.connect(context=certificates.client() if implicit else None)
            assert await stalled[0].all_replies() == []
            await place.until(lambda: place.edge.census.total() == 2)
            assert await newcomer.say(b"EHLO a\r\n") == "250"
            for client in (*stalled, early, newcomer):
                await client.close()
            await place.until(lambda: place.edge.census.total() == 0)
            assert not place.edge.strangers._shaking

    run(talk())


def test_a_network_over_its_own_limit_displaces_nobody() -> None:
    async def talk() -> None:
        settings = Settings(RULES, connections=1, connections_per_network=1, greeting_delay=0.0)
        async with door(settings=settings) as place:
            inside = await place.connect()
            place.clock.advance(60)
            outside = await place.connect(banner=False)
            assert await outside.all_replies() == ["421 4.7.0"]
            assert await inside.say(b"NOOP\r\n") == "250 2.0.0"
            for client in (inside, outside):
                await client.close()

    asyncio.run(talk())


def test_a_silent_client_inside_tls_gives_way_with_a_word(certificates: Certificates, run: Run) -> None:
    async def talk() -> None:
        settings = Settings(RULES, connections=1, greeting_delay=0.0)
        async with door(settings=settings, starttls="offered", tls=lambda: certificates.server) as place:
            inside = await place.connect()
            assert await inside.say(b"EHLO a\r\n") == "250"
            await inside.starttls(certificates.client())
            assert await inside.say(b"EHLO a\r\n") == "250"
            place.clock.advance(60)
            newcomer = await place.connect()
            assert await inside.all_replies() == ["421 4.3.2"]
            await place.until(lambda: len(place.edge.connections) == 1)
            assert not (place.edge.strangers._silent.keys() - place.edge.connections)
            for client in (inside, newcomer):
                await client.close()

    run(talk())


def test_other_workers_count() -> None:
    async def talk() -> None:
        census = Census.alone()
        census.take("127.0.0.200")
        async with door(settings=Settings(RULES, connections_per_network=1), census=census) as place:
            client = await place.connect(banner=False)
            assert await client.reply() == "421 4.7.0"
            await client.close()
            census.release("127.0.0.200")

    asyncio.run(talk())


@pytest.mark.parametrize("where", ["banner", "greeted", "transaction", "data", "chunk", "our work"])
def test_a_client_that_lost_its_power_is_cut_by_the_deadlines(where: str, run: Run) -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            client = await place.connect()
            if where == "greeted":
                assert await client.say(b"EHLO a\r\n") == "250"
            elif where != "banner":
                await client.begin(data=where in {"data", "our work"})
            if where == "chunk":
                assert await client.say(b"BDAT 3\r\nA: ") == "250 2.0.0"
            if where == "our work":
                place.house.gates["data"] = asyncio.Event()
                client.send(b"A: b\r\n.\r\n")
                assert await place.house.reached.get() == "data"
            client.lose_power()
            if where == "our work":
                await place.elapse(1000)
                assert place.edge.connections, "our time is not the client's"
                place.house.gates["data"].set()
                await place.until(lambda: place.house.messages != [])
            else:
                assert place.edge.connections
            await place.elapse(31)
            await place.elapse(LINGER_SECONDS + 0.1)  # our last word, which nobody reads
            await place.until(lambda: not place.edge.connections)
            assert place.edge.census.total() == place.edge.census.held() == 0
            assert place.house.happened[-1] == "disconnected"
            await client.close()

    run(talk())


def test_a_client_that_never_reads_is_cut_by_the_deadlines(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect(("127.0.0.1", place.port))
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(deaf, b"EHLO a\r\n")
            await place.until(lambda: "greeted a ESMTP" in place.house.happened)
            await loop.sock_sendall(
                deaf, b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n" + b"BDAT 0\r\n" * 9000
            )
            (connection,) = place.edge.connections
            for _ in range(100):  # as often as it takes: the kernel's buffers are elastic
                if connection._choked:
                    break
                await asyncio.sleep(0.01)
            await place.elapse(31)
            await place.elapse(LINGER_SECONDS + 0.1)
            await place.until(lambda: not place.edge.connections)
            assert "aborted: timeout" in place.house.happened or "aborted: connection lost" in place.house.happened
            deaf.close()

    run(talk())


async def _timed_out(place: Door, client: Client) -> None:
    assert await client.all_replies() == ["421 4.4.2"]
    await client.close()


def test_a_client_that_never_greets() -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            client = await place.connect()
            client.send(b"EH")
            await place.elapse(9.9)
            assert place.edge.connections
            client.send(b"LO")  # drip: a piece of a command is no command
            connection = next(iter(place.edge.connections))
            await place.until(lambda: connection._dialogue.waiting_octets == 4)
            await place.elapse(0.2)
            await _timed_out(place, client)

    asyncio.run(talk())


def test_an_idle_client_after_its_greeting() -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            await place.elapse(19)
            assert await client.say(b"NOOP\r\n") == "250 2.0.0"
            await place.elapse(19)
            await client.begin()
            await place.elapse(21)
            await _timed_out(place, client)
            assert "aborted: timeout" in place.house.happened

    asyncio.run(talk())


def test_content_has_a_deadline_as_a_whole() -> None:
    async def talk() -> None:
        async with door(settings=replace(PATIENCE, deadlines=replace(PATIENCE.deadlines, rate=0))) as place:
            client = await (await place.connect()).begin(data=True)
            for _ in range(3):
                await place.elapse(9.9)
                client.send(b"A: b\r\n" * 100)
                reader = next(iter(place.edge.connections))._dialogue.reading
                assert reader is not None
                size = reader.size
                await place.until(lambda reader=reader, size=size: reader.size > size)  # type: ignore[misc]
            await place.elapse(0.5)
            await _timed_out(place, client)
            assert "aborted: timeout" in place.house.happened
            assert place.house.messages == []

    asyncio.run(talk())


def test_content_has_a_least_rate() -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            client = await (await place.connect()).begin(data=True)
            await place.elapse(9)  # within the grace nobody counts
            client.send(b"x" * 1998 + b"\r\n")
            reader = next(iter(place.edge.connections))._dialogue.reading
            assert reader is not None
            await place.until(lambda: reader.size >= 1998)
            await place.elapse(10)
            assert place.edge.connections
            await place.elapse(5)
            await _timed_out(place, client)

    asyncio.run(talk())


def test_a_session_ends_some_day() -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            for _ in range(6):
                await place.elapse(16)
                assert await client.say(b"NOOP\r\n") == "250 2.0.0"
            await place.elapse(5)
            await _timed_out(place, client)

    asyncio.run(talk())


def test_our_own_work_is_not_the_clients_time(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=PATIENCE) as place:
            place.house.gates["data"] = asyncio.Event()
            client = await (await place.connect()).begin(data=True)
            client.send(b"A: b\r\n.\r\n")
            await place.house.reached.get()
            await place.elapse(90)
            place.house.gates["data"].set()
            assert await client.reply() == "250 2.0.0"
            assert await client.say(b"NOOP\r\n") == "250 2.0.0"
            await client.close()

    run(talk())


def test_who_does_not_leave_after_our_last_word_is_cut_off(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            assert await client.say(b"NOOP\n") == "500 5.5.2"
            client.send(b"x" * 100_000)
            assert place.edge.connections
            await place.elapse(LINGER_SECONDS + 0.1)
            await place.house.gone.wait()
            await client.close()

    run(talk())


def test_time_is_looked_at_without_being_asked() -> None:
    async def talk() -> None:
        settings = replace(PATIENCE, deadlines=Deadlines(greeting=0.2, command=0.2, data=0.2, session=0.2))
        async with door(settings=settings) as place:
            client = await place.connect()
            place.clock.advance(1)
            await _timed_out(place, client)

    asyncio.run(talk())


def test_draining(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates["data"] = asyncio.Event()
            idle = await place.connect()
            assert await idle.say(b"EHLO a\r\n") == "250"
            typing = await (await place.connect()).begin()
            past = await (await place.connect()).begin(data=True)
            past.send(b"A: b\r\n.\r\n")
            await place.house.reached.get()
            content = await (await place.connect()).begin(data=True)
            drained = asyncio.ensure_future(place.edge.drain(60))
            assert await idle.all_replies() == ["421 4.3.2"]
            assert await typing.say(b"RCPT TO:<c@b.example>\r\n") == "421 4.3.2"
            assert await typing.reply() == ""
            with pytest.raises(ConnectionRefusedError):
                await place.connect()
            content.send(b"A: b\r\n.\r\n")  # it may still reach its dot
            await place.house.reached.get()
            assert not drained.done()
            place.house.gates["data"].set()
            for client in (past, content):
                assert await client.all_replies() == ["250 2.0.0", "421 4.3.2"]
            for client in (idle, typing, past, content):
                await client.close()
            await asyncio.wait_for(drained, 10)
            assert len(place.house.messages) == 2
            assert place.house.happened.count("aborted: draining") == 1

    run(talk())


def test_when_the_time_for_draining_is_up(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            for word in ("data", "rcpt"):
                place.house.gates[word] = asyncio.Event()
            typing = await place.connect()
            assert await typing.say(b"EHLO a\r\n") == "250"
            assert await typing.say(b"MAIL FROM:<a@a.example>\r\n") == "250 2.1.0"
            asking = await place.connect()
            assert await asking.say(b"EHLO a\r\n") == "250"
            asking.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nNOOP\r\n")
            await place.house.reached.get()
            drained = asyncio.ensure_future(place.edge.drain(0.01))
            assert await typing.all_replies() == ["421 4.3.2"]
            assert not drained.done()
            place.house.gates["rcpt"].set()
            assert await asking.all_replies() == ["250 2.1.0", "250 2.1.5", "421 4.3.2"]
            for client in (typing, asking):
                await client.close()
            await asyncio.wait_for(drained, 10)
            assert place.house.happened.count("aborted: draining") == 2

    run(talk())


def test_past_the_dot_outlasts_the_time_for_draining(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates["data"] = asyncio.Event()
            past = await (await place.connect()).begin(data=True)
            past.send(b"A: b\r\n.\r\n")
            await place.house.reached.get()
            drained = asyncio.ensure_future(place.edge.drain(0.0))
            await place.until(lambda: place.edge.evicting)
            place.house.gates["data"].set()
            assert await past.all_replies() == ["250 2.0.0", "421 4.3.2"]
            await past.close()
            await asyncio.wait_for(drained, 10)

    run(talk())


def test_who_comes_while_we_drain() -> None:
    async def talk() -> None:
        async with door() as place:
            place.edge.draining = True
            assert place.edge.admit("192.0.2.1") == Reply(
                421, "4.3.2", ("Going down for maintenance, try again later",)
            )

    asyncio.run(talk())


def test_draining_before_the_banner() -> None:
    async def talk() -> None:
        async with door() as place:
            place.house.gates["connected"] = asyncio.Event()
            client = await place.connect(banner=False)
            await place.house.reached.get()
            drained = asyncio.ensure_future(place.edge.drain(5))
            await place.until(lambda: place.edge.draining)
            place.house.gates["connected"].set()
            assert await client.all_replies() == ["421 4.3.2"]
            await client.close()
            await asyncio.wait_for(drained, 10)

    asyncio.run(talk())


def test_new_settings_are_for_new_connections() -> None:
    async def talk() -> None:
        async with door() as place:
            old = await place.connect()
            place.edge.settings = replace(place.edge.settings, rules=Rules("mx2.example.com"))
            new = await place.connect(banner=False)
            assert await new.reply() == "220"
            assert new.text == "220 mx2.example.com ESMTP"
            await old.say(b"EHLO a\r\n")
            assert old.text.startswith("250-mx.example.com\n")
            await old.close()
            await new.close()

    asyncio.run(talk())


def test_a_machine_without_descriptors_pauses(certificates: Certificates) -> None:
    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            raise OSError(errno.EMFILE, "no descriptors")

    async def talk() -> None:
        settings = Settings(RULES, greeting_delay=0.0, implicit_tls=True)
        async with door(settings=settings, tls=lambda: certificates.server) as place:
            listening, place.edge._doors[0]._listening = place.edge._doors[0]._listening, Exhausted()
            place.edge._doors[0].pause()
            place.edge._doors[0]._paused = False  # as if the loop had called just now
            place.edge._doors[0]._accept()
            assert place.edge._doors[0]._paused
            place.edge._doors[0]._listening.close()
            place.edge._doors[0]._listening = listening
            place.edge.look()
            client = await place.connect(context=certificates.client())
            await client.close()

    asyncio.run(talk())


def test_limits_hold_before_a_handshake(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        settings = Settings(RULES, greeting_delay=0.0, implicit_tls=True, connections=1)
        async with door(settings=settings, tls=lambda: certificates.server) as place:
            inside = await place.connect(banner=False)
            await place.until(lambda: place.edge.census.total() == 1)
            outside = await place.connect(banner=False)
            assert await outside.reply() == ""
            await outside.close()
            await inside.close()
            await place.until(lambda: place.edge.census.total() == 0)
            assert place.house.sessions == []

    run(talk())
