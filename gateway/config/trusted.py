"""The shape of `proxy_protocol:`, `xclient:` and `client_certificates:`: whose word about the client is believed."""

import ipaddress
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from gateway.config import certificate as pem
from gateway.config.backend import one_or_more
from gateway.config.paths import ReadFile, read_bytes
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


class ClientCertificates(Model):
    """Clients are asked for a certificate; whatever they show, they are let in, and policies know of it."""

    ca: ReadFile | None = None
    """PEM file of the authorities whose certificates pass; without it none does, and fingerprints alone tell."""

    @model_validator(mode="after")
    def _authorities(self, info: ValidationInfo) -> "ClientCertificates":
        if self.ca is not None:
            try:
                pem.certificates(read_bytes(self.ca, info))
            except Fault as fault:
                raise Fault(fault.what, fault.hint, at=("ca",)) from None
        return self


def _asking(value: object) -> object:
    if value in ("ask", "off"):
        return {} if value == "ask" else None
    if value is None or isinstance(value, dict | ClientCertificates):
        return value
    raise Fault(f"'client_certificates' must be ask, off or a file, not {named(value)}", "write ask, or {ca: FILE}")


Asked = Annotated[
    ClientCertificates | None,
    BeforeValidator(_asking, json_schema_input_type=Literal["ask", "off"] | ClientCertificates | None),
]
