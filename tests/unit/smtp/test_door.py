"""Coming in: proxies' headers, XCLIENT, strangers' delay, harvesters, memory, a busy worker. On real sockets."""

import asyncio
import ipaddress
from dataclasses import replace
from unittest.mock import Mock

import pytest

from gateway.mail.reply import Reply
from gateway.smtp import proxy
from gateway.smtp.events import Rules
from gateway.smtp.harvest import FREE_MISSES, MOST_MISSES
from gateway.smtp.server import Settings
from gateway.smtp.trusted import among
from tests.unit.smtp.conftest import Run
from tests.unit.smtp.scripted import Certificates, Client, door

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
USUAL = Settings(Rules("mx.example.com", message=100_000), greeting_delay=0.0)
BEHIND = replace(USUAL, proxies=LOOPBACK)
HEADER = b"PROXY TCP4 198.51.100.7 192.0.2.25 4000 25\r\n"


def test_among() -> None:
    networks = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert among("192.0.2.7", networks)
    assert among("2001:db8::7", networks)
    assert not among("198.51.100.7", networks)
    assert not among("no address", networks)
    assert not among("192.0.2.7", ())


def test_behind_a_proxy_the_client_is_the_real_one(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=BEHIND) as place:
            client = await place.connect(banner=False)
            for octet in HEADER:
                client.send(bytes([octet]))
                await asyncio.sleep(0)
            assert await client.reply() == "220"
            (session,) = place.house.sessions
            assert (session.client_ip, session.client_port) == ("198.51.100.7", 4000)
            assert (session.server_ip, session.server_port) == ("192.0.2.25", 25)
            assert not session.early_talker
            assert place.edge.census.from_network("198.51.100.200") == 1
            assert place.edge.census.from_network("127.0.0.1") == 0
            await client.close()
            await place.house.gone.wait()

    run(talk())


def test_octets_behind_the_header_are_the_clients_and_too_early(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=replace(BEHIND, greeting_delay=0.05)) as place:
            client = await place.connect(banner=False)
            client.send(HEADER + b"EHLO a.example\r\n")
            assert [await client.reply(), await client.reply()] == ["220", "250"]
            assert place.house.sessions[0].early_talker
            await client.close()

    run(talk())


def test_a_balancer_that_speaks_for_itself() -> None:
    async def talk() -> None:
        async with door(settings=BEHIND) as place:
            client = await place.connect(banner=False)
            client.send(proxy.SIGNATURE + b"\x20\0\0\0")
            assert await client.reply() == "220"
            assert place.house.sessions[0].client_ip == "127.0.0.1"
            await client.close()

    asyncio.run(talk())


def test_without_a_header_or_with_a_wrong_one_nothing_is_said(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=BEHIND) as place:
            for octets in (
                b"EHLO client.example\r\n",
                b"PROXY TCP4 1 2 3 4\r\n",
                b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0",
            ):
                client = await place.connect(banner=False)
                client.send(octets)
                assert await client.reply() == ""
                await client.close()
            client = await place.connect(banner=False)  # a health check that only connects
            await client.close()
            assert place.house.sessions == []

    run(talk())


def test_a_header_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "SECONDS", 0.05)

    async def talk() -> None:
        async with door(settings=BEHIND) as place:
            client = await place.connect(banner=False)
            client.send(b"PROXY TCP4 ")
            assert await client.reply() == ""
            await client.close()

    asyncio.run(talk())


def test_draining_does_not_wait_for_a_header() -> None:
    async def talk() -> None:
        async with door(settings=BEHIND) as place:
            client = await place.connect(banner=False)
            await place.until(lambda: bool(place.edge._doors[0]._waiting))
            async with asyncio.timeout(2):
                await place.edge.drain(0)
            assert await client.reply() == ""
            await client.close()

    asyncio.run(talk())


