"""`state`: a file of this machine, or a Redis that several gateways share.

A password comes in the URL or, better, in a file of its own; neither is ever shown: not by `config show`, not in a
message, not in a representation.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import (
    BeforeValidator,
    Discriminator,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from gateway.config import certificate as pem
from gateway.config.hosts import HostPort, parse_target
from gateway.config.paths import ReadFile, read_bytes, written
from gateway.yamlfile import Fault, Model
from gateway.yamlfile.problem import shown

_PORT = 6379
_HIDDEN = "********"
_EXAMPLE = "write redis://host:6379/0, or rediss://host:6379/0 for TLS"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where a Redis is, and who we are there. As text it hides the password."""

    tls: bool
    host: str  # a name (A-labels) or an address without brackets
    port: int
    database: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        who = f"{self.user}:{_HIDDEN}@" if self.password else f"{self.user}@" if self.user else ""
        return f"{self._scheme}://{who}{HostPort(self.host, self.port)}/{self.database}"

    @property
    def place(self) -> str:
        """For log lines: nobody's name in it."""
        return f"{self._scheme}://{HostPort(self.host, self.port)}/{self.database}"

    @property
    def _scheme(self) -> str:
        return "rediss" if self.tls else "redis"


def parse_url(value: object) -> RedisUrl:
    """Reads `redis://[[user]:password@]host[:port][/database]`. Raises `Fault`, which never shows the password."""
    if isinstance(value, RedisUrl):
        return value
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        host, port, user, password = parts.hostname or "", parts.port, parts.username, parts.password
    except ValueError:
        raise Fault("this is no URL of a Redis", _EXAMPLE) from None
    if parts.scheme not in ("redis", "rediss"):
        raise Fault("this is no URL of a Redis", _EXAMPLE)
    if parts.query or parts.fragment:
        hint = "TLS is rediss://, a password or an authority goes into a file: {redis: URL, password_file: FILE}"
        raise Fault("the URL of a Redis takes nothing after the database", hint)
    if not host:
        raise Fault("the URL names no host", _EXAMPLE)
    if password == _HIDDEN:
        raise Fault("the password was hidden by 'config show'", "write it out, or give a password_file")
    target = parse_target(str(HostPort(host, _PORT if port is None else port)))
    database = parts.path.removeprefix("/") or "0"
    if not (database.isascii() and database.isdigit() and len(database) <= 5):
        raise Fault(f"{shown(database)} is no number of a database", "write it as redis://host:6379/0")
    tls = parts.scheme == "rediss"
    return RedisUrl(tls, target.host, target.port, int(database), unquote(user or ""), unquote(password or ""))


def _redis_shape(value: object) -> object:
    """The URL alone is short for the mapping."""
    return {"redis": value} if isinstance(value, str) else value


class Redis(Model):
    """A Redis that several gateways share."""

    redis: Annotated[
        RedisUrl,
        PlainValidator(parse_url),
        PlainSerializer(str),
        WithJsonSchema({"type": "string", "pattern": "^rediss?://.+"}),
    ]
    """redis://host:6379/0, or rediss:// for TLS."""
    password_file: ReadFile | None = None
    """A file with the password, so that this one may be shown around."""
    ca: ReadFile | None = None
    """PEM file of the authorities to trust; the system's when left out."""
    _password: str = PrivateAttr("")
    _authorities: str = PrivateAttr("")

    @property
    def password(self) -> str:
        """The secret, wherever it came from; "" for none."""
        return self._password

    @property
    def authorities(self) -> str:
        """PEM of the authorities to trust; "" for the system's."""
        return self._authorities

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> "Redis":
        self._password = self.redis.password
        if self.password_file is not None:
            if self._password:
                raise Fault("the URL holds a password, too", "keep one of them", at=("password_file",))
            try:
                self._password = read_bytes(self.password_file, info).decode().strip()
            except UnicodeDecodeError:
                raise Fault("the password is no text", "write it as UTF-8, alone", at=("password_file",)) from None
            if not self._password:
                raise Fault("the password file is empty", "write the password into it", at=("password_file",))
        if self.ca is not None:
            if not self.redis.tls:
                raise Fault("'ca' is for TLS", "write rediss://, or remove it", at=("ca",))
            try:
                octets = read_bytes(self.ca, info)
                pem.certificates(octets)
            except Fault as fault:
                raise Fault(fault.what, fault.hint, at=("ca",)) from None
            self._authorities = octets.decode("ascii", "replace")
        return self


@dataclass(frozen=True, slots=True)
class Sqlite:
    """A file of this machine."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite:{self.path.absolute()}"


def _sqlite(value: object, info: ValidationInfo) -> Sqlite:
    if isinstance(value, Sqlite):
        return value
    scheme, colon, path = value.partition(":") if isinstance(value, str) else ("", "", "")
    if scheme != "sqlite" or not colon:
        hint = "write sqlite:/var/lib/gatepost/state.db, or redis://host:6379/0 for several gateways"
        raise Fault("the state is kept in SQLite or Redis", hint)
    # sqlite:///path is how others spell it
    return Sqlite(written(path.removeprefix("//"), info))


def _kind(value: object) -> str:
    is_redis = isinstance(value, dict | Redis) or (isinstance(value, str) and value.startswith(("redis:", "rediss:")))
    return "shared" if is_redis else "file"


_TEXT = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^(sqlite:|rediss?://).+"})]
State = Annotated[
    Annotated[Sqlite, PlainValidator(_sqlite), PlainSerializer(str), Tag("file")]
    | Annotated[Redis, BeforeValidator(_redis_shape), Tag("shared")],
    Discriminator(_kind),
    BeforeValidator(lambda value: value, json_schema_input_type=_TEXT | Redis),
]
