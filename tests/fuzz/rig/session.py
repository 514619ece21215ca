"""The second opinion's idea of a session: which commands may be taken when, and what they change.

Every method is told of a command that the server took, and raises `AssertionError` where no strict server may. RFC
5321 section 4.1, with 1870, 3030, 3207, 3461, 6152, 6531 and XCLIENT. Not a line of `gateway`; used by `reference`.
"""

import re
from dataclasses import dataclass, field

from tests.fuzz.rig.readings import Reply, address, attributes, check_parameter, parameters, path

#: What must be taken: nothing about these is a matter of opinion.
PLAIN_SENDER = re.compile(rb"MAIL FROM:<(?:[a-m]\d?@sender\.example)?>")
PLAIN_RECIPIENT = re.compile(rb"RCPT TO:<u\d@example\.com>")
#: What may be said before TLS where that is required.
BEFORE_TLS = frozenset({"EHLO", "HELO", "NOOP", "STARTTLS", "QUIT", "RSET", "XCLIENT"})
KNOWN = BEFORE_TLS | {"MAIL", "RCPT", "DATA", "BDAT", "VRFY", "HELP"}
#: Address, HELO, whether by ESMTP, whether inside TLS.
Client = tuple[str, str, bool, bool]


@dataclass(frozen=True, slots=True)
class Terms:
    """Of the server's configuration what decides how it must answer, and where the client comes from."""

    starttls: str
    implicit: bool
    ip: str
    proxy: bool
    xclient: bool
    hostname: str
    message: int
    recipients: int


@dataclass(slots=True)
class Mail:
    """A transaction: its commands as the relay must say them, and its content."""

    sender: str
    words: list[str]
    plain: bool  # nothing in it may be refused
    client: Client
    recipients: list[str] = field(default_factory=list)
    backend: str = ""
    content: bytes = b""
    chunked: bool = False
    code: int = 0  # the reply to its end


