"""What the connection itself tells of the client: address, network, TLS, certificate, and whether it spoke before its
turn.

`client.network` is the /24 or /64 around the address, the unit in which limits and reputations are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import TYPE_CHECKING, ClassVar, Literal

from gateway.checks.check import Check, Named
from gateway.dns.names import address_of
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts


@dataclass(frozen=True, slots=True)
class ClientFact:
    """The client as the socket shows it."""

    ip: str
    network: str
    tls: bool
    early_talker: bool
    certificate: Literal["none", "pass", "fail"] = "none"
    certificate_names: tuple[str, ...] = ()
    certificate_fingerprint: str = ""


class Client(Check[ClientFact]):
    """`client.ip`, `client.network`, `client.tls`, `client.early_talker`, `client.certificate` and what is in it."""

    name = "client"
    stage = Stage.CONNECT
    waits = False
    provides: ClassVar[Mapping[str, str]] = {
        "client.ip": "string",
        "client.network": "string",
        "client.tls": "bool",
        "client.early_talker": "bool",
        "client.certificate": "string",
        "client.certificate_names": "list<string>",
        "client.certificate_fingerprint": "string",
    }

    async def run(self, tx: Transaction, facts: "Facts") -> ClientFact:
        """The fact of the session as it is now."""
        session = tx.session
        seen = session.client_ip, network_of(session.client_ip), bool(session.tls), session.early_talker
        shown = session.certificate
        if shown is None:
            return ClientFact(*seen)
        return ClientFact(*seen, "fail" if shown.fault else "pass", shown.names, shown.fingerprint)

    def named(self, fact: ClientFact) -> Named:
        """The fact for policies."""
        return {
            "client.ip": fact.ip,
            "client.network": fact.network,
            "client.tls": fact.tls,
            "client.early_talker": fact.early_talker,
            "client.certificate": fact.certificate,
            "client.certificate_names": list(fact.certificate_names),
            "client.certificate_fingerprint": fact.certificate_fingerprint,
        }

    def error(self) -> ClientFact:
        """The fact when the check itself failed."""
        return ClientFact("", "", False, False)


@lru_cache(maxsize=1024)
def network_of(ip: str) -> str:
    """The /24 or /64 that an address belongs to. Raises `ValueError` when it is no address."""
    address = address_of(ip)
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))