@pytest.mark.parametrize("second", [HEADER, proxy.SIGNATURE + b"\x20\0\0\0"])
def test_a_second_header_or_one_from_elsewhere_closes(run: Run, second: bytes) -> None:
    async def talk() -> None:
        for settings, before in ((BEHIND, HEADER), (USUAL, b"")):
            async with door(settings=settings) as place:
                client = await place.connect(banner=False)
                client.send(before)
                assert await client.reply() == "220"
                client.send(second)
                said = await client.all_replies()
                assert said, "the first line alone tells"
                assert said[-1].startswith("500")
                await client.close()
                client = await place.connect(banner=False)
                client.send(before)
                assert await client.reply() == "220"
                assert await client.say(b"EHLO a.example\r\n") == "250"
                client.send(second)  # late
                assert (await client.all_replies())[-1].startswith("500")
                await client.close()

    run(talk())


def test_a_header_before_implicit_tls(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        settings = replace(BEHIND, implicit_tls=True)
        async with door(settings=settings, tls=lambda: certificates.server) as place:
            client = await place.connect(banner=False)
            client.send(HEADER)
            await client.writer.start_tls(certificates.client(), server_hostname="mx.example.com")
            assert await client.reply() == "220"
            assert place.house.sessions[0].client_ip == "198.51.100.7"
            assert place.house.sessions[0].tls == "TLSv1.3"
            await client.close()

    run(talk())


def test_limits_count_the_real_client() -> None:
    async def talk() -> None:
        async with door(settings=replace(BEHIND, connections_per_network=1)) as place:
            clients = []
            for ip, reply in (("198.51.100.7", "220"), ("203.0.113.7", "220"), ("198.51.100.8", "421 4.7.0")):
                client = await place.connect(banner=False)
                client.send(b"PROXY TCP4 %b 192.0.2.25 4000 25\r\n" % ip.encode())
                assert await client.reply() == reply
                clients.append(client)
            for client in clients:
                await client.close()

    asyncio.run(talk())


def test_xclient_makes_another_client(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, xclient=LOOPBACK)) as place:
            client = await place.connect()
            assert await client.say(b"EHLO proxy.example\r\n") == "250"
            assert "XCLIENT NAME ADDR" in client.text
            assert await client.say(b"XCLIENT ADDR=IPV6:2001:db8::7 PORT=4000 HELO=client.example\r\n") == "220"
            assert place.house.happened[-2:] == ["disconnected", "connected"]
            assert place.edge.census.from_network("2001:db8::1") == 1
            assert place.edge.census.from_network("127.0.0.1") == 0
            await client.begin()
            session = place.house.sessions[-1]
            assert (session.client_ip, session.client_port, session.helo) == ("2001:db8::7", 4000, "client.example")
            await client.close()

    run(talk())


def test_a_second_xclient_comes_from_the_client_and_not_from_the_proxy(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, xclient=LOOPBACK)) as place:
            client = await place.connect()
            assert await client.say(b"XCLIENT HELO=client.example\r\n") == "220", "its address is still the proxy's"
            assert await client.say(b"XCLIENT ADDR=192.0.2.7\r\n") == "220"
            assert await client.say(b"EHLO client.example\r\n") == "250"
            assert "XCLIENT" not in client.text
            client.send(b"XCLIENT ADDR=198.51.100.7\r\n")
            assert await client.all_replies() == ["550 5.7.0"]
            assert [session.client_ip for session in place.house.sessions][-1] == "192.0.2.7"
            await client.close()

    run(talk())


def test_xclient_into_a_full_network_or_a_refusing_policy() -> None:
    async def talk() -> None:
        settings = replace(USUAL, xclient=LOOPBACK, connections_per_network=2)
        async with door(settings=settings) as place:
            place.edge.census.take("192.0.2.1")
            place.edge.census.take("192.0.2.1")
            client = await place.connect()
            assert await client.say(b"XCLIENT ADDR=192.0.2.7\r\n") == "421 4.7.0"
            await client.close()
            client = await place.connect()
            place.house.replies["connected"] = Reply(421, "4.7.1", ("Not you",))
            assert await client.say(b"XCLIENT ADDR=198.51.100.7\r\n") == "421 4.7.1"
            await client.close()
            place.edge.census.release("192.0.2.1")
            place.edge.census.release("192.0.2.1")

    asyncio.run(talk())


