"""The `dnsbl:` section: which lists of addresses are asked, what each weighs, which of its replies count.

RFC 5782 section 2.1: a list answers with an address in 127.0.0.0/8 that says why. `replies` narrows that down:
`127.0.0.2-11`, `127.0.2-20.1-3`. Whatever the filter says, 127.255.255.0/24 is where lists put their own errors.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, Strict, WithJsonSchema

from gateway.mail.address import to_ascii
from gateway.yamlfile import Fault, Model, duration
from gateway.yamlfile.problem import shown
from gateway.yamlfile.wording import named

_FIELD = r"[0-9]{1,3}(?:-[0-9]{1,3})?"
_REPLY = re.compile(rf"({_FIELD})\.({_FIELD})\.({_FIELD})\.({_FIELD})")
_EXAMPLE = "write it as 127.0.0.4 or 127.0.0.2-11"
#: `IP.ZONE` must fit into 253 octets; the 32 nibbles of an IPv6 address take 64.
_ZONE_LIMIT = 253 - 64


@dataclass(frozen=True, slots=True)
class Replies:
    """A set of IPv4 addresses: for each of the four numbers the least and the most."""

    ranges: tuple[tuple[int, int], ...]

    def hold(self, address: str) -> bool:
        """True when the address, as the resolver spells it, is one of them."""
        return all(
            low <= int(octet) <= high for octet, (low, high) in zip(address.split("."), self.ranges, strict=True)
        )

    def __str__(self) -> str:
        return ".".join(f"{low}-{high}" if low != high else str(low) for low, high in self.ranges)


def parse_replies(value: object) -> Replies:
    """A filter as operators type it. Raises `Fault`."""
    if not isinstance(value, str):
        raise Fault(f"{named(value)} is no reply of a list", f"{_EXAMPLE}, in quotes")
    match = _REPLY.fullmatch(value)
    if match is None:
        raise Fault(f"{shown(value)} is no reply of a list", _EXAMPLE)
    ranges: list[tuple[int, int]] = []
    for text in match.groups():
        low, _, high = text.partition("-")
        ranges.append((int(low), int(high or low)))
        if not ranges[-1][0] <= ranges[-1][1] <= 255:
            raise Fault(f"{shown(text)} in {shown(value)} is no range of octets", _EXAMPLE)
    if ranges[0] != (127, 127):
        raise Fault(f"{shown(value)} is outside 127.0.0.0/8", "a list answers with 127.0.0.2 and the like (RFC 5782)")
    if ranges[1][1] == 255 and ranges[2][1] == 255:
        raise Fault(f"{shown(value)} covers 127.255.255.0/24", "there lists put their errors; they never count")
    return Replies(tuple(ranges))


def parse_zone(value: object) -> str:
    """The name of a list's zone, as A-labels."""
    if not isinstance(value, str) or not value:
        raise Fault("the name of a list is missing", "write it as bl.example.org")
    try:
        name = to_ascii(value)
    except ValueError:
        raise Fault(f"{shown(value)} is no domain", "write it as bl.example.org") from None
    if "." not in name or len(name) > _ZONE_LIMIT or name.endswith(".in-addr.arpa"):
        raise Fault(f"{shown(value)} is no zone of a list", "write it as bl.example.org")
    return name


def _weight(value: object) -> object:
    if value == 0 and not isinstance(value, bool):
        raise Fault("a weight of 0 has no effect", "remove the list, or give it a weight")
    return value


ZONE = {"type": "string", "pattern": r"^[^*@\s]+\.[^*@\s]+$"}
Zone = Annotated[str, PlainValidator(parse_zone), WithJsonSchema(ZONE)]
Reply = Annotated[
    Replies,
    PlainValidator(parse_replies),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_REPLY.pattern}$", "examples": ["127.0.0.2-11"]}),
]


def _one_or_more(value: object) -> object:
    return value if value is None or isinstance(value, list) else [value]


class DnsblZone(Model):
    """One list."""

    weight: Annotated[int, Strict(), Field(ge=-1000, le=1000), BeforeValidator(_weight)]
    """What a listing adds to `dnsbl.score`; below zero for a list of good addresses."""
    replies: Annotated[
        Annotated[tuple[Reply, ...], Field(min_length=1)] | None,
        BeforeValidator(_one_or_more, json_schema_input_type=Reply | list[Reply] | None),
    ] = None
    """The replies that count as a listing; every one when left out (127.0.0.0, 127.0.0.1 and errors excepted)."""


class Dnsbl(Model):
    """Lists of addresses in DNS: what they say of the client becomes `dnsbl.score` and `dnsbl.zones`."""

    zones: Annotated[dict[Zone, DnsblZone], Field(max_length=50, json_schema_extra={"propertyNames": ZONE})] = Field(
        default={}, validate_default=True
    )
    """The lists, by the name of their zone."""
    timeout: Annotated[float, *duration("100ms", "10s")] = Field(default="2s", validate_default=True)
    """How long one list may take; its word is then left out."""
