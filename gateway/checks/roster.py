"""Every check, listed once: for the gateway that serves, and for `gatepost check`, which judges one mail.

The order is that in which Authentication-Results tells of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.checks.arc import Arc
from gateway.checks.attachments import Attachments
from gateway.checks.author import Author
from gateway.checks.client import Client
from gateway.checks.content import Content
from gateway.checks.dkim import Dkim
from gateway.checks.dmarc import Dmarc
from gateway.checks.dnsbl import Dnsbl, List
from gateway.checks.facts import AnyCheck
from gateway.checks.helo import Helo
from gateway.checks.history import History
from gateway.checks.iprev import Iprev
from gateway.checks.mail import Mail
from gateway.checks.organization import Method, Organization
from gateway.checks.spf import Spf
from gateway.clock import Clock
from gateway.dns.resolver import Resolver
from gateway.state.store import Store


@dataclass(frozen=True, slots=True)
class Terms:
    """What the checks need to know of a configuration.

    `allow_sha1` and a lower `min_rsa_bits` are for the old test suites of DKIM alone.
    """

    hostname: str = "mx.example.com"
    local_domains: Collection[str] = ()
    sealers: Collection[str] = ()
    method: Method = "treewalk"
    lists: Sequence[List] = ()
    list_seconds: float = 2.0
    allow_sha1: bool = False
    min_rsa_bits: int = 1024


def roster(
    terms: Terms, resolver: Resolver, clock: Clock, *, store: Store | None = None, spf: Spf | None = None
) -> Mapping[type[AnyCheck], AnyCheck]:
    """Every check by its class. Without `store` nobody is known; `spf` stands in for the usual one."""
    dkim = Dkim(resolver, clock, allow_sha1=terms.allow_sha1, min_rsa_bits=terms.min_rsa_bits, method=terms.method)
    return {
        Client: Client(),
        Iprev: Iprev(resolver),
        Dnsbl: Dnsbl(resolver, clock, terms.lists, terms.list_seconds),
        Helo: Helo(),
        Mail: Mail(),
        Spf: spf or Spf(resolver, clock, terms.hostname),
        Author: Author(terms.local_domains),
        Organization: Organization(resolver, method=terms.method),
        Content: Content(),
        Attachments: Attachments(),
        Dkim: dkim,
        Arc: Arc(resolver, terms.sealers),
        Dmarc: Dmarc(resolver, method=terms.method),
        History: History(clock, store),
    }
