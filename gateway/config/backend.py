"""The shape of `backends:`: where the mail servers are, how each proves who it is, and what we tell it.

There is no way to switch verification off: every `verify` needs something that only the right server can show.
Checks that concern several keys stand here with their model.
"""

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from gateway.config import certificate as pem
from gateway.config.hosts import Exchange, Host, Target
from gateway.config.paths import ReadFile, read_bytes
from gateway.yamlfile import Count, Fault, Model, duration
from gateway.yamlfile.problem import shown
from gateway.yamlfile.wording import named

_PIN = re.compile(r"(certificate|key):([0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31})")
_PIN_HINT = "write key:HEX or certificate:HEX with the SHA-256 digest, 64 hex digits; `gatepost doctor` prints both"


def one_or_more(value: object) -> object:
    """A list, or its only member."""
    return value if isinstance(value, list) else [value]


def distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    """Raises `Fault` where one stands twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise Fault(f"{value} is named twice", "keep one of them", at=(index,))
    return values


def _version(value: object) -> str:
    # Without quotes it is a number, and clear all the same.
    if str(value) in ("1.2", "1.3"):
        return str(value)
    raise Fault(
        f"TLS {value} is not spoken" if isinstance(value, float) else "no version of TLS", 'write "1.2" or "1.3"'
    )


def _verification(value: object) -> object:
    if value == "off" or isinstance(value, dict):
        return value
    raise Fault("'verify_recipients' must be off or two durations", "write off, or {positive: 24h, negative: 30m}")


def _pin(value: object) -> str:
    match = _PIN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Fault(f"{shown(value) if isinstance(value, str) else named(value)} is no fingerprint", _PIN_HINT)
    return f"{match[1]}:{match[2].replace(':', '').lower()}"


Pin = Annotated[str, PlainValidator(_pin), WithJsonSchema({"type": "string", "pattern": f"^{_PIN.pattern}$"})]


class Certificate(Model):
    """A certificate chain, the owner's own first, and its key: PEM files."""

    certificate: ReadFile
    key: ReadFile

    @model_validator(mode="after")
    def _belong_together(self, info: ValidationInfo) -> "Certificate":
        try:
            pem.check_pair(read_bytes(self.certificate, info), read_bytes(self.key, info))
        except Fault as fault:
            raise Fault(fault.what, fault.hint, at=fault.at or ("certificate",)) from None
        return self


class BackendTls(Model):
    """How a backend proves who it is. There is no way to switch this off."""

    verify: Literal["pkix", "fingerprint", "dane"] = "pkix"
    """By a certificate authority, by fingerprints of its certificate or key, or by TLSA records (RFC 7672)."""
    ca: ReadFile | None = None
    """PEM file of the authorities to trust; the system's when left out."""
    name: Host | None = None
    """The name the certificate must be for; the host's own when left out."""
    fingerprints: Annotated[
        tuple[Pin, ...],
        BeforeValidator(one_or_more, json_schema_input_type=Pin | list[Pin]),
        Field(max_length=100),
        AfterValidator(distinct),
    ] = ()
    """For `verify: fingerprint`: "key:HEX" or "certificate:HEX", SHA-256; any one of them will do."""
    client_certificate: Certificate | None = None
    """What we show to a backend that asks who we are."""
    minimum: Annotated[
        Literal["1.2", "1.3"], BeforeValidator(_version), WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]})
    ] = "1.2"
    """The oldest version of TLS to speak."""

    @model_validator(mode="after")
    def _authorities(self, info: ValidationInfo) -> "BackendTls":
        if self.ca is not None:
            try:
                pem.certificates(read_bytes(self.ca, info))
            except Fault as fault:
                raise Fault(fault.what, fault.hint, at=("ca",)) from None
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "BackendTls":
        if self.verify == "fingerprint":
            if not self.fingerprints:
                raise Fault("verify: fingerprint needs fingerprints", f"add fingerprints: [key:HEX]; {_PIN_HINT}")
            if self.ca or self.name:
                key = "ca" if self.ca else "name"
                raise Fault(f"'{key}' is not looked at with verify: fingerprint", "remove it", at=(key,))
        elif self.fingerprints:
            hint = "write verify: fingerprint, or remove them"
            raise Fault(f"fingerprints are not looked at with verify: {self.verify}", hint, at=("fingerprints",))
        if self.verify == "dane" and self.name:
            hint = "remove it: with DANE the name is that of the TLSA records"
            raise Fault("'name' is not looked at with verify: dane", hint, at=("name",))
        return self


class VerifyRecipients(Model):
    """How long a backend's answer to RCPT is remembered."""

    positive: Annotated[float, *duration("0s", "365d")] = Field(default="24h", validate_default=True)
    negative: Annotated[float, *duration("0s", "365d")] = Field(default="30m", validate_default=True)


class Backend(Model):
    """A group of equal mail servers."""

    hosts: Annotated[
        tuple[Target, ...],
        BeforeValidator(one_or_more, json_schema_input_type=Target | list[Target]),
        Field(min_length=1),
        AfterValidator(distinct),
        PlainSerializer(lambda hosts: [str(host) for host in hosts] or None),
    ] = Field(default=())
    """Where they are: "mail1.example.com:25". Either these or `mx`."""
    mx: Exchange | None = None
    """A domain whose MX records name them (RFC 5321 section 5.1); "example.net", or with a port other than 25."""
    order: Literal["failover", "round_robin"] = "failover"
    """`failover`: the first of `hosts` that is well gets all. `round_robin`: they take turns."""
    tls: BackendTls = BackendTls()
    tell_client: Literal["off", "xclient", "xforward"] = "off"
    """Tell a backend that offers it who the client was: it becomes the client (xclient), or logs it (xforward)."""
    verify_recipients: Annotated[
        Annotated[VerifyRecipients, Tag("on")] | Annotated[Literal["off"], Tag("off")],
        Discriminator(lambda value: "off" if value == "off" else "on"),
        BeforeValidator(_verification),
    ] = VerifyRecipients()
    """Ask the backend at RCPT whether it knows the recipient, and remember the answer; or `off`."""
    connections: Annotated[Count, Field(le=10_000)] = 20
    """Pooled connections to each host, over all workers."""

    @model_validator(mode="after")
    def _one_way(self) -> "Backend":
        if self.mx and self.hosts:
            raise Fault("hosts and mx exclude each other", "remove one of them", at=("mx",))
        if not self.mx and not self.hosts:
            raise Fault("a backend needs hosts", 'add hosts: ["mail1.example.com:25"], or mx: example.net', key=True)
        if self.mx and "order" in self.model_fields_set and self.order == "round_robin":
            hint = "remove it: hosts of equal preference take turns by themselves"
            raise Fault("the order of mx is that of its preferences", hint, at=("order",))
        if self.tls.verify == "dane":
            if self.tls.ca and not self.mx:
                hint = "remove it: TLSA records alone decide; only mx has a second way (MTA-STS)"
                raise Fault("'ca' is not looked at with verify: dane", hint, at=("tls", "ca"))
            for index, host in enumerate(self.hosts):
                if host.address is not None or host.host == "localhost":
                    hint = "TLSA records belong to names: write the host's name"
                    raise Fault(f"{host.host} can have no TLSA records", hint, at=("hosts", index))
        return self
