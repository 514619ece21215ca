"""The client as the connection shows it."""

import asyncio

import pytest

from gateway.checks.client import Client, ClientFact, network_of
from gateway.checks.facts import Facts
from gateway.mail.envelope import ClientCertificate, Envelope, Session, Transaction


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_network_of(ip: str, network: str) -> None:
    assert network_of(ip) == network


def test_no_address() -> None:
    with pytest.raises(ValueError, match="address"):
        network_of("example.com")


def fact_of(session: Session) -> ClientFact:
    async def main() -> ClientFact:
        return await Facts({Client: Client()}, Transaction("T1", session, Envelope(None), 0.0)).get(Client)

    return asyncio.run(main())


def test_the_check() -> None:
    check = Client()
    fact = fact_of(Session("S1", "192.0.2.77", 4711, "192.0.2.25", 25, 0.0, tls="TLSv1.3", early_talker=True))
    assert check.named(fact) == {
        "client.ip": "192.0.2.77",
        "client.network": "192.0.2.0/24",
        "client.tls": True,
        "client.early_talker": True,
        "client.certificate": "none",
        "client.certificate_names": [],
        "client.certificate_fingerprint": "",
    }
    assert set(check.named(fact)) == set(Client.provides) == set(check.named(check.error()))


@pytest.mark.parametrize(
    ("fault", "names", "word"),
    [("", ("mail.partner.example", "*.partner.example"), "pass"), ("cert has expired", (), "fail")],
)
def test_a_certificate(fault: str, names: tuple[str, ...], word: str) -> None:
    shown = ClientCertificate("ab" * 32, fault, names)
    named = Client().named(fact_of(Session("S1", "192.0.2.77", 4711, "192.0.2.25", 25, 0.0, certificate=shown)))
    assert named["client.certificate"] == word
    assert named["client.certificate_names"] == list(names)
    assert named["client.certificate_fingerprint"] == "ab" * 32
