"""A stub resolver: asks recursive servers over UDP, and over TCP what UDP cannot carry. The network's `Source`.

Each question goes out from a socket of its own, connected to the server, so that the kernel picks an unpredictable
source port and drops what other hosts send; the id and the case of the name's letters are random too. What comes back
must answer that very question; after a few that do not, the question goes over TCP, where nobody can forge (RFC 5452).
A server that refuses, fails or is silent is left for the next one; the one that answered last is asked first.

The AD bit counts only from a server that the operator named in our configuration, that listens on this machine, or
that resolv.conf declares trustworthy (`options trust-ad`): anywhere else it is a stranger's claim (RFC 6840 section
5.8). Callers: the resolver. Refuses host names as servers: who would resolve them?
"""

import asyncio
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from gateway.dns.answer import Response
from gateway.dns.wire import Broken, NotOurs, Reading, query, question, read
from gateway.mail.terms import Unavailable

ROUNDS = 2
MAX_STRAYS = 8
MAX_TCP = 32_768  # octets; the CPU to read a response is the sender's choice up to here
OPEN_QUESTIONS = 200  # sockets at once; others wait within their own deadline

_RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class Server:
    """A recursive server: address, port, and whether its AD bit is believed."""

    host: str
    port: int = 53
    trusted: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Failed(Exception):  # noqa: N818 - what became of a question
    """This server gave no answer; the text says how. `final`: asking it again is of no use."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Stub:
    """Asks `servers` ("192.0.2.53", "127.0.0.1:5353", "[::1]:53"), or those of resolv.conf when there are none.

    Raises `ValueError` for a server that is no address.
    """

    def __init__(self, servers: Sequence[str] = (), *, resolv_conf: Path = Path("/etc/resolv.conf")) -> None:
        named = tuple(replace(server_of(text), trusted=True) for text in servers)
        self.servers = named or system_servers(resolv_conf)
        self._first = 0
        self._open = asyncio.Semaphore(OPEN_QUESTIONS)

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        """The response for a canonical name; `Unavailable` when no server gives one in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        count = len(self.servers)
        turns = [(self._first + i) % count for i in range(count)] * ROUNDS
        failures: dict[int, _Failed] = {}
        for number, index in enumerate(turns):
            server, last = self.servers[index], failures.get(index)
            if last is not None and last.final:
                continue
            try:
                # An equal share of what is left: a dead server never eats the time of the next one.
                async with asyncio.timeout((deadline - loop.time()) / (len(turns) - number)), self._open:
                    response = await _asked(server, name, rdtype)
            except TimeoutError:
                failures[index] = _Failed("no answer")
            except (OSError, EOFError) as why:
                failures[index] = _Failed(type(why).__name__)
            except Broken as why:
                failures[index] = _Failed(f"unreadable response: {why}", final=True)
            except _Failed as why:
                failures[index] = why
            else:
                self._first = index
                return response if server.trusted else replace(response, authenticated=False)
        told = ", ".join(f"{self.servers[index]} {why}" for index, why in failures.items())
        raise Unavailable(f"DNS: no answer for {name} {rdtype}: {told}")


async def _asked(server: Server, name: str, rdtype: str) -> Response:
    """One server's answer, by whatever way it takes."""
    asked = _random_case(question(name, rdtype), len(name))
    reading = await _exchange(server, asked, edns=True)
    if reading.rcode in {1, 4}:  # a server from before EDNS (RFC 6891 section 7)
        reading = await _exchange(server, asked, edns=False)
    if reading.rcode not in {0, 3}:
        raise _Failed(_RCODES.get(reading.rcode, f"rcode {reading.rcode}"), final=True)
    if reading.lame:
        raise _Failed("is no recursive server", final=True)
    return reading.response


async def _exchange(server: Server, asked: bytes, *, edns: bool) -> Reading:
    reading = await _over_udp(server, asked, edns=edns)
    if reading is None or reading.truncated:
        return await _over_tcp(server, asked, edns=edns)
    return reading


def _random_case(asked: bytes, length: int) -> bytes:
    """The question with the case of the letters of its first `length` octets drawn by lot."""
    lot = secrets.randbits(length)
    name = bytes(o - 32 if 97 <= o <= 122 and lot >> i & 1 else o for i, o in enumerate(asked[1 : length + 1]))
    return asked[:1] + name + asked[length + 1 :]


async def _over_udp(server: Server, asked: bytes, *, edns: bool) -> Reading | None:
    """The response, or `None` when so many strays came that TCP is safer."""
    loop = asyncio.get_running_loop()
    identity = secrets.randbits(16)
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as udp:
        udp.connect((server.host, server.port))
        udp.send(query(identity, asked, edns=edns))
        for _ in range(MAX_STRAYS):
            octets = await loop.sock_recv(udp, 4096)
            try:
                return read(octets, identity, asked)
            except NotOurs:
                told = octets[12 : 12 + len(asked)]
                if told != asked and told.lower() == asked.lower():
                    return None  # a server that does not keep the letters' case, or a forger who guessed it wrong
    return None


async def _over_tcp(server: Server, asked: bytes, *, edns: bool) -> Reading:
    identity = secrets.randbits(16)
    message = query(identity, asked, edns=edns)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(len(message).to_bytes(2) + message)
        length = int.from_bytes(await reader.readexactly(2))
        if length > MAX_TCP:
            raise Broken(f"more than {MAX_TCP} octets")
        octets = await reader.readexactly(length)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if octets[12 : 12 + len(asked)].lower() == asked.lower():
        # Over TCP nobody but the server speaks: it may have its own idea of the letters' case.
        octets = octets[:12] + asked + octets[12 + len(asked) :]
    try:
        return read(octets, identity, asked)
    except NotOurs as why:
        raise Broken(str(why)) from None


def server_of(text: str) -> Server:
    """The server that a configuration names; `ValueError` when it is no address with or without a port."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise ValueError(f"{text!r} is no server: [ADDRESS]:PORT")
        port = rest[1:] or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} is no server: {port!r} is no port")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is no server: name its IP address") from None
    return Server(host, int(port))


def system_servers(resolv_conf: Path) -> tuple[Server, ...]:
    """The servers of resolv.conf(5), as a resolver of the C library would take them: three, else the loopback."""
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    trusted = any(w[:1] == ["options"] and "trust-ad" in w for w in words)
    servers: list[Server] = []
    for word in words:
        if word[:1] == ["nameserver"] and len(word) > 1:
            with suppress(ValueError):
                server = server_of(f"[{word[1]}]")
                local = ip_address(server.host.partition("%")[0]).is_loopback
                servers.append(replace(server, trusted=trusted or local))
    return tuple(servers[:3]) or (Server("127.0.0.1", trusted=True),)
