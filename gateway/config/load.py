"""From the file to `Config`: what concerns several values at once, and what is worth a warning."""

import ipaddress
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeGuard, TypeVar

import yaml

from gateway.config import certificate as pem
from gateway.config.hosts import HostPort, parse_bind, parse_domain, parse_mailbox
from gateway.config.model import Config
from gateway.config.paths import Reading
from gateway.config.state import Redis
from gateway.database import unusable
from gateway.files import Files
from gateway.yamlfile import ConfigError, Document, Fault, Loc, Problem, load, nearest, validate
from gateway.yamlfile.problem import shown

T = TypeVar("T")
#: RFC 5321 section 4.5.3.2.6 asks clients for ten minutes; not all have them.
_PATIENCE_SECONDS = 300.0
#: Octets of a socket's path (unix(7)); a longer one is reached through its folder, /proc/self/fd/NNN/NAME (`orders`).
_SOCKET_PATH, _SOCKET_NAME = 107, 107 - len("/proc/self/fd/NNN/")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def load_config(path: Path, files: Files, *, warnings: list[Problem] | None = None, now: float = 0.0) -> Config:
    """Reads and checks `path`. Raises `ConfigError` with everything that is wrong.

    Where `warnings` is a list, what is allowed and rarely meant is appended to it; `now` (epoch seconds) is for the
    lifetimes of certificates.
    """
    document = load(path, files, strict=False)
    document.problems += _names_that_must_agree(document)
    config = validate(document, Config, context=Reading(path.parent, files))
    if warnings is not None:
        _refuse_unusable(document, config)
        for loc, what, hint in _doubts(config, files, now):
            warnings.append(Problem(document.position(loc), what, hint, "warning"))
    return config


def _refuse_unusable(document: Document, config: Config) -> None:
    """What is on disk where the state and the journal are to live. Asked when people ask, not by a worker's start."""
    places = {("state",): config.state_path, ("journal", "path"): config.journal.path if config.journal else None}
    for loc, place in places.items():
        if place is not None and (why := unusable(place)):
            what, _, hint = why.rpartition("; ")
            document.problems.append(Problem(document.position(loc), what or why, hint if what else ""))
    if document.problems:
        raise ConfigError(document.problems)


def control_of(path: Path, files: Files) -> Path | None:
    """Where the gateway that runs with this file takes orders, even when the file is wrong by now; `None`: nowhere.

    Raises `ConfigError` where it cannot be read at all.
    """
    try:
        return load_config(path, files).control_path
    except ConfigError:
        data = load(path, files, strict=False).data
    state = _mapping({"all": data}, "all").get("state", Config.model_fields["state"].default)
    beside = (
        state.removeprefix("sqlite:").removeprefix("//") if _is_file(state) else _mapping(data, "journal").get("path")
    )
    own = _mapping({"all": data}, "all").get("control")
    place = own if isinstance(own, str) else f"{beside}.sock" if isinstance(beside, str) else None
    return path.parent / place if place else None


def policies_of(path: Path, files: Files) -> tuple[Path, Path] | None:
    """The folders of policies and lists that a file names in which something else is wrong; `None`: not to be told."""
    try:
        data = load(path, files, strict=False).data
    except ConfigError:
        return None
    own = _mapping({"all": data}, "all")
    named, lists = own.get("policies", Config.model_fields["policies"].default), own.get("lists")
    if not own or not isinstance(named, str) or not isinstance(lists, str | None):
        return None
    policies = path.parent / named
    if lists is None:  # as `paths` has it: they may as well stand beside the policies
        lists = policies / "lists" if (policies / "lists").is_dir() else policies
    folders = policies, path.parent / lists
    return folders if all(folder.is_dir() for folder in folders) else None


def _is_file(state: object) -> TypeGuard[str]:
    return isinstance(state, str) and state.startswith("sqlite:")


def schema() -> dict[str, object]:
    """The JSON Schema of `gatepost.yaml` (draft 2020-12), for editors."""
    return {"$schema": _DRAFT, **Config.model_json_schema(), "title": "gatepost.yaml"}


def show(config: Config) -> str:
    """The effective configuration, defaults included, as YAML that loads to the same. It names files of keys, and
    holds no secret."""
    return str(
        yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True, width=120)
    )


