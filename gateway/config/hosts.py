"""Names and addresses as operators type them: host:port, host names, domains of mail.

Domains become A-labels in lower case (RFC 5890), so that everything behind compares octets.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from gateway.mail.address import Mailbox, to_ascii
from gateway.mail.reply import SyntaxRefused
from gateway.yamlfile import Fault
from gateway.yamlfile.problem import shown

_PORT = re.compile(r"[0-9]{1,5}")
_BACKEND = re.compile(r"[A-Za-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name (A-labels) or an address without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address, or None where the host is a name."""
        return _address(self.host)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _text(value: object, example: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise Fault("text was expected here" if value is not None else "a value is missing here", f"write it as {example}")


def _host_port(value: object, example: str) -> HostPort:
    text = _text(value, example)
    host, colon, port = text.rpartition(":")
    if "://" in text:
        raise Fault(f"{shown(text)} is a URL", f"write it as {example}")
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or not isinstance(_address(inner), ipaddress.IPv6Address):
            raise Fault(f"{shown(text)} is no IPv6 address with a port", "write it as [2001:db8::25]:25")
        host, colon, port = inner, rest[:1], rest[1:]
    elif text.count(":") > 1:
        hint = f"write [{host}]:{port}" if _address(host) else f"write it as {example}"
        raise Fault(f"{shown(text)}: an IPv6 address stands in brackets before its port", hint)
    if colon != ":":
        raise Fault(f"{shown(text)} has no port", f"write {text}:25")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise Fault(f"{shown(port)} is no port", "ports are numbers from 1 to 65535")
    if not host or host == "*":
        raise Fault(f"{shown(text)} has no address", f"write 0.0.0.0:{port} and [::]:{port} for every address")
    if _address(host):
        return HostPort(str(_address(host)), int(port))
    try:
        return HostPort(to_ascii(host), int(port))
    except ValueError:
        raise Fault(f"{shown(host)} is neither an address nor a host name", f"write it as {example}") from None


def parse_bind(value: object) -> HostPort:
    """Where to listen: an address of this machine. Port 0 lets the kernel choose (for trials)."""
    bind = _host_port(value, "0.0.0.0:25")
    if bind.address is None and bind.host != "localhost":
        raise Fault(f"{shown(bind.host)} is no address", "listen on an IP address of this machine, as in 0.0.0.0:25")
    return bind


def parse_target(value: object) -> HostPort:
    """Whom to connect to."""
    target = _host_port(value, "mail1.example.com:25")
    if target.port == 0:
        raise Fault("port 0 cannot be connected to", "ports are numbers from 1 to 65535")
    if target.address is not None and target.address.is_unspecified:
        raise Fault(f"{target.host} is no address to connect to", "name the mail server")
    return target


def parse_exchange(value: object) -> HostPort:
    """A domain whose MX records are asked for, and the port of its hosts (25)."""
    text = _text(value, "example.net")
    exchange = _host_port(text if ":" in text else f"{text}:25", "example.net")
    if exchange.address is not None or exchange.host == "localhost":
        raise Fault(f"{shown(exchange.host)} is no domain", "addresses belong into hosts: [ADDRESS:PORT]")
    if exchange.port == 0:
        raise Fault("port 0 cannot be connected to", "ports are numbers from 1 to 65535")
    return exchange


def parse_host(value: object) -> str:
    """A host name as A-labels."""
    text = _text(value, "mx.example.com")
    try:
        return to_ascii(text)
    except ValueError:
        hint = "a name is wanted, not an address" if _address(text.strip("[]")) else "write it as mx.example.com"
        raise Fault(f"{shown(text)} is no host name", hint) from None


def parse_domain(value: object) -> str:
    """A mail domain, or `*.` and one: its subdomains."""
    text = _text(value, "example.com")
    parent = text.removeprefix("*.")
    if text in ("*", "*."):
        raise Fault("'*' would make this an open relay", "name the domains you receive mail for")
    if "@" in text:
        raise Fault(f"{shown(text)} is an address, not a domain", f"write {text.rpartition('@')[2] or 'example.com'}")
    try:
        return ("*." if parent != text else "") + to_ascii(parent)
    except ValueError:
        raise Fault(f"{shown(text)} is no domain", "write it as example.com or *.example.com") from None


def parse_server(value: object) -> str:
    """A DNS server: an address, perhaps with a port. A name would have to be asked of itself."""
    text = _text(value, "192.0.2.53")
    if address := _address(text[1:-1] if text.startswith("[") and text.endswith("]") else text):
        return str(address)
    try:
        server = _host_port(text, "192.0.2.53:53")
    except Fault:
        server = None
    if server is None or server.address is None or server.port == 0:
        raise Fault(f"{shown(text)} is no address of a DNS server", "write it as 192.0.2.53 or [2001:db8::53]:53")
    return str(server)


def parse_mailbox(value: object) -> str:
    """A mailbox, as it goes on the wire."""
    text = _text(value, "quarantine@example.com")
    local, at, domain = text.rpartition("@")
    hint = "write it as quarantine@example.com"
    if not at or not local or domain.startswith("["):
        raise Fault(f"{shown(text)} is no address with a domain", hint)
    try:
        return str(Mailbox.parse(f"{local}@{to_ascii(domain)}".encode()))
    except SyntaxRefused as refused:
        raise Fault(f"{shown(text)} is no address: {refused}", hint) from None
    except ValueError:
        raise Fault(f"{shown(text)} is no address: {shown(domain)} is no domain", hint) from None


def _backend_name(name: str) -> str:
    if not _BACKEND.fullmatch(name):
        raise Fault(f"{shown(name)} is no name of a backend", "use letters, digits, '-' and '_', at most 63")
    return name


_STRING = {"type": "string", "minLength": 1}
_HOST_PORT = {"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):[0-9]{1,5}$"}
DOMAIN = {"type": "string", "pattern": r"^(\*\.)?[^*@\s]+$"}

Bind = Annotated[HostPort, PlainValidator(parse_bind), PlainSerializer(str), WithJsonSchema(_HOST_PORT)]
Target = Annotated[HostPort, PlainValidator(parse_target), PlainSerializer(str), WithJsonSchema(_HOST_PORT)]
Exchange = Annotated[HostPort, PlainValidator(parse_exchange), PlainSerializer(str), WithJsonSchema(_STRING)]
Host = Annotated[str, PlainValidator(parse_host), WithJsonSchema({**_STRING, "examples": ["mx.example.com"]})]
Domain = Annotated[str, PlainValidator(parse_domain), WithJsonSchema(DOMAIN)]
Server = Annotated[str, PlainValidator(parse_server), WithJsonSchema(_STRING)]
MailboxText = Annotated[str, PlainValidator(parse_mailbox), WithJsonSchema(_STRING)]
BackendName = Annotated[str, AfterValidator(_backend_name)]
