"""From a backend's configuration to its `Hosts`: where they are, and how each must prove itself.

The one place that reads `backends.NAME.tls`. Called by `delivery`, and by `gatepost doctor`, so that what it probes is
what the relay does.
"""

import random
from pathlib import Path

from gateway.clock import Clock
from gateway.config import Backend, Config
from gateway.dns.resolver import Resolver
from gateway.relay.addresses import Addresses
from gateway.relay.hosts import Hosts
from gateway.relay.https import PolicyHost
from gateway.relay.pool import Bounds
from gateway.relay.sts import Fetch, Policies
from gateway.relay.targets import Endpoint, Exchangers, Fixed, Targets
from gateway.relay.trust import Dane, Exchanged, Pinned, Pkix, Verifier
from gateway.state.store import Store
from gateway.tls import ClientContexts


class Way:
    """What the backends of one configuration share.

    `store` keeps policies that were fetched; `fetch` stands in for HTTPS in tests.
    """

    def __init__(
        self,
        config: Config,
        hostname: str,
        resolver: Resolver,
        clock: Clock,
        contexts: ClientContexts,
        *,
        store: Store | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self.addresses = Addresses(resolver, system=config.dns.zone is None)
        self._hostname = hostname
        self._resolver = resolver
        self._clock = clock
        self._contexts = contexts
        self._store = store
        self._fetch = fetch
        self._policies: Policies | None = None

    def hosts(self, name: str, backend: Backend, bounds: Bounds) -> Hosts:
        """The hosts of a backend. Raises `ValueError` or `OSError` for files that are of no use."""
        targets, verifier = self.targets(backend), self.verifier(backend)
        return Hosts(name, targets, verifier, self._hostname, self.addresses, self._clock, bounds)

    async def close(self) -> None:
        """Ends what is being fetched."""
        if self._policies is not None:
            await self._policies.close()

    def targets(self, backend: Backend) -> Targets:
        """Where its hosts are found."""
        if backend.mx is not None:
            name = backend.tls.name
            lot = random.Random()  # noqa: S311 - which of two equal servers: nothing to guess
            return Exchangers(backend.mx.host, backend.mx.port, name, self._hostname, self._resolver, lot)
        endpoints = [Endpoint(host.host, host.port, backend.tls.name or host.host) for host in backend.hosts]
        return Fixed(endpoints, turning=backend.order == "round_robin")

    def verifier(self, backend: Backend) -> Verifier:
        """What they must show."""
        judged = self._contexts.get(None, backend.tls.minimum, judged=True, client=_client(backend))
        match backend.tls.verify:
            case "fingerprint":
                return Pinned(judged, backend.tls.fingerprints)
            case "dane":
                otherwise = self._by_authority(backend, strict=True) if backend.mx is not None else None
                return Dane(judged, self._resolver, self._clock, otherwise)
            case "pkix":
                return self._by_authority(backend)

    def _by_authority(self, backend: Backend, *, strict: bool = False) -> Verifier:
        tls = backend.tls
        context = self._contexts.get(tls.ca, tls.minimum, client=_client(backend))
        if backend.mx is None or tls.name is not None:  # the configuration itself names who it must be
            return Pkix(context)
        if self._policies is None:
            fetch = self._fetch or PolicyHost(self.addresses, self._contexts.get(None, "1.2")).fetch
            self._policies = Policies(self._resolver, fetch, self._clock, self._store)
        return Exchanged(context, self._policies, private=tls.ca is not None, strict=strict)


def _client(backend: Backend) -> tuple[Path, Path] | None:
    pair = backend.tls.client_certificate
    return None if pair is None else (pair.certificate, pair.key)