def _names_that_must_agree(document: Document) -> list[Problem]:
    """References between sections, on the raw data: a mistake elsewhere must not hide them."""
    problems: list[Problem] = []
    backends = _mapping(document.data, "backends")
    domains: dict[str, str] = {}
    for key, route in _mapping(document.data, "domains").items():
        loc: Loc = ("domains", key)
        name = _parsed(parse_domain, key)
        if name is not None:
            if name in domains:
                position = document.position(loc, key=True)
                what = f"{shown(key)} is the same domain as {shown(domains[name])}"
                problems.append(Problem(position, what, "keep one of them"))
            domains.setdefault(name, key)
        backend = _mapping({"route": route}, "route").get("backend")
        if isinstance(backend, str) and backend not in backends and (*loc, "backend") not in document.broken:
            hint = nearest(backend, backends) or "name one of those under 'backends', or add it there"
            problems.append(Problem(document.position((*loc, "backend")), f"no backend {shown(backend)}", hint))
    quarantine = _parsed(parse_mailbox, _mapping({"all": document.data}, "all").get("quarantine"))
    if quarantine is not None and not _received(quarantine.rpartition("@")[2], domains):
        hint = "use a mailbox at one of 'domains': mail to others is never relayed"
        what = f"the domain of {shown(quarantine)} is not among 'domains'"
        problems.append(Problem(document.position(("quarantine",)), what, hint))
    return problems + _addresses_taken_twice(document)


def _addresses_taken_twice(document: Document) -> list[Problem]:
    problems: list[Problem] = []
    taken: dict[HostPort, Loc] = {}
    for loc, value in _binds(document):
        bind = _parsed(parse_bind, value)
        if bind is None or bind.port == 0:
            continue
        if bind in taken:
            what = f"{bind} is already listened on, see line {document.position(taken[bind]).line}"
            problems.append(Problem(document.position(loc), what, "give each its own address or port"))
        taken.setdefault(bind, loc)
    return problems


def _binds(document: Document) -> Iterator[tuple[Loc, object]]:
    data = document.data if isinstance(document.data, dict) else {}
    listeners = data.get("listeners")
    for index, listener in enumerate(listeners if isinstance(listeners, list) else []):
        bind = listener.get("bind") if isinstance(listener, dict) else None
        for number, one in enumerate(bind if isinstance(bind, list) else [bind]):
            yield ("listeners", index, "bind", number), one
    yield ("admin", "bind"), _mapping(document.data, "admin").get("bind")


def _mapping(data: object, key: str) -> dict[str, object]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _parsed(parse: Callable[[object], T], value: object) -> T | None:
    try:
        return parse(value)
    except Fault:  # told by the field's own validator
        return None


def _received(domain: str, domains: dict[str, str]) -> bool:
    labels = domain.split(".")
    return domain in domains or any("*." + ".".join(labels[i:]) in domains for i in range(1, len(labels)))


def _doubts(config: Config, files: Files, now: float) -> Iterator[tuple[Loc, str, str]]:
    """What is allowed and rarely meant: place, what, hint."""
    if "." not in config.hostname:
        yield ("hostname",), "the host name has one label only", "use the name that the MX record names"
    for index, listener in enumerate(config.listeners):
        for number, pair in enumerate(listener.tls):
            loc: Loc = ("listeners", index, "tls", number)
            chain = files.read(pair.certificate)
            if said := pem.lifetime(chain, now):
                yield (*loc, "certificate"), said, "renew it, then send SIGHUP"
            if not pem.names(chain, config.hostname):
                what = f"the certificate is not for {config.hostname}"
                yield (*loc, "certificate"), what, "senders that verify (MTA-STS, DANE) will not deliver"
            if _open_to_all(pair.key):
                yield (*loc, "key"), "every user of this machine can read the key", f"chmod 600 {pair.key}"
        asked = listener.client_certificates
        if asked and asked.ca and (said := pem.lifetime(files.read(asked.ca), now)):
            yield ("listeners", index, "client_certificates", "ca"), said, "give the authority's new certificate"
    yield from _doubts_about_routes(config, files, now)
    yield from _doubts_about_numbers(config)
    yield from _doubts_about_state(config)
    if config.seal and _open_to_all(config.seal.key):
        yield ("seal", "key"), "every user of this machine can read the key", f"chmod 600 {config.seal.key}"
    if config.dns.zone and config.dns.servers:
        yield ("dns", "servers"), "while 'zone' is set these are never asked", "remove one of them"
    if config.admin and not (config.admin.bind.host == "localhost" or _loopback(config.admin.bind)):
        what = f"health, metrics and console are open to who reaches {config.admin.bind}"
        yield ("admin", "bind"), what, "use 127.0.0.1 or [::1], and a proxy that asks who it is"
    yield from _doubts_about_control(config)


