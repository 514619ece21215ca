"""The grammar of RFC 7208 section 12 by table, macro expansion of section 7, and the bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.spf_record import MAX_OCTETS, MAX_PERCENTS, MAX_TERMS, Malformed, domain_spec, is_spf, macros, parse
from tests.support.work import lines

VALUES = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "p": "mx.example.org",
    "v": "in-addr",
    "h": "helo.example",
    "c": "192.0.2.3",
    "r": "mx.example.com",
    "t": "1700000000",
}


@pytest.mark.parametrize(
    ("octets", "it_is"),
    [
        (b"v=spf1", True),
        (b"v=spf1 -all", True),
        (b"V=SPF1 ", True),
        (b"v=spf10 -all", False),
        (b"v=spf1\t-all", False),
        (b" v=spf1", False),
        (b"v=spf2.0/mfrom", False),
        (b"", False),
    ],
)
def test_which_records_are_spf(octets: bytes, it_is: bool) -> None:
    assert is_spf(octets) is it_is


@pytest.mark.parametrize(
    "terms",
    [
        "",
        " ",
        "  -all  ",
        "a",
        "a/24",
        "a//64",
        "a/24//64",
        "a/0//0",
        "a:x.example/24//64",
        "mx",
        "MX:x.example",
        "ptr",
        "ptr:x.example",
        "ip4:192.0.2.1",
        "ip4:192.0.2.0/24",
        "ip4:0.0.0.0/0",
        "ip6:::1",
        "ip6:2001:db8::/32",
        "ip6:::ffff:1.2.3.4/96",
        "exists:%{ir}.sbl.example",
        "include:_spf.%{d}",
        "redirect=%{o}",
        "exp=x.example",
        "x=",
        "x-y_z.1=anything:/%{d}%%",
        "?a +mx ~all",
        "a:x.example.",
        "a:a-b.c--d",
        "a:x.1-2",
        "a:x.xn--abc",
        "exists:%{l1r-+}.x.example",
        "exists:%{L}",
        "exists:a%-%_%%.x.y",
        "a:foo/bar.example/24",
        "a:a..example",
        "exists:%%",
        "a:%{d}/24",
        "a:x.example,y.example",
    ],
)
def test_good_records(terms: str) -> None:
    assert parse(b"v=spf1 " + terms.encode()).error == ""


@pytest.mark.parametrize(
    "terms",
    [
        "all.",
        "all:x",
        "all/8",
        "-",
        "?all?",
        "a:",
        "a/",
        "a//",
        "a/33",
        "a//129",
        "a/024",
        "a/24/64",
        "a/24//064",
        "a:/24",
        "a.b",
        "a:museum",
        "a:museum.",
        "a:x.1",
        "a:x.-a",
        "a:x.a-",
        "a:%",
        "a:%{",
        "a:%{d",
        "a:%{}",
        "a:%{q}",
        "a:%{d}x",
        "a:%(d)",
        "a:%{d0}",
        "a:%{d-2}",
        "a:%{c}",
        "include",
        "include:",
        "include/24",
        "exists",
        "exists:",
        "ptr:",
        "ptr/24",
        "ip4",
        "ip4:",
        "ip4:1.2.3",
        "ip4:1.2.3.4.5",
        "ip4:01.2.3.4",
        "ip4:1.2.3.4/",
        "ip4:1.2.3.4/33",
        "ip4:1.2.3.4/032",
        "ip4:1.2.3.4//24",
        "ip4:::1",
        "ip6:1.2.3.4",
        "ip6:::1/129",
        "ip6:::1/",
        "ip6:::1%lo",
        "ip6:[::1]",
        "redirect=",
        "redirect:x.example",
        "exp=",
        "exp=x.example exp=x.example",
        "redirect=x.example redirect=x.example",
        "-redirect=x.example",
        "=x",
        "1x=x",
        "x=%",
        "x=%{t}",
        "moo",
        "v=spf1 moo",
        "a\x01",
        "a\t-all",
        "x=\x7f",
        "?",
        "+-all",
    ],
)
def test_bad_records(terms: str) -> None:
    record = parse(b"v=spf1 " + terms.encode())
    assert record.error
    assert record.directives == ()


@pytest.mark.parametrize(
    "octets",
    [
        b"v=spf1 a:\xc3\xbc.example",
        b"v=spf1 \xff",
        b"v=spf1 " + b"a " * (MAX_TERMS + 1),
        b"v=spf1 x=" + b"%%" * (MAX_PERCENTS // 2 + 1),
        b"v=spf1 " + b" " * MAX_OCTETS,
    ],
)
def test_records_beyond_bounds(octets: bytes) -> None:
    assert parse(octets).error


@given(st.binary(max_size=200))
def test_any_octets_are_a_record_or_an_error(octets: bytes) -> None:
    parse(b"v=spf1 " + octets)


@given(st.text(alphabet="%{}slodiphcrtvSLODIPHCRTV0123456789r.-+,/_= a:", max_size=60))
def test_any_macro_string_is_one_or_malformed(text: str) -> None:
    try:
        expanded = macros(text, explanation=True)
    except Malformed:
        return
    assert len(expanded.domain(VALUES.__getitem__)) <= 253


@pytest.mark.parametrize(
    ("text", "domain"),
    [  # the examples of RFC 7208 section 7.4, and the edges of 7.3
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("%{d99999999999999999999}", "email.example.com"),
        ("%{S}.x.example", "strong-bad%40email.example.com.x.example"),
        ("a%%b%_c%-d.x.example", "a%b c%20d.x.example"),
        ("x.example.", "x.example"),
        ("%{o}.", None),
    ],
)
def test_expansion(text: str, domain: str | None) -> None:
    if domain is None:
        with pytest.raises(Malformed):
            domain_spec(text)
    else:
        assert domain_spec(text).domain(VALUES.__getitem__) == domain


@pytest.mark.parametrize(
    ("prefix", "kept"),
    [
        ("", ".".join(["a" * 9] * 24)),  # 239 + 14 = 253: fits
        ("b.", ".".join(["a" * 9] * 24)),
        ("b" * 300 + ".", ".".join(["a" * 9] * 24)),
    ],
)
def test_names_too_long_lose_labels_on_the_left(prefix: str, kept: str) -> None:
    spec = domain_spec(prefix + ".".join(["a" * 9] * 24) + ".under.example")
    assert spec.domain(VALUES.__getitem__) == kept + ".under.example"


def test_a_name_of_one_endless_label_is_none() -> None:
    assert domain_spec("%{s}").domain(lambda _: "x" * 400) == ""


@pytest.mark.parametrize(
    "octets",
    [
        b"v=spf1 a:" + b"/1" * 4000,
        b"v=spf1 a" + b"/" * 8000,
        b"v=spf1 a:x." + b"1" * 8000 + b"-",
        b"v=spf1 exists:%{d" + b"9" * 8000 + b"}",
        b"v=spf1 exists:%{d" + b"." * 8000 + b"}",
        b"v=spf1 exists:" + b"%{d" * 2000,
        b"v=spf1 " + b"ip4:192.0.2.1 " * 300,
        b"v=spf1 " + b"x=%{d}%{d}%{d} " * 60,
    ],
)
def test_no_record_costs_much(octets: bytes) -> None:
    parse(octets + b" ")
    assert lines(lambda: parse(octets)) < 20_000
