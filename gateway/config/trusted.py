"""The shape of `proxy_protocol:` and `xclient:`: whose word about the client is believed."""

import ipaddress
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from gateway.config.backend import one_or_more
from gateway.yamlfile import Fault, Model
from gateway.yamlfile.problem import shown
from gateway.yamlfile.wording import named

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(value: object) -> Network:
    """A network with its prefix, or a single address."""
    text = shown(value) if isinstance(value, str) else named(value)
    try:
        network = ipaddress.ip_network(value) if isinstance(value, str) else None
    except ValueError as why:
        if isinstance(value, str) and "host bits set" in str(why):
            meant = ipaddress.ip_network(value, strict=False)
            raise Fault(f"{text} has bits behind its prefix", f"write {meant}") from None
        network = None
    if network is None:
        raise Fault(f"{text} is no network", "write it as 10.0.0.0/8 or 2001:db8::/32, or as one address")
    if network.prefixlen == 0:
        raise Fault(f"{text} is everybody: any client could name itself as it likes", "name your proxies")
    return network


One = Annotated[
    Network, PlainValidator(parse_network), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]


class Trusted(Model):
    """Networks of proxies that are yours."""

    networks: Annotated[
        tuple[One, ...],
        BeforeValidator(one_or_more, json_schema_input_type=One | list[One]),
        Field(min_length=1, alias="from"),
    ]
    """Their addresses: [10.0.0.0/8]. A header from anywhere else closes the connection."""