class Session:
    """One session as a strict server keeps it."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.ip = terms.ip
        self.helo = self.told_helo = ""
        self.greeted = self.esmtp = False
        self.tls = terms.implicit
        self.trusted = terms.xclient
        self.mail: Mail | None = None
        self.content = False  # DATA is under way
        self.shaking = False  # a handshake is due

    def introduced(self, ip: str) -> None:
        """A proxy told who the client is; "" says that it is the proxy."""
        self.ip = ip or self.ip
        self.trusted = self.trusted and self.ip == self.terms.ip
        self.shaking = self.terms.implicit

    def secured(self) -> None:
        """The handshake is done: all that was said is forgotten (RFC 3207 section 4.2)."""
        self.shaking, self.tls = False, True
        self.forget()

    def forget(self) -> None:
        """Nobody has said anything yet."""
        self.greeted = self.esmtp = False
        self.helo = self.told_helo
        self.mail = None

    def taken(self, name: str, argument: bytes, reply: Reply) -> None:
        """The command was answered with a positive reply."""
        assert name in KNOWN, f"{reply} to {name}"
        assert self.tls or self.terms.starttls != "required" or name in BEFORE_TLS, f"{name} in clear text"
        getattr(self, f"_on_{name.lower()}")(argument.rstrip(b" \t"), reply)

    def plain(self, name: str, line: bytes) -> bool:
        """True where a refusal is wrong: a plain command in its turn."""
        if self.terms.starttls == "required" and not self.tls and name not in BEFORE_TLS:
            return False
        mail = self.mail
        match name:
            case "EHLO" | "HELO":
                return line == name.encode() + b" client.example"
            case "MAIL":
                return self.greeted and mail is None and PLAIN_SENDER.fullmatch(line) is not None
            case "RCPT":
                fits = mail is not None and mail.plain and not mail.chunked
                return fits and len(mail.recipients) < self.terms.recipients and bool(PLAIN_RECIPIENT.fullmatch(line))
            case "DATA":
                return mail is not None and bool(mail.recipients) and not mail.chunked and line == b"DATA"
            case "RSET" | "NOOP" | "QUIT":
                return line == name.encode()
        return False

    def _on_ehlo(self, argument: bytes, reply: Reply) -> None:
        self._hello(argument, reply, esmtp=True)
        words = [line.split(" ")[0] for line in reply.lines]
        assert words[0] == self.terms.hostname
        assert ("STARTTLS" in words) == (not self.tls and self.terms.starttls != "off")
        assert ("XCLIENT" in words) == self.trusted
        assert "AUTH" not in words

    def _on_helo(self, argument: bytes, reply: Reply) -> None:
        self._hello(argument, reply, esmtp=False)
        assert len(reply.lines) == 1

    def _hello(self, argument: bytes, reply: Reply, *, esmtp: bool) -> None:
        expect(reply, 250, status=False)
        assert re.fullmatch(rb" [!-~]+", argument), argument
        self.greeted, self.esmtp, self.mail = True, esmtp, None
        self.helo = self.told_helo or argument[1:].decode("ascii")

    def _on_mail(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 250)
        assert self.greeted
        assert self.mail is None
        local, domain, words = path(argument, b" FROM:")
        assert self.esmtp or not words
        given = parameters(words)
        for key, value in given.items():
            assert key not in {"NOTIFY", "ORCPT"}
            check_parameter(key, value, self.terms.message)
        assert local.isascii() or "SMTPUTF8" in given
        kept = ["BODY=8BITMIME"] * (given.get("BODY", "").upper() == "8BITMIME") + ["SMTPUTF8"] * ("SMTPUTF8" in given)
        kept += [f"{key}={value}" for key, value in given.items() if key in {"RET", "ENVID"}]
        sender = f"{local}@{domain}" if local else ""
        client = (self.ip, self.helo, self.esmtp, self.tls)
        self.mail = Mail(sender, kept, PLAIN_SENDER.fullmatch(b"MAIL" + argument) is not None, client)

    def _on_rcpt(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 250)
        mail = self.mail
        assert mail is not None
        assert not mail.chunked
        assert len(mail.recipients) < self.terms.recipients
        local, domain, words = path(argument, b" TO:")
        assert local
        assert self.esmtp or not words
        for key, value in parameters(words).items():
            assert key in {"NOTIFY", "ORCPT"}
            check_parameter(key, value, self.terms.message, utf8="SMTPUTF8" in mail.words)
        assert local.isascii() or "SMTPUTF8" in mail.words
        backend = backend_of(domain) if domain else "main"
        assert backend, f"an open relay: {argument!r}"
        assert mail.backend in {"", backend}
        mail.backend = backend
        given = [f"{key}={value}" for key, value in parameters(words).items()]
        mail.recipients.append(" ".join([f"RCPT TO:<{local}@{domain}>" if domain else f"RCPT TO:<{local}>", *given]))
        mail.plain = mail.plain and PLAIN_RECIPIENT.fullmatch(b"RCPT" + argument) is not None

    def _on_data(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 354, status=False)
        assert not argument
        assert self.mail is not None
        assert self.mail.recipients
        assert not self.mail.chunked
        self.content = True

    def _on_rset(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 250)
        assert not argument
        self.mail = None

    def _on_noop(self, _: bytes, reply: Reply) -> None:
        expect(reply, 250)

    def _on_vrfy(self, _: bytes, reply: Reply) -> None:
        expect(reply, 252)

    def _on_help(self, _: bytes, reply: Reply) -> None:
        expect(reply, 214)

    def _on_quit(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 221)
        assert not argument

    def _on_starttls(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 220)
        assert not argument
        assert not self.tls
        assert self.terms.starttls != "off"
        self.shaking, self.mail = True, None

    def _on_xclient(self, argument: bytes, reply: Reply) -> None:
        expect(reply, 220, status=False)
        assert self.trusted
        assert self.mail is None
        told = attributes(argument[1:])
        self.ip = address(told["ADDR"]) if "ADDR" in told else self.ip
        self.trusted = self.ip == self.terms.ip
        self.told_helo = told.get("HELO", self.told_helo)
        self.forget()


def expect(reply: Reply, code: int, *, status: bool = True) -> None:
    """That code, with an enhanced status or without one."""
    assert reply.code == code, reply
    assert bool(reply.status) == status, reply


def backend_of(domain: str) -> str:
    """Who gets the mail of that domain; "" when nobody does."""
    if domain in {"example.com", "xn--bcher-kva.example"} or domain.endswith(".example.org"):
        return "main"
    return "second" if domain == "other.example" else ""
