"""The shape of `gatepost.yaml`: frozen models. The docstrings under the fields are the help of editors (JSON Schema).

Checks of one value are its validator's; what concerns several stands in `gateway.config.load`.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from gateway.config import certificate as pem
from gateway.config.authentication import Dmarc, Seal
from gateway.config.backend import Backend, Certificate, one_or_more
from gateway.config.dnsbl import Dnsbl
from gateway.config.hosts import DOMAIN, BackendName, Bind, Domain, Host, MailboxText, Server
from gateway.config.paths import ListFolder, PolicyFolder, ReadFile, WrittenFile, read_bytes
from gateway.config.state import Sqlite, State
from gateway.config.trusted import Asked, Trusted
from gateway.yamlfile import Bool, Count, Fault, Model, duration, size
from gateway.yamlfile.wording import named


def _workers(value: object) -> int | str:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 256):
        return value if isinstance(value, int) else "auto"
    raise Fault(f"'workers' must be auto or a number from 1 to 256, not {named(value)}", "write auto: one a core")


class Listener(Model):
    """Addresses to listen on, and the TLS they offer."""

    bind: Annotated[
        tuple[Bind, ...],
        BeforeValidator(one_or_more, json_schema_input_type=Bind | list[Bind]),
        Field(min_length=1),
    ]
    """One address or several: "0.0.0.0:25", "[::]:25"."""
    tls: Annotated[
        tuple[Certificate, ...],
        BeforeValidator(one_or_more, json_schema_input_type=Certificate | list[Certificate]),
    ] = ()
    """One certificate, or a list (ECDSA and RSA)."""
    starttls: Literal["offered", "required", "off"] = "offered"
    """Whether clients may or must say STARTTLS."""
    implicit_tls: Bool = False
    """TLS from the first octet, as on port 465."""
    client_certificates: Asked = None
    """`ask` clients for a certificate, or {ca: FILE}: no handshake fails for it, policies know `client.certificate`."""
    proxy_protocol: Trusted | None = None
    """Load balancers that begin each connection with a PROXY header (version 1 or 2); from others it is refused."""
    xclient: Trusted | None = None
    """Proxies that may say who the client is by XCLIENT."""

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("starttls") in ("implicit", "wrapper", "smtps"):
            hint = "for TLS from the first octet, as on port 465, write implicit_tls: true instead"
            raise Fault("STARTTLS begins in clear text", hint, at=("starttls",))
        # Where TLS is on from the start there is nothing to start.
        if isinstance(data, dict) and data.get("implicit_tls") is True and "starttls" not in data:
            return {**data, "starttls": "off"}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "Listener":
        if self.implicit_tls and self.starttls != "off":
            raise Fault("implicit_tls and starttls exclude each other", "remove one of them", at=("starttls",))
        if not self.tls and (self.implicit_tls or self.starttls != "off"):
            why = "implicit_tls needs" if self.implicit_tls else f"starttls: {self.starttls} needs"
            hint = "add tls: {certificate: FILE, key: FILE}"
            hint += "" if self.implicit_tls else ", or starttls: off"
            raise Fault(f"{why} a certificate", hint, key=True)
        if self.client_certificates is not None and not self.implicit_tls and self.starttls == "off":
            hint = "remove it, or write starttls: offered"
            raise Fault("client_certificates needs TLS", hint, at=("client_certificates",))
        return self

    @model_validator(mode="after")
    def _each_is_shown(self, info: ValidationInfo) -> "Listener":
        """OpenSSL has one place for each type of key: of two that are alike the first would never be seen."""
        kinds: dict[tuple[frozenset[str], str], Path] = {}
        for index, pair in enumerate(self.tls):
            chain = read_bytes(pair.certificate, info)
            names, kind = pem.dns_names(chain), pem.key_type(chain)
            if other := kinds.get((names, kind)):
                what = f"a certificate for the same names with the same type of key ({kind}) is {other}"
                hint = "keep the one that clients are to see"
                raise Fault(what, hint, at=("tls", index, "certificate"))
            kinds[names, kind] = pair.certificate
        return self


class DomainRoute(Model):
    """Who gets the mail of a domain."""

    backend: str
    """A name under `backends`."""


class DnsConfig(Model):
    """Who answers DNS questions."""

    servers: Annotated[
        tuple[Server, ...], BeforeValidator(one_or_more, json_schema_input_type=Server | list[Server])
    ] = ()
    """Addresses of resolvers; those of /etc/resolv.conf when left out."""
    timeout: Annotated[float, *duration("100ms", "60s")] = Field(default="5s", validate_default=True)
    """Seconds for one question, retries included."""
    zone: ReadFile | None = None
    """A file that answers instead, for trials and tests: nothing else is asked."""


class Limits(Model):
    """What one message, one network, everybody may take."""

    message: Annotated[int, *size("1KB", "2GB")] = Field(default="35MB", validate_default=True)
    """The largest message (SIZE)."""
    recipients: Annotated[Count, Field(le=100_000)] = 100
    """The most recipients of a message."""
    messages: Annotated[Count, Field(le=1_000_000)] = 10_000
    """The most messages of a session."""
    connections: Annotated[Count, Field(le=1_000_000)] = 2000
    """The most connections, over all workers."""
    connections_per_network: Annotated[Count, Field(le=1_000_000)] = 50
    """The most connections from one /24 or /64."""
    memory: Annotated[int, *size("1MB", "1000GB")] = Field(default="1GB", validate_default=True)
    """What messages on their way may take, over all workers; one /24 or /64 at most three times what it leaves free."""


class Deadlines(Model):
    """How long a client or backend may take."""

    greeting: Annotated[float, *duration("100ms", "1h")] = Field(default="5m", validate_default=True)
    """For the first command after the banner."""
    command: Annotated[float, *duration("100ms", "1h")] = Field(default="5m", validate_default=True)
    """For each further command."""
    data: Annotated[float, *duration("100ms", "12h")] = Field(default="5m", validate_default=True)
    """For a whole message."""
    session: Annotated[float, *duration("100ms", "24h")] = Field(default="5m", validate_default=True)
    """For everything from banner to QUIT; a message that is on its way is not cut."""
    backend: Annotated[float, *duration("100ms", "10m")] = Field(default="2m", validate_default=True)
    """For a delivery, from connecting to the backend's answer."""
    rate: Annotated[int, *size("0B", "1GB")] = Field(default="1KB", validate_default=True)
    """Octets a second that a message must keep up."""


