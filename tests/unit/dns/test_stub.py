"""The stub against servers on the loopback that behave well, badly and with malice."""

import asyncio
import struct
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest
import uvloop

from gateway.dns.stub import MAX_STRAYS, Server, Stub, server_of, system_servers
from gateway.mail.terms import Unavailable

#: What a server answers to a message: datagrams (over TCP: messages). The second argument is "udp" or "tcp".
Script = Callable[[bytes, str], list[bytes]]


class Peer(asyncio.DatagramProtocol):
    """A scripted server; `seen` holds what it was asked, and how."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[tuple[str, bytes]] = []
        self.sources: list[tuple[str, int]] = []
        self.port = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.seen.append(("udp", data))
        self.sources.append(addr)
        for octets in self.script(data, "udp"):
            self.transport.sendto(octets, addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(2))
            data = await reader.readexactly(length)
            self.seen.append(("tcp", data))
            for octets in self.script(data, "tcp"):
                writer.write(octets)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def peer(script: Script) -> Any:
    loop = asyncio.get_running_loop()
    for _ in range(20):  # the same port for both, whoever else takes ports meanwhile
        transport, protocol = await loop.create_datagram_endpoint(lambda: Peer(script), local_addr=("127.0.0.1", 0))
        protocol.port = transport.get_extra_info("sockname")[1]
        try:
            server = await asyncio.start_server(protocol.stream, "127.0.0.1", protocol.port)
        except OSError:
            transport.close()
            continue
        break
    try:
        yield protocol
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


def reply(data: bytes, *records: tuple[str, str], rcode: int = 0, flags: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(data), recursion_available=True)
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.flags |= flags
    owner = message.question[0].name
    for rdtype, text in records:
        message.answer.append(dns.rrset.from_text(owner, 300, "IN", rdtype, text))
    return message.to_wire(max_size=65535)


def framed(octets: bytes) -> bytes:
    return struct.pack("!H", len(octets)) + octets


def good(data: bytes, way: str) -> list[bytes]:
    octets = reply(data, ("A", "192.0.2.1"))
    return [framed(octets) if way == "tcp" else octets]


def silent(data: bytes, way: str) -> list[bytes]:
    return []


def run(main: Coroutine[Any, Any, None], *, loop: str = "asyncio") -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_question_and_its_answer(loop: str) -> None:
    async def main() -> None:
        async with peer(good) as server:
            stub = Stub([f"127.0.0.1:{server.port}"])
            for _ in range(20):
                response = await stub.ask("abcdefghijkl.example.com", "A", 5.0)
                assert [r.value for r in response.records] == ["192.0.2.1"]
                assert response.records[0].name == "abcdefghijkl.example.com"
            assert len({data[:2] for _, data in server.seen}) > 15  # ids
            assert len({port for _, port in server.sources}) > 15
            assert len({data[12:30] for _, data in server.seen}) > 15  # the case of the letters

    run(main(), loop=loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_was_cut_comes_over_tcp(loop: str) -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        if way == "udp":
            return [reply(data, flags=0x200)]
        return [framed(reply(data, ("TXT", '"' + "x" * 200 + '"')))]

    async def main() -> None:
        async with peer(script) as server:
            response = await Stub([f"127.0.0.1:{server.port}"]).ask("example.com", "TXT", 5.0)
            assert response.records[0].value == b"x" * 200
            assert [way for way, _ in server.seen] == ["udp", "tcp"]

    run(main(), loop=loop)


def test_strays_are_dropped_and_the_true_answer_is_taken() -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        true = reply(data, ("A", "192.0.2.1"))
        forged = reply(data, ("A", "192.0.2.66"))
        other_id = bytes((forged[0] ^ 1,)) + forged[1:]
        other_name = dns.message.make_query("example.net", "A", id=int.from_bytes(data[:2])).to_wire()
        return [other_id, reply(other_name, ("A", "192.0.2.66")), b"", b"x", data, true]

    async def main() -> None:
        async with peer(script) as server:
            response = await Stub([f"127.0.0.1:{server.port}"]).ask("example.com", "A", 5.0)
            assert response.records[0].value == "192.0.2.1"
            assert len(server.seen) == 1

    run(main())


def test_a_flood_of_forgeries_moves_the_question_to_tcp() -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        if way == "tcp":
            return good(data, way)
        forged = reply(data, ("A", "192.0.2.66"))
        return [bytes((forged[0] ^ 1,)) + forged[1:]] * MAX_STRAYS

    async def main() -> None:
        async with peer(script) as server:
            response = await Stub([f"127.0.0.1:{server.port}"]).ask("example.com", "A", 5.0)
            assert response.records[0].value == "192.0.2.1"

    run(main())


def test_a_server_that_folds_the_case_is_asked_over_tcp() -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        (octets,) = good(data.lower(), "udp")
        octets = data[:2] + octets[2:]
        return [framed(octets) if way == "tcp" else octets]

    async def main() -> None:
        async with peer(script) as server:
            name = "abcdefghijklmnopqrstuvwxyz.example.com"  # a lot of luck to draw all in lower case
            response = await Stub([f"127.0.0.1:{server.port}"]).ask(name, "A", 5.0)
            assert response.records[0].name == name
            assert [way for way, _ in server.seen] == ["udp", "tcp"]

    run(main())


@pytest.mark.parametrize("rcode", [2, 5, 1, 4, 9])
def test_a_server_that_fails_is_left_for_the_next(rcode: int) -> None:
    async def main() -> None:
        async with peer(lambda data, _: [reply(data, rcode=rcode)]) as bad, peer(good) as fine:
            stub = Stub([f"127.0.0.1:{bad.port}", f"127.0.0.1:{fine.port}"])
            assert (await stub.ask("example.com", "A", 5.0)).records
            assert (await stub.ask("example.com", "A", 5.0)).records
            assert len(bad.seen) == (2 if rcode in {1, 4} else 1)  # without EDNS once more; then the good one is first

    run(main())


def test_a_silent_server_does_not_eat_the_time_of_the_next() -> None:
    async def main() -> None:
        async with peer(silent) as dead, peer(good) as fine:
            stub = Stub([f"127.0.0.1:{dead.port}", f"127.0.0.1:{fine.port}"])
            assert (await stub.ask("example.com", "A", 0.4)).records
            assert len(dead.seen) == 1

    run(main())


def test_nobody_answers() -> None:
    async def main() -> None:
        async with peer(silent) as dead:
            with pytest.raises(Unavailable, match="no answer"):
                await Stub([f"127.0.0.1:{dead.port}"]).ask("example.com", "A", 0.1)
            assert len(dead.seen) == 2
        with pytest.raises(Unavailable):  # nobody listens there any more
            await Stub([f"127.0.0.1:{dead.port}"]).ask("example.com", "A", 0.5)

    run(main())


@pytest.mark.parametrize("rcode", [2, 5])
def test_every_server_fails_and_each_is_asked_once(rcode: int) -> None:
    async def main() -> None:
        async with peer(lambda data, _: [reply(data, rcode=rcode)]) as bad:
            with pytest.raises(Unavailable):
                await Stub([f"127.0.0.1:{bad.port}"]).ask("example.com", "A", 5.0)
            assert len(bad.seen) == 1

    run(main())


def test_a_server_from_before_edns() -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        return [reply(data, rcode=1)] if data[11] else good(data, way)

    async def main() -> None:
        async with peer(script) as old:
            assert (await Stub([f"127.0.0.1:{old.port}"]).ask("example.com", "A", 5.0)).records

    run(main())


@pytest.mark.parametrize(
    "stream",
    [b"", b"\0", b"\0\x40abc", b"\xff\xff" + b"x" * 100, framed(b"x" * 40), framed(b"")],
)
def test_nonsense_over_tcp_is_unavailable(stream: bytes) -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        return [reply(data, flags=0x200)] if way == "udp" else [stream]

    async def main() -> None:
        async with peer(script) as bad:
            with pytest.raises(Unavailable):
                await Stub([f"127.0.0.1:{bad.port}"]).ask("example.com", "A", 1.0)

    run(main())


def test_a_broken_response_is_unavailable() -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        return [reply(data, ("A", "192.0.2.1"))[:-25]]

    async def main() -> None:
        async with peer(script) as bad:
            with pytest.raises(Unavailable, match="unreadable"):
                await Stub([f"127.0.0.1:{bad.port}"]).ask("example.com", "A", 1.0)

    run(main())


def test_a_referral_is_no_answer() -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        octets = bytearray(reply(data))
        octets[3] &= 0x7F
        return [bytes(octets)]

    async def main() -> None:
        async with peer(script) as bad:
            with pytest.raises(Unavailable, match="recursive"):
                await Stub([f"127.0.0.1:{bad.port}"]).ask("example.com", "A", 1.0)

    run(main())


def test_the_ad_bit_counts_from_a_trusted_server_only(tmp_path: Path) -> None:
    def script(data: bytes, way: str) -> list[bytes]:
        return [reply(data, ("A", "192.0.2.1"), flags=0x20)]

    async def main() -> None:
        async with peer(script) as server:
            stub = Stub([f"127.0.0.1:{server.port}"])
            assert (await stub.ask("example.com", "A", 1.0)).authenticated
            stub.servers = (Server("127.0.0.1", server.port, trusted=False),)
            assert not (await stub.ask("example.com", "A", 1.0)).authenticated

    run(main())


def test_cancelling_a_question_closes_its_socket() -> None:
    async def main() -> None:
        async with peer(silent) as dead:
            asker = asyncio.create_task(Stub([f"127.0.0.1:{dead.port}"]).ask("example.com", "A", 30.0))
            while not dead.seen:
                await asyncio.sleep(0)
            asker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asker

    run(main())  # an unclosed socket is a ResourceWarning, and warnings are errors


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", Server("192.0.2.53", 53)),
        ("127.0.0.1:5353", Server("127.0.0.1", 5353)),
        ("::1", Server("::1", 53)),
        ("[::1]:5353", Server("::1", 5353)),
        ("[::1]", Server("::1", 53)),
    ],
)
def test_servers(text: str, server: Server) -> None:
    assert server_of(text) == server
    assert server_of(str(server)) == server


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.53:", "192.0.2.53:0", "1.2.3.4:99999", "[::1]53", "[x]"])
def test_no_servers(text: str) -> None:
    with pytest.raises(ValueError, match="server"):
        server_of(text)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.53\n", (Server("192.0.2.53"),)),
        ("# x\nsearch a b\nnameserver 127.0.0.53\n", (Server("127.0.0.53", 53, True),)),
        ("nameserver ::1", (Server("::1", 53, True),)),
        ("nameserver 192.0.2.1\noptions edns0 trust-ad\n", (Server("192.0.2.1", 53, True),)),
        ("nameserver fe80::1%lo\nnameserver x\nnameserver\n", (Server("fe80::1%lo"),)),
        ("nameserver 192.0.2.1\n" * 5, (Server("192.0.2.1"),) * 3),
        ("", (Server("127.0.0.1", 53, True),)),
    ],
)  # fmt: skip
def test_resolv_conf(tmp_path: Path, text: str, servers: tuple[Server, ...]) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert system_servers(path) == servers
    assert Stub(resolv_conf=path).servers == servers


def test_no_resolv_conf(tmp_path: Path) -> None:
    assert system_servers(tmp_path / "none") == (Server("127.0.0.1", 53, True),)
