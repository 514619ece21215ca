"""From configuration to the object graph. Everything is handed over here; nothing is global.

`plan` reads and checks all files and finds all that is wrong; `build` makes the `House` of it. Used by `worker`, and by
the commands that judge mail without serving (`check`, `rehearse`).
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from gateway import tls
from gateway.checks.dnsbl import List
from gateway.checks.roster import Terms, roster
from gateway.checks.seal import Sealer
from gateway.clock import Clock
from gateway.config import Config, Listener, load_config, policies_of
from gateway.config.certificate import signing_key
from gateway.config.dnsbl import Replies
from gateway.dns.resolver import Resolver
from gateway.dns.stub import Stub
from gateway.dns.zone import Zone
from gateway.files import Files
from gateway.house import House
from gateway.journal import Journal
from gateway.policy.classes import divides
from gateway.policy.fit import unfit
from gateway.policy.loader import Policy, load_policies
from gateway.relay.delivery import Relay
from gateway.smtp.events import Rules, StartTlsMode
from gateway.smtp.handler import Deadlines, Settings
from gateway.state.store import Store
from gateway.yamlfile import ConfigError, Problem

T = TypeVar("T")

#: The list (`lists/arc-sealers.txt`) of sealers whose ARC chains count (`arc.trusted`).
ARC_SEALERS = "arc_sealers"


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration with its policy and TLS contexts: all that can be wrong has been found."""

    config: Config
    policy: Policy
    contexts: tuple[ssl.SSLContext | None, ...]  # one a listener
    files: Files
    warnings: tuple[Problem, ...] = ()

    @property
    def chunking(self) -> bool:
        """Whether to offer CHUNKING: not where recipients are of several classes, see `smtp/offer`."""
        return not divides(self.policy.rules, self.policy.lists)


def plan(path: Path, files: Files, clock: Clock, *, today: bool) -> Plan:
    """Reads and checks everything. Raises `ConfigError` with all that is wrong, in whatever file.

    `today` false: the files were validated before, and a rule that has expired since must not stop a worker.
    """
    warnings: list[Problem] = []
    # What lies on the disk where state and journal are to live is asked once: a worker that is started again serves
    # without a journal.
    day = datetime.fromtimestamp(clock.now(), UTC).date() if today else None
    refused: list[ConfigError] = []
    try:
        config = load_config(path, files, warnings=warnings if today else None, now=clock.now())
    except ConfigError as error:
        if today and (folders := policies_of(path, files)):
            _kept(refused, lambda: load_policies(*folders, files, today=day))
        raise _all([error, *refused]) from None
    policy = _kept(refused, lambda: load_policies(config.policies, config.lists, files, today=day))
    if config.dns.zone is not None:
        zone = config.dns.zone
        _kept(refused, lambda: Zone.load(zone, files))
    if policy is None or refused:
        raise _all(refused)
    warnings += policy.warnings
    warnings += unfit(policy, config)
    contexts = tuple(_context(listener, files) for listener in config.listeners)
    backends = tls.ClientContexts(files)
    for backend in config.backends.values():
        pair = backend.tls.client_certificate
        backends.get(backend.tls.ca, backend.tls.minimum, client=(pair.certificate, pair.key) if pair else None)
    return Plan(config, policy, contexts, files, tuple(warnings))


def _kept(refused: list[ConfigError], load: Callable[[], T]) -> T | None:
    """What is loaded; `None` where it is wrong, and then that is kept, so that all can be told at once."""
    try:
        return load()
    except ConfigError as error:
        refused.append(error)
        return None


def _all(refused: list[ConfigError]) -> ConfigError:
    return refused[0] if len(refused) == 1 else ConfigError(chain.from_iterable(each.problems for each in refused))


def build(
    made: Plan,
    *,
    clock: Clock,
    store: Store,
    resolver: Resolver,
    journal: Journal | None,
    workers: int = 1,
    relay: type[Relay] = Relay,
) -> House:
    """The object graph of one configuration. `workers` share the connections to each backend."""
    config = made.config
    share = {name: max(1, backend.connections // workers) for name, backend in config.backends.items()}
    way_out = relay(config, config.hostname, resolver, store, clock, share, files=made.files)
    return House(
        config,
        made.policy,
        roster(terms_of(config, made.policy), resolver, clock, store=store),
        way_out,
        resolver,
        store,
        clock,
        journal,
        _sealer(config, made.files),
    )


def terms_of(config: Config, policy: Policy) -> Terms:
    """What the checks need to know of a configuration."""
    return Terms(
        config.hostname,
        tuple(config.domains),
        sealers_of(policy),
        config.dmarc.organization,
        _lists(config),
        config.dnsbl.timeout,
    )


def sealers_of(policy: Policy) -> frozenset[str]:
    """The domains whose ARC seals the operator trusts."""
    return frozenset(policy.lists[ARC_SEALERS].texts) if ARC_SEALERS in policy.lists else frozenset()


def _lists(config: Config) -> list[List]:
    zones = config.dnsbl.zones.items()
    return [List(zone, one.weight, partial(_counts, one.replies) if one.replies else None) for zone, one in zones]


def _counts(replies: tuple[Replies, ...], address: str) -> bool:
    return any(reply.hold(address) for reply in replies)


def _sealer(config: Config, files: Files) -> Sealer | None:
    seal = config.seal
    if seal is None:
        return None
    return Sealer(seal.domain, seal.selector, signing_key(files.read(seal.key)))


def resolver_of(config: Config, files: Files, clock: Clock) -> Resolver:
    """The resolver that the configuration names: a zone file, its servers, or those of /etc/resolv.conf."""
    zone = config.dns.zone
    source = Zone.load(zone, files) if zone is not None else Stub(config.dns.servers)
    return Resolver(source, clock, timeout=config.dns.timeout)


def settings_of(
    config: Config, listener: Listener, *, starttls: StartTlsMode | None = None, chunking: bool = True
) -> Settings:
    """What one listener allows; `starttls` overrules it, `chunking` is that of the plan."""
    limits, times = config.limits, config.deadlines
    return Settings(
        Rules(
            config.hostname,
            limits.message,
            limits.recipients,
            starttls or listener.starttls,
            chunking,
            limits.messages,
        ),
        limits.connections,
        limits.connections_per_network,
        Deadlines(times.greeting, times.command, times.data, times.session, times.rate),
        config.greeting_delay,
        listener.implicit_tls,
        limits.memory,
        proxies=listener.proxy_protocol.networks if listener.proxy_protocol else (),
        xclient=listener.xclient.networks if listener.xclient else (),
    )


def _context(listener: Listener, files: Files) -> ssl.SSLContext | None:
    if not listener.tls:
        return None
    asked = listener.client_certificates
    pairs = [(pair.certificate, pair.key) for pair in listener.tls]
    return tls.server_context(pairs, files, ask=asked is not None, client_ca=asked.ca if asked else None)
