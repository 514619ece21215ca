"""check_host(): limits, errors, explanations, hostile records. The suites cover the ordinary (tests/conformance)."""

import asyncio
from typing import Any

import pytest

from gateway.checks import spf_evaluator
from gateway.checks.spf_evaluator import MAX_LOOKUPS, Verdict, evaluate, judged_domain
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from tests.support.work import lines

REVERSE = "1.2.0.192.in-addr.arpa"


def txt(*records: str) -> dict[str, Any]:
    return {"TXT": ['"' + r.replace("\\", "\\\\").replace('"', '\\"') + '"' for r in records]}


def judge(zone: dict[str, Any], *, local: str = "user", domain: str = "a.example", ip: str = "192.0.2.1") -> Verdict:
    resolver = Resolver(Zone(zone), ManualClock())
    return asyncio.run(evaluate(resolver, ip, "helo.example", local, domain, receiver="mx.example.com", now=1.7e9))


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Example.org", "Example.org"),
        ("example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_x.example.org", "_x.example.org"),
        ("localhost", ""),
        ("localhost.", ""),
        ("", ""),
        ("[192.0.2.1]", ""),
        ("a..example", ""),
        ("a" * 64 + ".example", ""),
        ("ü" * 300 + ".example", ""),
        ("nul\0.example", ""),
        ("\udc80.example", ""),
    ],
)
def test_which_domains_can_be_judged(text: str, domain: str) -> None:
    assert judged_domain(text) == domain


def test_ten_terms_that_ask_are_allowed_and_eleven_are_not() -> None:
    host = {"A": ["198.51.100.1"]}
    ten = txt("v=spf1 " + "a:h.example " * MAX_LOOKUPS + "+all")
    eleven = txt("v=spf1 " + "a:h.example " * (MAX_LOOKUPS + 1) + "+all")
    assert judge({"a.example": ten, "h.example": host}).result == "pass"
    assert judge({"a.example": eleven, "h.example": host}).result == "permerror"


def test_includes_share_the_limit() -> None:
    zone: dict[str, Any] = {f"i{n}.example": txt(f"v=spf1 include:i{n + 1}.example") for n in range(20)}
    assert judge({"a.example": txt("v=spf1 include:i0.example +all"), **zone}).result == "permerror"
    zone["i8.example"] = txt("v=spf1 -all")
    assert judge({"a.example": txt("v=spf1 include:i0.example +all"), **zone}).result == "pass"


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 a:v1.example a:v2.example +all", "pass"),
        ("v=spf1 a:v1.example a:v2.example a:v3.example +all", "permerror"),
        ("v=spf1 exists:v1.example mx:v2.example ptr +all", "permerror"),
        ("v=spf1 a:v1.example a:v2.example mx:three.example +all", "permerror"),  # its hosts have no address: one void
        ("v=spf1 a:v1.example mx:three.example +all", "pass"),
        ("v=spf1 a:no..name a:v1.example a:v2.example exists:no..name +all", "pass"),  # no question, no void
        ("v=spf1 a:v1.example a:v2.example a:here.example a:v3.example", "pass"),  # the third never comes to it
    ],
)
def test_void_terms(record: str, result: str) -> None:
    zone = {
        "a.example": txt(record),
        "three.example": {"MX": [f"10 v{n}.example." for n in range(4, 7)]},
        "here.example": {"A": ["192.0.2.1"]},
    }
    assert judge(zone).result == result


@pytest.mark.parametrize(
    ("zone", "result"),
    [
        ({"a.example": txt("v=spf1 mx +all") | {"MX": [f"{n} h.example." for n in range(11)]}}, "permerror"),
        ({"a.example": txt("v=spf1 mx ~all") | {"MX": ["0 ."]}}, "softfail"),  # RFC 7505: takes no mail
        ({"a.example": {"TXT": "SERVFAIL"}}, "temperror"),
        ({"a.example": {"CNAME": ["a.example."]}}, "temperror"),
        ({"a.example": txt("v=spf1 a:dead.example +all"), "dead.example": {"A": "TIMEOUT"}}, "temperror"),
        ({"a.example": txt("v=spf1 include:dead.example +all"), "dead.example": {"TXT": "TIMEOUT"}}, "temperror"),
        ({"a.example": txt("v=spf1 include:none.example +all")}, "permerror"),
        ({"a.example": txt("v=spf1 redirect=none.example")}, "permerror"),
        ({"a.example": txt("v=spf1 redirect=%{h1}")}, "permerror"),
        ({"a.example": txt("v=spf1 include:b.example +all"), "b.example": txt("v=spf1 moo")}, "permerror"),
        ({"a.example": txt("v=spf1 +all", "v=spf1 -all")}, "permerror"),
        ({"a.example": txt("v=spf1 +all", "something else")}, "pass"),
        ({"a.example": {"SPF": ['"v=spf1 +all"'], "TXT": []}}, "none"),
        ({}, "none"),
        ({"a.example": txt("v=spf1 ptr +all"), REVERSE: {"PTR": "SERVFAIL"}}, "pass"),
        (
            {
                "a.example": txt("v=spf1 -ptr ?all"),
                REVERSE: {"PTR": ["x.example.", "y.a.example."]},
                "x.example": {"A": "SERVFAIL"},
                "y.a.example": {"A": ["192.0.2.1"]},
            },
            "fail",
        ),
    ],
)
def test_results(zone: dict[str, Any], result: str) -> None:
    assert judge(zone).result == result