_JOURNAL_SIZE = size("1MB", "10000GB")


class Journal(Model):
    """What was decided, and why."""

    path: WrittenFile
    keep: Annotated[float, *duration("1m", "3650d")] = Field(default="30d", validate_default=True)
    """How long an entry is kept."""
    size: Annotated[int, *_JOURNAL_SIZE] = Field(default="4GB", validate_default=True)
    """The most octets the file may take; the oldest entries go first."""


class Admin(Model):
    """Health, metrics, console."""

    bind: Bind


class Config(Model):
    """The whole of `gatepost.yaml`."""

    hostname: Host
    """Our name in banner, EHLO, Received and Authentication-Results."""
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1)]
    domains: Annotated[dict[Domain, DomainRoute], Field(min_length=1, json_schema_extra={"propertyNames": DOMAIN})]
    """What may be received, and who gets it."""
    backends: Annotated[dict[BackendName, Backend], Field(min_length=1)]
    policies: PolicyFolder = Field(default="policies", validate_default=True)
    """The folder of the policy files."""
    lists: ListFolder = Field(default=None, validate_default=True)
    """The folder of the lists that policies name."""
    state: State = Field(default="sqlite:/var/lib/gatepost/state.db", validate_default=True)
    """Greylist, rates and recipient cache: sqlite:FILE, or redis://host:6379/0 for several gateways."""
    dns: DnsConfig = DnsConfig()
    dnsbl: Dnsbl = Dnsbl()
    """Lists of bad and good addresses in DNS."""
    dmarc: Dmarc = Dmarc()
    seal: Seal | None = None
    """The key of our ARC seals; without it nothing is sealed."""
    limits: Limits = Limits()
    deadlines: Deadlines = Deadlines()
    greeting_delay: Annotated[float, *duration("0s", "1m")] = Field(default="100ms", validate_default=True)
    """How long the banner waits for strangers; who speaks before it is an early talker."""
    journal: Journal | None = None
    control: WrittenFile | None = None
    """The socket for gatepost status, reload and drain; beside the state (or the journal) when left out."""
    workers: Annotated[
        int | Literal["auto"],
        PlainValidator(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]}),
    ] = "auto"
    """Processes; `auto` is one a core."""
    admin: Admin | None = None
    soften: Bool = False
    """Speak every 5xx of policy as 4xx: for a first week in front of a live domain."""
    quarantine: MailboxText | None = None
    """Where quarantined mail is relayed to; at one of `domains`."""

    def worker_count(self, cores: int) -> int:
        """How many workers on a machine of `cores`: each needs a connection of its own to every backend."""
        if isinstance(self.workers, int):
            return self.workers
        return max(1, min(cores, *(backend.connections for backend in self.backends.values())))

    @property
    def state_path(self) -> Path | None:
        """The file of `state`; `None` where it is a Redis."""
        return self.state.path if isinstance(self.state, Sqlite) else None

    @property
    def control_path(self) -> Path | None:
        """The socket for orders."""
        beside = self.state_path or (self.journal.path if self.journal else None)
        return self.control or (Path(f"{beside}.sock") if beside else None)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        for name, backend in self.backends.items():
            if isinstance(self.workers, int) and self.workers > backend.connections:
                what = f"{self.workers} workers share {backend.connections} connections to backend '{name}'"
                hint = f"write workers: {backend.connections} or less, or raise its connections: each worker needs one"
                raise Fault(what, hint, at=("workers",))
        state = self.state_path
        if self.journal and state and os.path.abspath(self.journal.path) == os.path.abspath(state):
            raise Fault("journal and state are the same file", "give each its own", at=("journal", "path"))
        return self
