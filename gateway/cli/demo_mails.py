"""The mails of the demo: who sends what, what must be answered, and what the backend must have."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.cli.demo_world import CLEAN, FORWARDER, LIMIT, SPOOFER, STRANGER, World


@dataclass(frozen=True, slots=True)
class Sending:
    """One mail. `reply` is how the answer must begin; `delivered` whether the backend must have it, octet for octet."""

    what: str
    source: str
    helo: str
    sender: str
    octets: bytes
    reply: str
    delivered: bool = False
    recipient: str = "joe@example.com"
    declared: int = 0
    starttls: bool = False
    pause: float = 0.0
    #: More to see to: "" or what is wrong, from the octets that the backend got (b"" when it got none).
    see: Callable[[World, bytes], str] = lambda _world, _got: ""


def mail(author: str, subject: str, body: str = "Hello Joe,\r\n.. a line with dots\r\n", more: str = "") -> bytes:
    """A plain message."""
    head = f"From: {author}\r\nTo: joe@example.com\r\nSubject: {subject}\r\n{more}"
    return f"{head}Message-ID: <{abs(hash(subject)):x}@demo.example>\r\n\r\n{body}".encode()


def mails(world: World, wait: float) -> list[Sending]:
    """All of them, in their order."""
    sign = world.signer.sign
    clean = (CLEAN, "mail.clean.example", "a@clean.example")
    stranger = (STRANGER, "x.stranger.example", "s@stranger.example")
    spoofer = (SPOOFER, "mail.attacker.example", "x@attacker.example")
    unsigned = (CLEAN, "mail.clean.example", "u@unsigned.example")
    forwarder = (FORWARDER, "out.alumni.example", "a@clean.example")
    strict = (FORWARDER, "out.alumni.example", "a@strict.example")
    signed = sign(mail("Ann <a@clean.example>", "signed"))
    strange = mail("s@stranger.example", "from a stranger")
    spoofed = mail("Your Bank <service@bank.example>", "spoofed")
    large = mail("a@clean.example", "large", ("x" * 76 + "\r\n") * (LIMIT // 70))
    two_authors = mail("a@clean.example", "two authors", more="From: service@bank.example\r\n")
    smuggling = mail("a@clean.example", "smuggled", "bare\n.\nMAIL FROM:<x@y.example>\r\n")
    claim = "Authentication-Results: MX.Example.Com (trust me) 1; dmarc=pass header.from=bank.example\r\n"
    forged = sign(mail("a@clean.example", "forged", more=claim))
    plain = mail("u@unsigned.example", "unsigned")
    return [
        Sending("clean mail: SPF, DKIM and DMARC pass", *clean, signed, "250", True, see=_authenticated),
        Sending("the same over STARTTLS", *clean, signed, "250", True, starttls=True, see=_secure),
        Sending("a stranger, first attempt: greylisted", *stranger, strange, "451"),
        Sending("the stranger comes back", *stranger, strange, "250", True, pause=wait),
        Sending("spoofed From of a p=reject domain", *spoofer, spoofed, "550 5.7.26"),
        Sending("DKIM-signed, through a forwarder: SPF fails", *forwarder, signed, "250", True),
        Sending("SPF hard fail, unsigned", *strict, mail("a@strict.example", "spf"), "550 5.7.23"),
        Sending("unsigned, SPF passes, no DMARC", *unsigned, plain, "250", True),
        Sending("too large by its declared SIZE", *clean, signed, "552", declared=LIMIT + 1),
        Sending("too large by counted octets", *clean, large, "552"),
        Sending("relay attempt", *clean, signed, "550 5.7.1", recipient="joe@elsewhere.example"),
        Sending("unknown recipient", *clean, signed, "550 5.1.1", recipient="nobody@example.com"),
        Sending("two From fields", *clean, two_authors, "554 5.6.0"),
        Sending("bare LF: an attempt to smuggle", *clean, smuggling, "55"),
        Sending("forged Authentication-Results in our name", *clean, forged, "250", see=_forged),
        Sending("backend down", *clean, signed, "451 4.4.1", recipient="joe@down.example.com"),
        Sending("backend with a wrong certificate", *clean, signed, "451 4.7.5",
                recipient="joe@impostor.example.com", see=_nothing_in_clear),
    ]  # fmt: skip


def _authenticated(_: World, got: bytes) -> str:
    ours = got.partition(b"Received:")[0]
    wanted = (b"spf=pass", b"dkim=pass", b"dmarc=pass")
    return "" if all(word in ours for word in wanted) else "Authentication-Results lack a pass"


def _secure(_: World, got: bytes) -> str:
    return "" if b"with ESMTPS id" in got else "Received does not say ESMTPS"


def _forged(_: World, got: bytes) -> str:
    if b"trust me" in got:
        return "the forged field reached the backend"
    return "" if got.count(b"Authentication-Results: mx.example.com") == 1 else "our own field is missing"


def _nothing_in_clear(world: World, _: bytes) -> str:
    said = [
        line for line in world.impostor.clear_text if line.split(" ")[0].upper() not in {"EHLO", "STARTTLS", "QUIT"}
    ]
    return f"in clear text: {said}" if said or world.impostor.mails else ""