def test_the_owner_of_the_reverse_zone_cannot_turn_fail_into_permerror() -> None:
    zone = {
        "a.example": txt("v=spf1 ptr ptr:%{p} -all"),
        REVERSE: {"PTR": [f"h{n}.example." for n in range(1000)]},
        **{f"h{n}.example": {"A": ADDRESSES} for n in range(10)},
    }
    assert judge(zone).result == "fail"


def test_a_local_part_that_is_not_ascii_matches_no_term_that_names_it() -> None:
    zone = {
        "a.example": txt("v=spf1 exists:%{l}.x.example exists:%{S}.x.example include:%{l}.x.example ?all"),
        "%c3%bc%40a.example.x.example": {"A": ["127.0.0.2"]},
    }
    assert judge(zone, local="ü").result == "neutral"
    assert judge({"a.example": txt("v=spf1 redirect=%{l}.x.example")}, local="ü").result == "neutral"
    assert judge({"a.example": txt("v=spf1 -all exp=%{l}.x.example")}, local="ü").result == "fail"


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("%{s} %{l} %{o} %{d}", "user@a.example user a.example a.example"),
        ("%{i} %{v} %{h} %{c} %{r} %{t}", "192.0.2.1 in-addr helo.example 192.0.2.1 mx.example.com 1700000000"),
        ("%{p}", "mx.a.example"),
        ("100%% sure%_and%-so", "100% sure and%20so"),
        ("bad %{x}", ""),
        ("bad % x", ""),
        ("x" * 399, "x" * 399),
        ("x" * 5000, "x" * 397 + "..."),
        ("%{s}" * 1000, ""),
    ],
)
def test_explanations(text: str, explanation: str) -> None:
    zone = {
        "a.example": txt("v=spf1 -all exp=e.example"),
        "e.example": txt(text),
        REVERSE: {"PTR": ["other.example.", "mx.a.example."]},
        "mx.a.example": {"A": ["192.0.2.1"]},
        "other.example": {"A": ["192.0.2.1"]},
    }
    assert judge(zone).explanation == explanation


@pytest.mark.parametrize("exp", [{"TXT": "SERVFAIL"}, {"TXT": []}, txt("one", "two"), {"TXT": ['"\\252"']}])
def test_no_explanation(exp: dict[str, Any]) -> None:
    zone = {"a.example": txt("v=spf1 -all exp=e.example"), "e.example": exp}
    assert judge(zone) == Verdict(spf_evaluator.Result.FAIL, "", "all of a.example", "all")


def test_an_explanation_has_no_octet_that_is_not_printable() -> None:
    zone = {"a.example": txt("v=spf1 -all exp=e.example"), "e.example": txt("by %{l}!")}
    assert judge(zone, local='"x\r\n250 ok\x1b[2J"').explanation == 'by "x??250 ok?[2J"!'


def test_no_address() -> None:
    with pytest.raises(ValueError, match="address"):
        judge({}, ip="example.com")


ADDRESSES = [f"10.{n // 256}.{n % 256}.1" for n in range(4000)]
HOSTILE: dict[str, dict[str, Any]] = {
    "many addresses": {"a.example": txt("v=spf1 " + "a/24 " * 10 + "-all") | {"A": ADDRESSES}},
    "many addresses behind many names": {
        "a.example": txt("v=spf1 " + "mx/24 " * 10 + "-all") | {"MX": [f"1 h{n}.example." for n in range(10)]},
        **{f"h{n}.example": {"A": ADDRESSES[:190]} for n in range(10)},
    },
    "macros without end": {"a.example": txt("v=spf1 " + "exists:" + "%{s}" * 190 + ".x.example -all")},
    "empty macros": {"a.example": txt("v=spf1 " + "exists:" + "%{h9r.-+,/_=}" * 190 + ".x.example -all")},
    "a loop of includes": {"a.example": txt("v=spf1 include:a.example -all")},
    "a loop of redirects": {"a.example": txt("v=spf1 redirect=a.example")},
    "a thousand reverse names": {
        "a.example": txt("v=spf1 " + "ptr:%{p} " * 10 + "-all"),
        REVERSE: {"PTR": [f"h{n}.example." for n in range(1000)]},
        **{f"h{n}.example": {"A": ADDRESSES[:190]} for n in range(10)},
    },
    "long records behind long records": {
        "a.example": txt("v=spf1 include:i0.example -all"),
        **{
            f"i{n}.example": txt("v=spf1 " + "ip4:10.1.1.1 " * 290 + f"include:i{n + 1}.example -all") for n in range(9)
        },
        "i9.example": txt("v=spf1 " + "ip4:10.1.1.1 " * 290 + " -all"),
    },
}


@pytest.mark.parametrize("zone", HOSTILE.values(), ids=HOSTILE)
def test_no_zone_costs_much(zone: dict[str, Any]) -> None:
    resolver = Resolver(Zone(zone), ManualClock())

    def once() -> None:
        asyncio.run(evaluate(resolver, "192.0.2.1", "", "a-b.c+d" * 9, "a.example"))

    once()  # the cache is warm now, and what was remembered of records is forgotten
    spf_evaluator.parse.__globals__["_remembered"].cache_clear()
    assert lines(once) < 200_000