def test_the_banner_waits_for_strangers_alone() -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, greeting_delay=3600.0)) as place:
            place.house.friend = True
            client = await place.connect()
            await client.close()

    asyncio.run(talk())


def test_who_guesses_recipients_waits_and_then_goes(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            held: list[float] = []

            async def pause(seconds: float) -> None:
                held.append(seconds)

            place.edge.pause = pause
            client = await (await place.connect()).begin()
            place.house.replies["rcpt"] = Reply(550, "5.1.1", ("No such user",))
            for _ in range(MOST_MISSES):
                assert await client.say(b"RCPT TO:<guess@b.example>\r\n") == "550 5.1.1"
            assert len(held) >= MOST_MISSES - FREE_MISSES - 1
            assert held == sorted(held)
            client.send(b"RCPT TO:<guess@b.example>\r\n" * 2)
            assert (await client.all_replies())[-1] == "421 4.7.0"
            await client.close()

    run(talk())


def test_a_size_over_the_limit_is_refused_at_mail_under_an_id(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, rules=replace(USUAL.rules, message=1000))) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a.example\r\n") == "250"
            for size in (b"1001", b"99999999999999999999"):
                assert await client.say(b"MAIL FROM:<> SIZE=" + size + b"\r\n") == "552 5.3.4"
                assert client.text.endswith(f"TX{len(place.house.happened)}")
            assert await client.say(b"MAIL FROM:<> SIZE=1000\r\n") == "250 2.1.0", "and the session goes on"
            await client.close()

    run(talk())


def test_memory_is_counted_exactly_and_bounds_mail(run: Run) -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, memory=50_000)) as place:
            census, house = place.edge.census, place.house
            first = await (await place.connect()).begin(data=True)
            first.send(b"x" * 30_000)
            await place.until(lambda: census.held() > 29_000)
            second = await place.connect()
            assert await second.say(b"EHLO a.example\r\n") == "250"
            assert await second.say(b"MAIL FROM:<> SIZE=30000\r\n") == "452 4.3.1"
            assert house.happened[-1] == "declined: 452"
            assert second.text.endswith(f"TX{len(house.happened)}"), "under an id"
            assert await second.say(b"MAIL FROM:<> SIZE=10000\r\n") == "250 2.1.0"
            second.send(b"RCPT TO:<b@b.example>\r\nDATA\r\n")
            assert [await second.reply(), await second.reply()] == ["250 2.1.5", "354"]
            # More than it declared, and more than there is: the mail stays with its sender.
            second.send(b"y" * 40_000 + b"\r\n.\r\n")
            assert await second.reply() == "452 4.3.1"
            house.gates["data"] = asyncio.Event()
            first.send(b"\r\n.\r\n")
            assert await house.reached.get() == "data"
            assert 30_002 <= census.held() < 30_002 + 1024, "while it is delivered"
            house.gates["data"].set()
            assert await first.reply() == "250 2.0.0"
            assert census.held() == 0
            await first.begin(data=True)
            first.send(b"z" * 1000)
            await place.until(lambda: census.held() > 0)
            first.vanish()
            await second.close()
            await place.until(lambda: census.held() == 0)

    run(talk())


