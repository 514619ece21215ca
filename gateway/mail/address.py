"""Addresses of the envelope: mailboxes, paths and host names, by the strict grammar of RFC 5321.

Takes octets as they came and gives a `Mailbox` or raises `SyntaxRefused` with the reply to give; nothing else can
happen. Comments, unquoted specials, a second unquoted `@`, bare control octets, names that are no host names and
address literals that are no addresses are refused, because whatever one parser reads differently from the next one
is a way to spoof (SPF, Authentication-Results and the backend must all see one and the same domain).

RFC 5321 sections 4.1.2 (grammar), 4.1.3 (literals), 4.5.3.1 (lengths); RFC 6531 section 3.3 (UTF-8);
RFC 5890 and UTS 46 (domain names). Source routes are checked and dropped (RFC 5321 appendix C).
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

import idna

from gateway.mail.reply import Reply, SyntaxRefused

LOCAL_LIMIT = 64  # octets of a local part (RFC 5321 section 4.5.3.1.1)
NAME_LIMIT = 253  # characters of a domain: 255 octets in the DNS's own form
PATH_LIMIT = 256  # octets of a path with its brackets (RFC 5321 section 4.5.3.1.3)

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-"
_LOCAL = re.compile(rf'[{_ATEXT}]+(?:\.[{_ATEXT}]+)*|"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*"')
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PATH = re.compile(rb' ?<((?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>(?: (.*))?', re.DOTALL)

Kind = Literal["reverse", "forward"]
#: Enhanced status of a bad address (RFC 3463): bad sender's, bad destination mailbox syntax.
_STATUS: dict[Kind, str] = {"reverse": "5.1.7", "forward": "5.1.3"}


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox as the envelope names it.

    `local` is the text of the local part exactly as it came, quotes included. `domain` is in A-label form, lower
    case, without a final dot; or an address literal in brackets; or "" for the bare `<postmaster>` alone.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def canonical(self) -> str:
        """The one spelling of all that means this mailbox, for rules, lists and keys; never for the wire.

        Lower case, quoted pairs resolved, quotes only where they must stay: `"ceo"@a.example`, `"c\\eo"@a.example` and
        `CEO@a.example` are `ceo@a.example` (RFC 5321 section 4.1.2). Else a quote would be a way around a rule.
        """
        return f"{canonical_local(self.local)}@{self.domain}" if self.domain else self.local.lower()

    @property
    def is_utf8(self) -> bool:
        """True when the local part is not ASCII, so that only SMTPUTF8 can carry it."""
        return not self.local.isascii()

    @classmethod
    def parse(cls, octets: bytes, *, smtputf8: bool = False) -> "Mailbox":
        """The mailbox that the whole of `octets` is. Raises `SyntaxRefused` (501 5.1.3, 553 5.6.7)."""
        return _mailbox(octets, smtputf8, "forward")


def canonical_local(local: str) -> str:
    """A local part in its one spelling, see `Mailbox.canonical`."""
    if not local.startswith('"'):
        return local.lower()
    meaning = re.sub(r"\\(.)", r"\1", local[1:-1])
    dotted = _LOCAL.fullmatch(meaning)
    if dotted is not None and not meaning.startswith('"'):
        return meaning.lower()
    escaped = meaning.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped.lower()}"'


def parse_path(argument: bytes, *, smtputf8: bool, what: Kind) -> tuple[Mailbox | None, bytes]:
    """The path that `argument` (what follows `FROM:` or `TO:`) starts with, and the parameters after it.

    `None` is the null reverse-path `<>`. One space before the bracket is tolerated, as half the world sends it; the
    brackets are required.
    """
    match = _PATH.fullmatch(argument)
    if match is None:
        raise _refused(what, "the address belongs in angle brackets: <user@example.com>")
    path, rest = match[1], (match[2] or b"").strip(b" ")
    if not path:
        if what == "reverse":
            return None, rest
        raise _refused(what, "a recipient is needed")
    if what == "forward" and path.lower() == b"postmaster":  # RFC 5321 section 4.1.1.3
        return Mailbox(path.decode("ascii"), ""), rest
    return _mailbox(_without_route(path, smtputf8, what), smtputf8, what), rest


def to_ascii(domain: str) -> str:
    """`domain` as A-labels in lower case without a final dot.

    Raises `ValueError` where it is no host name: letters, digits and hyphens in labels of at most 63 octets, 253 in
    all; and never a dotted-decimal address (RFC 1123 section 2.1), which a resolver may take for one.
    """
    name = domain.lower() if domain.isascii() else _mapped(domain)
    name = name.removesuffix(".")
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        raise ValueError("not a host name")
    if name[name.rfind(".") + 1 :].isdigit():
        raise ValueError("not a host name: its last label is a number")
    return name


def _mapped(domain: str) -> str:
    if len(domain) > NAME_LIMIT + 1:
        raise ValueError("not a host name: too long")
    # UTS 46 maps before IDNA 2008 validates, and its STD3 rules keep ASCII to letters, digits, hyphens.
    return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()


def _mailbox(octets: bytes, smtputf8: bool, what: Kind) -> Mailbox:
    if len(octets) > PATH_LIMIT - 2:
        raise _refused(what, "the address is too long")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused(what, "the address is neither ASCII nor UTF-8") from None
    if not text.isascii():
        if not smtputf8:
            raise SyntaxRefused(Reply(553, "5.6.7", ("A UTF-8 address needs SMTPUTF8",)))
        # Net-Unicode (RFC 5198 section 2) has no C1 controls; no log and no terminal wants line separators.
        if any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in text if c > "\x7f"):
            raise _refused(what, "the address has control characters")
    local = _LOCAL.match(text)
    if local is None or not text.startswith("@", local.end()):
        raise _refused(what, "the local part is not well formed")
    if len(local[0].encode()) > LOCAL_LIMIT:
        raise _refused(what, "the local part is longer than 64 octets")
    mailbox = Mailbox(local[0], _domain(text[local.end() + 1 :], what))
    if len(str(mailbox).encode()) > PATH_LIMIT - 2:  # A-labels may be longer than what came
        raise _refused(what, "the address is too long")
    return mailbox


def _domain(text: str, what: Kind) -> str:
    if text.startswith("["):
        literal = address_literal(text)
        if not literal:
            raise _refused(what, "the address literal is not well formed")
        return literal
    try:
        return to_ascii(text)
    except ValueError:
        raise _refused(what, "the domain is not a host name") from None


def address_literal(text: str) -> str:
    """`text` as an address literal in one form ("[192.0.2.1]", "[IPv6:2001:db8::1]"); "" when it is none.

    Tags other than `IPv6` are refused: none is registered (RFC 5321 section 4.1.3).
    """
    if len(text) > 64 or not (text.startswith("[") and text.endswith("]")):
        return ""
    inner = text[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:  # a zone index means something on one machine only (RFC 4007)
                return ""
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        return ""


def _without_route(path: bytes, smtputf8: bool, what: Kind) -> bytes:
    """`path` without a leading source route `@a.example,@b.example:`; the route must be well formed all the same."""
    if not path.startswith(b"@"):
        return path
    route, colon, mailbox = path.partition(b":")
    if not colon:
        raise _refused(what, "the local part is missing")
    for hop in route.split(b","):
        if not hop.startswith(b"@"):
            raise _refused(what, "the source route is not well formed")
        # Read as an address of that domain: same grammar, same refusals.
        _mailbox(b"a" + hop, smtputf8, what)
    return mailbox


def _refused(what: Kind, why: str) -> SyntaxRefused:
    return SyntaxRefused(Reply(501, _STATUS[what], (f"Bad {'sender' if what == 'reverse' else 'recipient'}: {why}",)))
