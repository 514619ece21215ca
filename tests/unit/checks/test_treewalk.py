"""The tree walk's edges: trouble, bounds, names that have no place in the DNS (the rest is in conformance)."""

import asyncio
from typing import Any

import pytest

from gateway.checks.treewalk import Walk, names, same_organization, walk
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone


def resolver(zone: dict[str, Any]) -> Resolver:
    return Resolver(Zone(zone), ManualClock())


@pytest.mark.parametrize("labels", range(1, 128))
def test_never_more_than_eight_names(labels: int) -> None:
    asked = names(".".join(["a"] * labels))
    assert len(asked) == min(labels, 8)
    assert asked[-1] == "a"


def test_literals_are_not_walked() -> None:
    assert names("[192.0.2.1]") == []
    assert asyncio.run(walk(resolver({}), "[192.0.2.1]")) == Walk("[192.0.2.1]")


def test_trouble_below_a_stop_counts_trouble_above_does_not() -> None:
    record = {"TXT": ["v=DMARC1; p=none; psd=n"]}
    above = {"_dmarc.example.org": record, "_dmarc.org": {"TXT": "SERVFAIL"}}
    assert not asyncio.run(walk(resolver(above), "a.example.org")).trouble
    below = {"_dmarc.a.example.org": {"TXT": "TIMEOUT"}, "_dmarc.example.org": record}
    found = asyncio.run(walk(resolver(below), "a.example.org"))
    assert found.trouble
    assert found.organization == ""


def test_a_failure_is_remembered_as_one() -> None:
    async def run() -> None:
        one = resolver({"_dmarc.org": {"TXT": "SERVFAIL"}})
        assert (await walk(one, "example.org")).trouble
        assert (await walk(one, "example.org")).trouble

    asyncio.run(run())


def test_same_organization() -> None:
    zone = {"_dmarc.example.org": {"TXT": ["v=DMARC1; p=none"]}, "_dmarc.b.example.org": {"TXT": "SERVFAIL"}}

    def same(domain: str, organization: str = "example.org") -> bool | None:
        return asyncio.run(same_organization(resolver(zone), domain, "a.example.org", organization))

    assert same("a.example.org") is True
    assert same("c.example.org") is True
    assert same("example.net") is False
    assert same("notexample.org") is False
    assert same("b.example.org") is None
    assert same("c.example.org", "") is None