def test_one_network_leaves_memory_for_others(run: Run) -> None:
    async def talk() -> None:
        rules = Rules("mx.example.com", message=20_000)
        async with door(settings=replace(BEHIND, rules=rules, memory=100_000)) as place:
            census = place.edge.census

            async def from_network(number: int) -> Client:
                client = await place.connect(banner=False)
                client.send(b"PROXY TCP4 198.51.%d.7 192.0.2.25 4000 25\r\n" % number)
                assert await client.reply() == "220"
                return client

            async def holding(number: int, octets: int) -> Client:
                client = await (await from_network(number)).begin(data=True)
                before = census.held()
                client.send(b"x" * octets)
                await place.until(lambda: census.held() == before + octets)
                return client

            greedy = [await holding(1, 15_000) for _ in range(4)]
            late = await from_network(1)
            assert await late.say(b"EHLO a.example\r\n") == "250"
            assert await late.say(b"MAIL FROM:<> SIZE=16000\r\n") == "452 4.3.1", "76 of 100, three times the other 24"
            assert await late.say(b"MAIL FROM:<> SIZE=15000\r\n") == "250 2.1.0", "75, as long as nobody else comes"
            other = await holding(2, 15_000)
            assert await late.say(b"RSET\r\n") == "250 2.0.0"
            assert await late.say(b"MAIL FROM:<> SIZE=5000\r\n") == "452 4.3.1"
            third = await from_network(3)
            assert await third.say(b"EHLO a.example\r\n") == "250"
            assert await third.say(b"MAIL FROM:<> SIZE=19000\r\n") == "250 2.1.0", "its first message, for it fits"
            # Who is over its share by what others took gives way with what still comes.
            greedy[0].send(b"x" * 4_000 + b"\r\n.\r\n")
            assert await greedy[0].reply() == "452 4.3.1"
            for client in (*greedy, late, other, third):
                await client.close()
            await place.until(lambda: census.held() == 0)

    run(talk())


def test_a_client_that_a_proxy_names_holds_memory_as_itself() -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, xclient=LOOPBACK)) as place:
            client = await place.connect()
            assert await client.say(b"EHLO proxy.example\r\n") == "250"
            assert await client.say(b"XCLIENT ADDR=198.51.100.7\r\n") == "220"
            await client.begin(data=True)
            client.send(b"x" * 3000)
            census = place.edge.census
            await place.until(lambda: census.held_by("198.51.100.1") == 3000)
            assert census.held_by("127.0.0.1") == 0
            await client.close()

    asyncio.run(talk())


def test_a_spooled_message_counts_too() -> None:
    async def talk() -> None:
        async with door(settings=replace(USUAL, spool_above=1000)) as place:
            client = await (await place.connect()).begin(data=True)
            client.send(b"x" * 5000)
            await place.until(lambda: place.edge.census.held() >= 4900)
            client.send(b"\r\n.\r\n")
            assert await client.reply() == "250 2.0.0"
            assert place.edge.census.held() == 0
            await client.close()

    asyncio.run(talk())


def test_a_busy_worker_leaves_newcomers_in_the_queue(run: Run) -> None:
    async def talk() -> None:
        async with door() as place:
            inside = await place.connect()
            place.edge._pulse.busy = True
            place.edge.look()
            outside = await place.connect(banner=False)
            assert await inside.say(b"NOOP\r\n") == "250 2.0.0"
            assert len(place.edge.connections) == 1
            place.edge._pulse.busy = False
            place.edge.look()
            assert await outside.reply() == "220"
            await inside.close()
            await outside.close()

    run(talk())


def test_the_beat_feels_a_loop_that_stands_still() -> None:
    async def talk() -> None:
        async with door() as place:
            place.edge._beat(asyncio.get_running_loop().time() - 2.0)
            assert place.edge._pulse.busy
            assert all(opened._paused for opened in place.edge._doors)
            await place.until(lambda: not place.edge._pulse.busy)
            client = await place.connect()
            await client.close()

    asyncio.run(talk())


def test_a_bug_in_our_reading_is_a_421_with_an_id(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            assert await client.say(b"EHLO a.example\r\n") == "250"
            with monkeypatch.context() as patch:
                patch.setattr("gateway.smtp.protocol.Dialogue.next_event", Mock(side_effect=TypeError("a bug")))
                assert await client.say(b"NOOP\r\n") == "421 4.3.0"
            assert client.text.endswith(place.house.sessions[0].id)
            assert await client.all_replies() == []
            await client.close()

    run(talk())