def _doubts_about_routes(config: Config, files: Files, now: float) -> Iterator[tuple[Loc, str, str]]:
    for domain in config.domains:
        if domain.startswith("*.") and "." not in domain[2:]:
            yield ("domains",), f"'{domain}' is a whole top-level domain", "name the domains you receive mail for"
    used = {route.backend for route in config.domains.values()}
    for name, backend in config.backends.items():
        if name not in used:
            yield ("backends", name), f"no domain uses backend '{name}'", "remove it, or route a domain to it"
        if backend.tls.ca and (said := pem.lifetime(files.read(backend.tls.ca), now)):
            yield ("backends", name, "tls", "ca"), said, "give the authority's new certificate"


def _doubts_about_numbers(config: Config) -> Iterator[tuple[Loc, str, str]]:
    limits, deadlines = config.limits, config.deadlines
    if limits.recipients < 100:
        yield ("limits", "recipients"), "RFC 5321 asks for at least 100 recipients", "raise it"
    if limits.message < 64_000:
        yield ("limits", "message"), "RFC 5321 asks for messages of at least 64KB", "raise it"
    if limits.memory < limits.message:
        yield ("limits", "memory"), "the largest message does not fit into 'memory'", "raise it above limits.message"
    if deadlines.backend > _PATIENCE_SECONDS:
        what = "clients may give up before the backend's answer, and send the mail again"
        yield ("deadlines", "backend"), what, "5m at most: many wait no longer for the answer to the dot"
    for name in ("greeting", "command"):  # a message may outlast the session
        if getattr(deadlines, name) > deadlines.session:
            yield ("deadlines", name), "the session ends before this deadline", "raise deadlines.session"
    if "connections_per_network" in limits.model_fields_set and limits.connections_per_network > limits.connections:
        hint = "lower it: one network could take every place"
        yield ("limits", "connections_per_network"), "more than limits.connections", hint


def _doubts_about_state(config: Config) -> Iterator[tuple[Loc, str, str]]:
    state = config.state
    if not isinstance(state, Redis):
        return
    target = HostPort(state.redis.host, state.redis.port)
    if not state.redis.tls and target.host != "localhost" and not _loopback(target):
        what = "addresses" + (" and the password" if state.password else "") + " cross the network in clear text"
        yield ("state",), what, "write rediss:// and give Redis a certificate"
    if state.password_file is not None and _open_to_all(state.password_file):
        what = "every user of this machine can read the password"
        yield ("state", "password_file"), what, f"chmod 600 {state.password_file}"


def _doubts_about_control(config: Config) -> Iterator[tuple[Loc, str, str]]:
    """Where no socket can be made. The gateway serves without one; that its folder is there was asked before."""
    place = config.control_path
    if place is None:
        return
    loc: Loc = ("control",) if config.control else ("state",) if config.state_path else ("journal", "path")
    what, name = f"no orders can be taken at {place}: ", os.fsencode(place.name)
    if len(name) > _SOCKET_NAME and len(os.fsencode(place.absolute())) > _SOCKET_PATH:
        yield loc, what + "the name of a socket must not be so long", "give it a short name (control: FILE)"
    elif os.path.lexists(place) and not place.is_socket():
        hint = "move it away, or name another place (control: FILE)"
        yield loc, what + "something else has that name", hint
    elif not os.access(place.parent, os.W_OK | os.X_OK):
        hint = "give the folder to the gateway's user, or name another place (control: FILE)"
        yield loc, what + "no right to write in its folder", hint


def _loopback(bind: HostPort) -> bool:
    return bind.address is not None and ipaddress.ip_address(bind.address).is_loopback


def _open_to_all(path: Path) -> bool:
    try:
        return bool(os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:  # read from a bundle: the disk may have changed since
        return False
