"""The house: everything that judges and relays mail under one configuration. Immutable; a reload builds another."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.checks.facts import AnyCheck
from gateway.checks.history import History
from gateway.checks.seal import Sealer
from gateway.clock import Clock
from gateway.config import Config
from gateway.dns.resolver import Resolver
from gateway.journal import Journal
from gateway.policy.loader import Policy
from gateway.relay.delivery import Relay
from gateway.state.store import Store


@dataclass(frozen=True, slots=True)
class House:
    """Everything a journey needs, made by `build.build`."""

    config: Config
    policy: Policy
    checks: Mapping[type[AnyCheck], AnyCheck]
    relay: Relay
    resolver: Resolver
    store: Store
    clock: Clock
    journal: Journal | None = None
    sealer: Sealer | None = None
    #: Dotted name of a fact to the check that gives it.
    providers: Mapping[str, type[AnyCheck]] = field(init=False)
    #: Checks to start while the client says EHLO: they need its address alone, wait for others, and a rule names them.
    early: frozenset[type[AnyCheck]] = field(init=False)
    #: Whether a rule asks since when a sender is known: only then is it remembered.
    remembers: bool = field(init=False)

    def __post_init__(self) -> None:
        providers = {name: kind for kind, check in self.checks.items() for name in check.provides}
        object.__setattr__(self, "providers", providers)
        named = {providers[name] for rule in self.policy.rules for name in rule.needs if name in providers}
        object.__setattr__(self, "early", frozenset(kind for kind in named if kind.once and not kind.eager))
        object.__setattr__(self, "remembers", History in named)
