"""DMARC: every worked example of our crib of RFC 9989 (its part 13), by number.

A zone maps a name to its DMARC record ("" : the name exists and has none); names above a listed one exist, others do
not. Identifiers are "spf DOMAIN", "dkim DOMAIN" (both passed) and "dkim DOMAIN fail".
"""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.checks import treewalk
from gateway.checks.dkim import DkimFact, Signature
from gateway.checks.dmarc import DmarcFact, judge
from gateway.checks.spf import SpfFact
from gateway.clock import ManualClock
from gateway.dns.answer import Response
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.author import author
from gateway.mail.message import Message
from gateway.mail.terms import Result

Published = dict[str, str | list[str]]


class Noted:
    """A zone that remembers what it was asked."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[str] = []

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        self.asked.append(f"{name} {rdtype}")
        return await self.zone.ask(name, rdtype, timeout)


def source(published: Published) -> Noted:
    records: dict[str, dict[str, list[str] | str]] = {}
    for name, value in published.items():
        if value in ("SERVFAIL", "TIMEOUT"):
            records[f"_dmarc.{name}"] = {"*": str(value)}
        elif value == "AAAA":
            records[name] = {"AAAA": ["2001:db8::1"]}
        elif value == "":
            records[name] = {"A": ["192.0.2.1"]}
        else:
            texts = value if isinstance(value, list) else [value]
            records[f"_dmarc.{name}"] = {
                "TXT": [f'"{text if text.startswith("v=") else "v=DMARC1; " + text}"' for text in texts]
            }
    return Noted(Zone(records))


def facts(identifiers: tuple[str, ...]) -> tuple[SpfFact, DkimFact]:
    spf, signatures = SpfFact(Result.NONE), []
    for identifier in identifiers:
        method, domain, *word = identifier.split()
        result = Result(word[0]) if word else Result.PASS
        if method == "spf":
            spf = SpfFact(result, domain)
        else:
            signatures.append(Signature(result, domain, "s"))
    return spf, DkimFact(Result.NONE, tuple(signatures))


def result_of(published: Published, sender: str, identifiers: tuple[str, ...] = ()) -> DmarcFact:
    field = f"From: {sender}\r\n\r\n".encode()
    domains = author(Message.from_octets(field).fields).domains
    resolver = Resolver(source(published), ManualClock())
    return asyncio.run(judge(resolver, domains, *facts(identifiers)))


@dataclass(frozen=True)
class Example:
    number: str
    zone: Published
    sender: str
    identifiers: tuple[str, ...]
    result: str
    policy: str = ""
    domain: str = ""


SP = {"example.com": "p=reject; sp=quarantine", "mail.example.com": ""}
SIGNING: Published = {"example.com": "p=none", "signing.example.com": "p=reject"}
DEPARTMENT: Published = {
    "example.com": "p=reject",
    "dept.example.com": "p=quarantine; psd=n",
    "x.dept.example.com": "",
}
DEEP = "a.b.c.d.e.f.g.h.i.j.k.example.com"
HIDDEN = "mail.a.b.c.d.e.f.g.example.com"
BANK: Published = {
    "bank.example": "p=reject; psd=y",
    "giant.bank.example": "p=quarantine",
    "mail.giant.bank.example": "",
    "mail.mega.bank.example": "",
}
SUFFIX: Published = {"bank.example": "p=reject; sp=quarantine; psd=y", "mail.giant.bank.example": ""}
TWO: Published = {"m.example.com": ["p=none", "p=none"], "example.com": "p=reject; sp=quarantine"}
ONLY_SUB: Published = {"m.example.com": "p=reject", "example.com": ""}
TROUBLE: Published = {"example.com": "p=reject", "com": "TIMEOUT", "m.example.com": ""}
LIST: Published = {"example.com": "p=reject", "lists.example.net": ""}

EXAMPLES = [
    Example("1", {"example.com": "p=reject; adkim=s; aspf=s"}, "a@example.com", ("dkim example.com",), "pass"),
    Example(
        "2", {"example.com": "p=reject; adkim=s", "mail.example.com": ""}, "a@example.com", ("dkim mail.example.com",),
        "fail", "reject",
    ),
    Example("3", SP, "a@mail.example.com", (), "fail", "quarantine", "example.com"),
    Example("4", {"example.com": "p=none; sp=none; np=reject"}, "a@ghost.example.com", (), "fail", "reject"),
    Example(
        "5", {"example.com": "p=quarantine; np=reject", "www.example.com": "AAAA"}, "a@www.example.com", (), "fail",
        "quarantine",
    ),
    Example("6", {"example.com": "p=reject; sp=none"}, "a@ghost.example.com", (), "fail", "none"),
    Example("7a", SIGNING, "a@example.com", ("dkim signing.example.com",), "pass"),
    Example("7b", SIGNING, "a@signing.example.com", ("spf other.example.com fail",), "fail", "reject"),
    Example(
        "8", {"example.com": "p=reject", "y.example.com": "p=none", "x.y.example.com": ""}, "a@x.y.example.com", (),
        "fail", "reject", "example.com",
    ),
    Example("9a", DEPARTMENT, "a@x.dept.example.com", ("spf example.com",), "fail", "quarantine"),
    Example("9b", DEPARTMENT, "a@example.com", ("dkim dept.example.com",), "fail", "reject"),
    Example(
        "10", {"example.com": "p=reject", "signing.example.com": "p=none", DEEP: ""}, f"a@{DEEP}", ("spf example.com",),
        "pass",
    ),
    Example(
        "11", {"example.com": "p=reject", "b.c.d.e.f.g.example.com": "p=none; psd=n", HIDDEN: ""}, f"a@{HIDDEN}", (),
        "fail", "reject", "example.com",
    ),
    Example("12a", BANK, "a@giant.bank.example", ("spf mail.giant.bank.example",), "pass"),
    Example("12b", BANK, "a@giant.bank.example", ("dkim mail.mega.bank.example",), "fail", "quarantine"),
    Example("13a", SUFFIX, "a@mail.giant.bank.example", ("dkim giant.bank.example fail",), "fail", "quarantine",
            "bank.example"),
    Example("13b", SUFFIX, "a@ghost.bank.example", (), "fail", "quarantine"),
    Example(
        "14", {"bank.example": "p=reject; sp=none; psd=y", "mail.bank.example": ""}, "a@bank.example",
        ("spf mail.bank.example",), "fail", "reject",
    ),
    Example("15a", TWO, "a@m.example.com", (), "fail", "quarantine"),
    Example("15b", {"example.com": ["p=reject", "p=reject"]}, "a@example.com", ("dkim example.com",), "none"),
    Example("16a", {"example.com": "p=reject; t=y"}, "a@example.com", (), "fail", "quarantine"),
    Example("16b", {"example.com": "p=quarantine; t=y"}, "a@example.com", (), "fail", "none"),
    Example("16c", {"example.com": "p=reject; pct=0"}, "a@example.com", (), "fail", "reject"),
    Example("17a", {"example.com": "rua=mailto:d@example.com"}, "a@example.com", (), "fail", "none"),
    Example("17b", {"example.com": "adkim=s"}, "a@example.com", ("dkim example.com",), "none"),
    Example("17c", {"example.com": "p=reject; sp=bogus; rua=mailto:d@a.example"}, "a@example.com", (), "fail", "none"),
    Example("17d", {"example.com": "p=reject; sp=bogus"}, "a@example.com", (), "none"),
    Example("17e", {"m.example.com": "adkim=s", "example.com": "p=reject"}, "a@m.example.com", (), "none"),
    Example("18a", {"example.com": "p=reject", "mx.example.com": ""}, "mailer@example.com", ("spf mx.example.com",),
            "pass"),
    Example("18b", {"example.com": "p=reject"}, "a@example.com", ("spf other.net none",), "fail", "reject"),
    Example(
        "19a", LIST, "a@example.com",
        ("dkim lists.example.net", "dkim example.com fail", "spf lists.example.net"), "fail", "reject",
    ),
    Example("19b", LIST, "a@example.com", ("dkim lists.example.net fail", "dkim example.com"), "pass"),
    Example("20", {"shop": "p=none", "good.shop": "p=reject"}, "a@good.shop", ("dkim evil.shop",), "pass"),
    Example("20, cure psd=n", {"shop": "p=none", "good.shop": "p=reject; psd=n"}, "a@good.shop", ("dkim evil.shop",),
            "fail", "reject"),
    Example("20, cure adkim=s", {"shop": "p=none", "good.shop": "p=reject; adkim=s"}, "a@good.shop",
            ("dkim evil.shop",), "fail", "reject"),
    Example("20, cure psd=y", {"shop": "p=none; psd=y", "good.shop": "p=reject"}, "a@good.shop", ("dkim evil.shop",),
            "fail", "reject"),
    Example("21a", TROUBLE, "a@example.com", ("dkim example.com",), "pass"),
    Example("21b", TROUBLE, "a@example.com", ("dkim m.example.com",), "temperror"),
    Example("21c", {"m.example.com": "SERVFAIL", "example.com": "p=reject"}, "a@m.example.com", ("dkim m.example.com",),
            "temperror"),
    Example(
        "22b", {"a.example": "p=reject", "b.example": "p=none"}, "x@a.example, y@b.example", ("dkim b.example",),
        "fail", "reject", "a.example",
    ),
    Example("22c", {"example.com": "p=reject"}, "x@example.com, y@EXAMPLE.com", (), "fail", "reject"),
    Example("23a", {"any.example.com": "p=none", "example.com": "p=reject"}, "a@any.example.com", (), "fail", "none"),
    Example("23b", {"any.example.com": "", "example.com": "p=reject"}, "a@any.example.com", (), "fail", "reject"),
    Example("24a", ONLY_SUB, "a@m.example.com", ("dkim example.com",), "fail", "reject"),
    Example("24b", {**ONLY_SUB, "b.m.example.com": ""}, "a@m.example.com", ("spf b.m.example.com",), "pass"),
    Example("24c", ONLY_SUB, "a@example.com", ("dkim example.com",), "none"),
]  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.number)
def test_worked_example(example: Example) -> None:
    found = result_of(example.zone, example.sender, example.identifiers)
    assert found.result == example.result
    if example.policy:
        assert found.policy == example.policy
    if example.domain:
        assert found.domain == example.domain


@pytest.mark.parametrize("header", ["From: a@a.example\r\nFrom: b@b.example\r\n", "To: b@example.com\r\n"])
def test_22a_no_author_is_no_dmarc(header: str) -> None:
    domains = author(Message.from_octets(f"{header}\r\n".encode()).fields).domains
    resolver = Resolver(source({"a.example": "p=reject"}), ManualClock())
    assert asyncio.run(judge(resolver, domains, *facts(()))).result == "permerror"


@pytest.mark.parametrize(
    ("zone", "domain", "asked"),
    [
        ({"example.com": "p=reject"}, "mail.example.com", ["mail.example.com", "example.com", "com"]),
        (
            {"example.com": "p=reject"}, DEEP,
            [DEEP, "g.h.i.j.k.example.com", "h.i.j.k.example.com", "i.j.k.example.com", "j.k.example.com",
             "k.example.com", "example.com", "com"],
        ),
        ({}, "a.b.c.d.e.f.example.com", None),
        ({}, "com", ["com"]),
        ({}, ".".join("abcdefghijklmnopqrstuvwxyz"), None),
    ],
)  # fmt: skip
def test_the_walk_asks_at_most_eight_names(zone: Published, domain: str, asked: list[str] | None) -> None:
    noted = source(zone)
    asyncio.run(treewalk.walk(Resolver(noted, ManualClock()), domain))
    assert len(noted.asked) <= 8
    if asked is not None:
        assert noted.asked == [f"_dmarc.{name} TXT" for name in asked]


@pytest.mark.parametrize(
    ("zone", "domain", "organization"),
    [
        (DEPARTMENT, "x.dept.example.com", "dept.example.com"),
        (BANK, "mail.giant.bank.example", "giant.bank.example"),
        (BANK, "mail.mega.bank.example", "mega.bank.example"),
        (BANK, "bank.example", "bank.example"),
        (SUFFIX, "mail.giant.bank.example", "giant.bank.example"),
        (ONLY_SUB, "m.example.com", "m.example.com"),
        (ONLY_SUB, "example.com", "example.com"),
        ({}, "nothing.example.org", "nothing.example.org"),
        ({"example": "p=none; psd=y"}, DEEP.replace("com", "example"), "example.example"),
        (TROUBLE, "m.example.com", ""),
    ],
)
def test_organizational_domain(zone: Published, domain: str, organization: str) -> None:
    walk = asyncio.run(treewalk.walk(Resolver(source(zone), ManualClock()), domain))
    assert walk.organization == organization
