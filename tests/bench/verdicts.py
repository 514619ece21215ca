"""CPU of one verdict with cached DNS: DKIM at three sizes and under attack, an ARC seal, SPF with five includes, DMARC.

    .venv/bin/python -m tests.bench.verdicts

Process time, best of several runs of many: what the code costs where nothing else disturbs it.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.checks.arc import ArcFact
from gateway.checks.dkim import Dkim, DkimFact, Signature
from gateway.checks.dmarc import judge
from gateway.checks.seal import Sealer
from gateway.checks.spf import SpfFact, check_host
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.message import Message
from gateway.mail.terms import Result

NOW = 1_700_000_000.0
PLAIN = b"All work and no play makes a message of seventy-odd octets a line, so.\r\n"
UNTIDY = b"All\twork  and no play\tmakes  a message of seventy-odd octets a line. \r\n"
HEAD = (
    b"From: Sue <sue@sender.example>\r\nTo: Alice <alice@example.com>\r\nSubject: a verdict and its price\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@sender.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
)
SENDERS = [f"s{n}.example" for n in range(5)]
ZONE = {
    "sender.example": {"TXT": ["v=spf1 " + " ".join(f"include:{name}" for name in SENDERS) + " -all"]},
    **{
        name: {"TXT": ["v=spf1 " + " ".join(f"ip4:198.51.{n}.{m}" for m in range(10)) + " ~all"]}
        for n, name in enumerate(SENDERS)
    },
    "_dmarc.sender.example": {"TXT": ["v=DMARC1; p=reject; rua=mailto:d@sender.example"]},
}
Once = Callable[[], Awaitable[object]]


def signed(key: rsa.RSAPrivateKey, size: int, line: bytes) -> bytes:
    """A mail of about that size with an rsa-2048 relaxed/relaxed signature."""
    octets = HEAD + line * max(1, (size - len(HEAD)) // len(line))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    form = (b"relaxed", b"relaxed")
    names = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"]
    return bytes(dkim.sign(octets, b"s1", b"sender.example", pem, canonicalize=form, include_headers=names)) + octets


def hostile() -> bytes:
    """The dearest header we could think of: twelve signatures, each with a full `h=`, over 250 KB of header."""
    names = ":".join(["from"] + ["x-y"] * 998)
    fields = [
        f"DKIM-Signature: v=1; a=rsa-sha256; c={'simple' if n % 2 else 'relaxed'}/relaxed; d=d{n}.example; s=s;"
        f" h={names}; bh={base64.b64encode(bytes(32)).decode()}; b={base64.b64encode(b'x' * 512).decode()}"
        for n in range(12)
    ]
    rest = ["From: sue@d1.example"] + ["X-Y: " + "a  " * 66] * 950
    return "".join(field + "\r\n" for field in [*fields, *rest]).encode() + b"\r\nbody\r\n"


def _largest(number: int) -> str:
    """A key record of 4,096 bit with the largest exponent that is taken. No prime stands behind it."""
    public = rsa.RSAPublicNumbers((1 << 32) + 1, (1 << 4096) - 159 - 2 * number).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; p={base64.b64encode(der).decode()}"


#: Four keys at each name; two of them are tried.
TRAPS = {f"s._domainkey.d{n}.example": {"TXT": [_largest(4 * n + m) for m in range(4)]} for n in range(12)}


async def price(once: Once, times: int, turns: int = 7) -> float:
    """Milliseconds of CPU for one."""
    await once()
    best = float("inf")
    for _ in range(turns):
        started = time.process_time()
        for _ in range(times):
            await once()
        best = min(best, (time.process_time() - started) / times)
    return best * 1000


async def main() -> None:
    """Prints one row a verdict."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    zone = {**ZONE, "s1._domainkey.sender.example": {"TXT": [f"v=DKIM1; p={base64.b64encode(public).decode()}"]}}
    clock = ManualClock(time.time())  # dkimpy signs with the time of day
    resolver = Resolver(Zone(zone), clock)
    print(f"{'verdict':42} {'ms':>8} {'goal':>6}")

    def row(name: str, found: float, goal: float) -> None:
        print(f"{name:42} {found:8.3f} {goal:6.2f}", flush=True)

    for name, size, line, times, goal in [
        ("DKIM rsa-2048 relaxed/relaxed, 4 KB", 4_000, PLAIN, 200, 0.45),
        ("DKIM rsa-2048 relaxed/relaxed, 50 KB", 50_000, PLAIN, 100, 1.0),
        ("DKIM, 50 KB, white space on every line", 50_000, UNTIDY, 100, 1.0),
        ("DKIM rsa-2048 relaxed/relaxed, 25 MB", 25_000_000, PLAIN, 1, 90.0),
        ("DKIM, 25 MB, white space on every line", 25_000_000, UNTIDY, 1, 90.0),
    ]:
        octets = signed(key, size, line)

        async def dkim_once(octets: bytes = octets) -> None:
            check = Dkim(resolver, clock)  # the message is parsed anew, nothing but the DNS is remembered
            assert (await check.verify(Message.from_octets(octets)))[0].result is Result.PASS

        row(name, await price(dkim_once, times), goal)

    trap = Message.from_octets(hostile())
    traps = Resolver(Zone(TRAPS), clock)

    async def trap_once() -> None:
        assert (await Dkim(traps, clock).verify(trap))[0].result is Result.FAIL

    row("DKIM, hostile: see the source", await price(trap_once, 3), 20.0)
    sealer = Sealer("sender.example", "s1", key)
    mail = Message.from_octets(signed(key, 4_000, PLAIN))

    async def seal_once() -> None:
        assert await sealer.seal(mail, (), "mx.example.com", ["spf=pass", "arc=none"], ArcFact(Result.NONE), NOW)

    row("ARC seal rsa-2048, 4 KB", await price(seal_once, 50), 0.0)

    async def spf_once() -> None:
        assert (await check_host(resolver, "192.0.2.1", "mx.sender.example", "sue@sender.example")).result == "fail"

    row("SPF, five includes of ten networks", await price(spf_once, 500), 0.8)
    nothing = SpfFact(Result.NONE)
    aligned = DkimFact(Result.PASS, (Signature(Result.PASS, "sender.example", "s1"),))
    below = DkimFact(Result.PASS, (Signature(Result.PASS, "mail.sender.example", "s1"),))

    async def dmarc_once(identifiers: DkimFact = aligned) -> None:
        assert (await judge(resolver, ["sender.example"], nothing, identifiers)).result is Result.PASS

    row("DMARC, identical domain", await price(dmarc_once, 2_000), 0.1)
    row("DMARC, aligned by a second walk", await price(lambda: dmarc_once(below), 2_000), 0.1)
    await resolver.close()


if __name__ == "__main__":
    asyncio.run(main())
