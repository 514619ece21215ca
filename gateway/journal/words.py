"""The words under which the journal finds an entry: who sent it, for whom, from where, which rules had a hand in it.

A word is a kind, a colon and a value in a form that sorts: addresses as "domain@local", so that one index answers for
an address and for all of its domain; clients as hexadecimal, so that a network is a range. Everything in lower case.
Written by `writer`, asked for by `reader`.
"""

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.journal.entry import Entry

#: Words of one entry; a message may have a thousand recipients.
_MOST = 300
_LENGTH = 330


@dataclass(frozen=True, slots=True)
class Span:
    """The words from `first` up to, and not with, `end`."""

    first: str
    end: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to search for; "" is anything. All that is given must hold."""

    sender: str = ""  # an address, a domain, "<>" for the null reverse-path
    recipient: str = ""  # an address or a domain
    client: str = ""  # an address or a network
    rule: str = ""
    id: str = ""  # or how it begins
    outcome: str = ""
    since: float = 0.0
    until: float = 0.0  # 0.0: now

    def spans(self) -> Iterator[Span]:
        """The ranges of words of which an entry must have one each. Raises `ValueError` for what is no address."""
        if self.sender:
            yield Span("s:", "s:\0") if self.sender == "<>" else _party("s", self.sender)
        if self.recipient:
            yield _party("r", self.recipient)
        if self.client:
            network = ipaddress.ip_network(self.client, strict=False)
            yield Span(_client(network.network_address), _client(network.broadcast_address) + "\0")
        if self.rule:
            yield Span(word := _cut(f"u:{self.rule.lower()}"), word + "\0")


def words(entry: Entry) -> list[str]:
    """Those of an entry, each once."""
    found = {f"s:{_turned(entry.sender)}"}
    found.update(f"u:{rule.lower()}" for rule in (entry.rule, *entry.fired) if rule)
    found.update(f"u:{verdict.rule.lower()}" for verdict in entry.verdicts if verdict.rule)
    found.update(f"u:{rule.lower()}" for rule, _ in entry.observed)
    with contextlib.suppress(ValueError):  # a client without an address is found by the rest
        found.add(_client(ipaddress.ip_address(entry.client)))
    for recipient in entry.recipients:
        if len(found) >= _MOST:
            break
        found.add(f"r:{_turned(recipient)}")
    return [_cut(word) for word in found]


def _party(kind: str, text: str) -> Span:
    text = text.strip().removeprefix("<").removesuffix(">")
    if "@" in text.strip("@"):
        word = _cut(f"{kind}:{_turned(text)}")
        return Span(word, word + "\0")
    domain = text.strip("@").lower()
    return Span(_cut(f"{kind}:{domain}@"), _cut(f"{kind}:{domain}A"))  # "A" is what follows "@"


def _turned(address: str) -> str:
    local, at, domain = address.lower().rpartition("@")
    return f"{domain}{at}{local}"


def _client(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"c:{address.version}{address.packed.hex()}"


def _cut(word: str) -> str:
    return word[:_LENGTH].encode("utf-8", "backslashreplace").decode()
