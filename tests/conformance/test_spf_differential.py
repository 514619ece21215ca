"""Our SPF against pyspf on generated zones: wherever they differ, the difference is one of a known list.

The first test generates what both ought to read alike; the second lists, with the clause, where pyspf 2.0.14 differs.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.checks.spf import SpfFact, check_host
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.terms import Unavailable

spf = pytest.importorskip("spf", reason="pyspf is the oracle here, not a part of the gateway")

NAMES = ["a.example", "b.example", "c.example", "mx.a.example", "void1.example", "void2.example"]
SPECS = [
    *NAMES, *NAMES, "%{d}", "%{o}", "%{l}.%{d}", "%{ir}.%{v}.a.example", "%{h}", "%{d2}", "%{d1r}.example",
    "%{L}.example", "%{i}._spf.%{d}", "mx.%{d}", "example", "", "a.example.", "a..example",
    "%", "%{q}.a", "%{d", "%{c}.a.example", "1.2.3.4", "a.ex-ample", "x.1a", "a.-b", "a.b-", "foo%_a.example",
    "a:b/c.example", "%{d}/", "%{d99}", ".", "%{s}.a.example",
]  # fmt: skip
CIDRS = ["", "", "", "/24", "/32", "/0", "//64", "/24//64", "/33", "/024", "//129", "/", "//", "/24/64", "/x", "/24//0"]
FOURS = ["192.0.2.1", "192.0.2.0/24", "192.0.2.9", "0.0.0.0/0", "1.2.3", "192.0.2.01", "192.0.2.1/33", "192.0.2.1/", ""]
SIXES = [
    "2001:db8::1",
    "2001:db8::/32",
    "::/0",
    "::ffff:192.0.2.1",
    "2001:db8::1/129",
    "x",
    "2001:DB8::1/064",
    "::1.2.3.4",
]
OTHERS = [
    "foo=",
    "x-1=x",
    "a_b=%{d}",
    "a.b=a:b/c",
    "1x=x",
    "=x",
    "moo",
    "a:b:c",
    "-",
    "ip4",
    "=",
    ":",
    "?all?",
    "v=spf1",
]

specs = st.sampled_from(SPECS)
mechanisms = st.one_of(
    st.sampled_from(["all", "all", "ALL", "all:", "all/8", "all.", "ptr", "ptr:", "ptr/24"]),
    st.builds("{}:{}".format, st.sampled_from(["include", "exists", "ptr"]), specs),
    st.builds("{}{}".format, st.sampled_from(["a", "mx"]), st.sampled_from(CIDRS)),
    st.builds("{}:{}{}".format, st.sampled_from(["a", "mx"]), specs, st.sampled_from(CIDRS)),
    st.builds("ip4:{}".format, st.sampled_from(FOURS)),
    st.builds("ip6:{}".format, st.sampled_from(SIXES)),
)
terms = st.one_of(
    st.builds("{}{}".format, st.sampled_from(["", "", "+", "-", "~", "?"]), mechanisms),
    st.builds("{}={}".format, st.sampled_from(["redirect", "exp"]), specs),
    st.sampled_from(OTHERS),
)
records = st.builds(
    lambda head, body, tail: '"' + " ".join([head, *body]) + tail + '"',
    st.sampled_from(["v=spf1", "v=spf1", "V=SPF1", "v=spf1 "]),
    st.lists(terms, max_size=4, unique_by=lambda term: term.partition("=")[0]),
    st.sampled_from(["", "", " "]),
)
owners = st.fixed_dictionaries(
    {
        "TXT": st.one_of(records.map(lambda r: [r]), st.lists(records, max_size=2), st.just("SERVFAIL")),
        "A": st.lists(st.sampled_from(["192.0.2.1", "192.0.2.77", "198.51.100.1"]), max_size=2, unique=True),
        "AAAA": st.lists(st.sampled_from(["2001:db8::1"]), max_size=1),
        "MX": st.lists(st.sampled_from(NAMES).map("10 {}.".format), max_size=2, unique=True),
    }
)
zones = st.fixed_dictionaries(
    {
        **dict.fromkeys(NAMES[:4], owners),
        "1.2.0.192.in-addr.arpa": st.fixed_dictionaries(
            {"PTR": st.lists(st.sampled_from(NAMES).map("{}.".format), max_size=2, unique=True)}
        ),
    }
)


class Oracle:
    """pyspf over a zone."""

    def __init__(self, zone: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.resolver = Resolver(Zone(zone), ManualClock())
        monkeypatch.setattr(spf, "DNSLookup", self.lookup)

    def lookup(self, name: str, rdtype: Any, strict: bool = True, timeout: float = 20) -> list[Any]:
        try:
            answer = asyncio.run(self.resolver.query(name, rdtype))
        except Unavailable as why:
            raise spf.TempError(str(why)) from None
        return [((name, rdtype), (r,) if isinstance(r, bytes) else r) for r in answer.records]

    def check(self, ip: str, helo: str, sender: str) -> tuple[str, str, str]:
        """Result, explanation, and what pyspf objects to."""
        query = spf.query(i=ip, s=sender, h=helo, strict=True, querytime=20)
        query.set_default_explanation("")
        result, _, explanation = query.check()
        return result, explanation if result == "fail" else "", str(query.perm_error or "")


def ours(zone: dict[str, Any], ip: str, helo: str, sender: str) -> SpfFact:
    return asyncio.run(check_host(Resolver(Zone(zone), ManualClock()), ip, helo, sender))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    zones,
    st.sampled_from(["192.0.2.1", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"]),
    st.sampled_from(["foo@a.example", "foo-bar+x@a.example", "", "@a.example", "FOO@B.Example"]),
    st.sampled_from(["a.example", "b.example", "localhost", "[192.0.2.1]"]),
)
def test_both_say_the_same(zone: dict[str, Any], ip: str, sender: str, helo: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        result, explanation, objection = Oracle(zone, patch).check(ip, helo, sender)
    if "Void lookup" in objection or "trivial recursion" in objection:
        return  # below
    fact = ours(zone, ip, helo, sender)
    assert (fact.result.value, fact.explanation) == (result, explanation), (fact, objection)


MANY = {f"h{n}.example": {"A": ["198.51.100.1"]} for n in range(3)}
FOUR = "192.0.2.1"

#: Why we differ (RFC 7208), the record of a.example, more of the zone, the client, our result, pyspf's.
DIFFERENCES: list[tuple[str, str, dict[str, Any], str, str, str]] = [
    (
        "4.6.4 limits void terms, not questions: one mx with three hosts that have no AAAA is one",
        "v=spf1 mx ip6:2001:db8::/32 -all",
        {**MANY, "a.example": {"MX": [f"10 h{n}.example." for n in range(3)]}},
        "2001:db8::1",
        "pass",
        "permerror",
    ),
    (
        "5.5: a DNS error while a reverse name is validated leaves that name out",
        "v=spf1 ptr ip4:192.0.2.1 -all",
        {"1.2.0.192.in-addr.arpa": {"PTR": ["dead.example."]}, "dead.example": {"A": "SERVFAIL"}},
        "192.0.2.1",
        "pass",
        "temperror",
    ),
    (
        "4.6: a syntax error anywhere is permerror, also behind a match, also in an unknown modifier",
        "v=spf1 ip4:192.0.2.1 a_b=%{d",
        {},
        "192.0.2.1",
        "permerror",
        "pass",
    ),
    ("12: r stands before the delimiters", "v=spf1 all exists:%{l-r+}.x.example", {}, FOUR, "permerror", "pass"),
    ("5.7: exists needs a domain", "v=spf1 +exists ", {"a.example": {"A": [FOUR]}}, FOUR, "permerror", "pass"),
    ("6: unknown modifiers may repeat", "v=spf1 x=a x=b ip4:192.0.2.1", {}, FOUR, "pass", "permerror"),
    ("12: a domain may end in %%", "v=spf1 exists:%% ip4:192.0.2.1", {}, FOUR, "pass", "permerror"),
    ("4.6.2: nothing behind a match is evaluated", "v=spf1 all include:%{d}", {}, FOUR, "pass", "permerror"),
]


@pytest.mark.parametrize(("why", "record", "more", "ip", "our", "its"), DIFFERENCES, ids=[d[1] for d in DIFFERENCES])
def test_known_differences(
    why: str, record: str, more: dict[str, Any], ip: str, our: str, its: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = {**more, "a.example": {**more.get("a.example", {}), "TXT": [f'"{record}"']}}
    assert ours(zone, ip, "a.example", "x@a.example").result == our
    assert Oracle(zone, monkeypatch).check(ip, "a.example", "x@a.example")[0] == its
