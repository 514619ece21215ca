"""XCLIENT: a trusted proxy tells who the client is, and from then on it is that client.

Attributes are strict; what the proxy cannot say (`[UNAVAILABLE]`) stays as it was. NAME, LOGIN and PROTO are read and
dropped: names are looked up by us, nobody logs in here, and EHLO or HELO comes again. Offered to trusted networks
alone; from anybody else the command ends the connection. So does a second one, for the client that the first has told
is trusted no more, unless its address is: a proxy that passes commands on as they came (nginx) would let its clients
choose who they are. (Postfix goes on trusting the connection.)

Postfix XCLIENT_README; RFC 3461 section 4 (xtext). Called by `protocol`.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp.census import canonical
from gateway.smtp.parameters import xtext

OFFER = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
_VALUE_LIMIT = 255
_ABSENT = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})


@dataclass(frozen=True, slots=True)
class Attributes:
    """What was told; empty or zero where nothing was."""

    ip: str = ""
    port: int = 0
    helo: str = ""
    server_ip: str = ""
    server_port: int = 0


def attributes(argument: bytes) -> Attributes:
    """The attributes of the command. Raises `SyntaxRefused`."""
    told: dict[str, str | int] = {}
    seen: set[str] = set()
    for word in argument.split(b" "):
        name, equals, value = word.partition(b"=")
        key = name.decode("ascii", "replace").upper()
        if not equals or key not in _READ or key in seen or len(value) > _VALUE_LIMIT:
            raise _bad()
        seen.add(key)
        try:
            text = xtext(value)
            if text.upper() in _ABSENT:
                continue
            field, read = _READ[key]
            if field:
                told[field] = read(text)
            else:
                read(text)
        except ValueError:
            raise _bad() from None
    return Attributes(**told)  # type: ignore[arg-type] # by _READ each has its type


def _address(text: str) -> str:
    if text[:5].upper() == "IPV6:":
        address = ipaddress.IPv6Address(text[5:])
        if address.scope_id is not None:
            raise ValueError("a zone index")
        return canonical(str(address.ipv4_mapped or address))
    return str(ipaddress.IPv4Address(text))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError("no port")
    return int(text)


def _visible(text: str) -> str:
    if not text or not all("!" <= character <= "~" for character in text):
        raise ValueError("not visible")
    return text


def _protocol(text: str) -> str:
    if text.upper() not in {"SMTP", "ESMTP"}:
        raise ValueError("no protocol")
    return text


_READ: dict[str, tuple[str, Callable[[str], str | int]]] = {
    "ADDR": ("ip", _address),
    "PORT": ("port", _port),
    "HELO": ("helo", _visible),
    "DESTADDR": ("server_ip", _address),
    "DESTPORT": ("server_port", _port),
    "NAME": ("", _visible),
    "LOGIN": ("", _visible),
    "PROTO": ("", _protocol),
}


def _bad() -> SyntaxRefused:
    return SyntaxRefused(Reply(501, "5.5.4", ("Bad attributes",)))
