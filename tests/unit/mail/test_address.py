"""Addresses by table, the spoofers' ones refused, and any octets a mailbox or a refusal."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.address import Mailbox, address_literal, parse_path, to_ascii
from gateway.mail.reply import SyntaxRefused

SHARED = Path(os.environ.get("GATEPOST_SHARED", Path(__file__).resolve().parents[4] / "shared"))
ATTACKS = SHARED / "conformance" / "attacks"

GOOD = [
    (b"<a@b.example>", "a@b.example"),
    (b" <a@b.example>", "a@b.example"),
    (b"<A.b+c@B.Example.>", "A.b+c@b.example"),
    (b"<!#$%&'*+-/=?^_`{|}~@x.example>", "!#$%&'*+-/=?^_`{|}~@x.example"),
    (b"<user%host@x.example>", "user%host@x.example"),
    (b'<"">', None),
    (b'<""@x.example>', '""@x.example'),
    (b'<"a b"@x.example>', '"a b"@x.example'),
    (b'<"a@b>"@x.example>', '"a@b>"@x.example'),
    (b'<"a\\"b\\\\"@x.example>', '"a\\"b\\\\"@x.example'),
    (b"<a@[192.0.2.1]>", "a@[192.0.2.1]"),
    (b"<a@[ipv6:2001:DB8::1]>", "a@[IPv6:2001:db8::1]"),
    (b"<a@[IPv6:::ffff:192.0.2.1]>", "a@[IPv6:::ffff:c000:201]"),
    (b"<@one.example,@two.example:a@x.example>", "a@x.example"),
    (b"<a@localhost>", "a@localhost"),
    (b"<a@xn--bcher-kva.example>", "a@xn--bcher-kva.example"),
    (b"<" + b"l" * 64 + b"@x.example>", "l" * 64 + "@x.example"),
]

BAD = [
    b"",
    b"a@b.example",
    b"  <a@b.example>",
    b"<a@b.example",
    b"a@b.example>",
    b"<<a@b.example>>",
    b"< a@b.example>",
    b"<a@b.example >",
    b"<a@b.example>x",
    b"<a@b.example>\tSIZE=1",
    b"<a>",
    b"<@b.example>",
    b"<a@>",
    b"<a@.example>",
    b"<a@b..example>",
    b"<a@b.example..>",
    b"<a@-b.example>",
    b"<a@b-.example>",
    b"<a@b_c.example>",
    b"<a@" + b"l" * 64 + b".example>",
    b"<a@192.0.2.1>",
    b"<a@example.123>",
    b"<.a@b.example>",
    b"<a.@b.example>",
    b"<a..b@b.example>",
    b"<a b@b.example>",
    b"<a(comment)@b.example>",
    b"<a@b.example(comment)>",
    b"<a@b@c.example>",
    b"<a,b@c.example>",
    b"<a:b@c.example>",
    b'<a"b"@c.example>',
    b'<"a"b@c.example>',
    b'<"a"."b"@c.example>',
    b'<"a@c.example>',
    b'<"a\\"@c.example>',
    b'<"a\x01"@c.example>',
    b"<a\x00@c.example>",
    b"<a\r@c.example>",
    b"<a\n@c.example>",
    b"<a@b.example\r\n>",
    b"<a\x7f@c.example>",
    b"<a@[192.0.2]>",
    b"<a@[192.0.2.256]>",
    b"<a@[192.0.2.01]>",
    b"<a@[IPv6:2001:db8::g]>",
    b"<a@[IPv6:fe80::1%eth0]>",
    b"<a@[2001:db8::1]>",
    b"<a@[x-tag:word]>",
    b"<a@[192.0.2.1>",
    b"<a@192.0.2.1]>",
    b"<a@[192.0.2.1].example>",
    b"<@one.example>",
    b"<@one.example,two.example:a@x.example>",
    b"<@one_example:a@x.example>",
    b"<@one.example:@two.example:a@x.example>",
    b"<" + b"l" * 65 + b"@x.example>",
    b"<a@" + b"l.example." * 30 + b"example>",
    b"<a@\xff.example>",
    "<a\u0085b@x.example>".encode(),
    "<a\u2028b@x.example>".encode(),
    "<a@\u2024.example>".encode(),
]


@pytest.mark.parametrize(("octets", "text"), GOOD)
def test_what_the_grammar_allows(octets: bytes, text: str | None) -> None:
    if text is None:
        with pytest.raises(SyntaxRefused):
            parse_path(octets, smtputf8=False, what="reverse")
        return
    mailbox, rest = parse_path(octets, smtputf8=False, what="reverse")
    assert (str(mailbox), rest) == (text, b"")


@pytest.mark.parametrize("octets", BAD)
@pytest.mark.parametrize(("what", "status"), [("reverse", "5.1.7"), ("forward", "5.1.3")])
def test_what_it_does_not(octets: bytes, what: str, status: str) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_path(octets, smtputf8=True, what=what)  # type: ignore[arg-type]
    assert (refused.value.reply.code, refused.value.reply.status) == (501, status)
    assert not refused.value.close


def test_parameters_are_left_to_the_caller() -> None:
    assert parse_path(b"<a@b.example>  SIZE=1 X ", smtputf8=False, what="reverse")[1] == b"SIZE=1 X"
    assert parse_path(b'<"> "@b.example> SIZE=1', smtputf8=False, what="reverse") == (
        Mailbox('"> "', "b.example"),
        b"SIZE=1",
    )


def test_the_null_path_is_a_senders_alone() -> None:
    assert parse_path(b"<> SIZE=1", smtputf8=False, what="reverse") == (None, b"SIZE=1")
    with pytest.raises(SyntaxRefused):
        parse_path(b"<>", smtputf8=False, what="forward")


def test_bare_postmaster_is_a_recipient_alone() -> None:
    mailbox, _ = parse_path(b"<PostMaster>", smtputf8=False, what="forward")
    assert mailbox == Mailbox("PostMaster", "")
    assert str(mailbox) == "PostMaster"
    with pytest.raises(SyntaxRefused):
        parse_path(b"<postmaster>", smtputf8=False, what="reverse")


def test_utf8_needs_smtputf8() -> None:
    octets = "<süß@bücher.example>".encode()
    with pytest.raises(SyntaxRefused) as refused:
        parse_path(octets, smtputf8=False, what="forward")
    assert (refused.value.reply.code, refused.value.reply.status) == (553, "5.6.7")
    mailbox, _ = parse_path(octets, smtputf8=True, what="forward")
    assert mailbox == Mailbox("süß", "xn--bcher-kva.example")
    assert mailbox.is_utf8
    assert not Mailbox.parse(b"a@b.example").is_utf8


def test_lengths_are_octets() -> None:
    Mailbox.parse(("ü" * 32 + "@x.example").encode(), smtputf8=True)
    with pytest.raises(SyntaxRefused):
        Mailbox.parse(("ü" * 33 + "@x.example").encode(), smtputf8=True)


def test_a_domain_that_grows_too_long_is_refused() -> None:
    octets = ("l" * 64 + "@" + "ü." * 28 + "example").encode()
    with pytest.raises(SyntaxRefused):
        Mailbox.parse(octets, smtputf8=True)


def test_a_whole_argument_is_no_mailbox() -> None:
    for octets in (b"<a@b.example>", b"@one.example:a@b.example", b"postmaster", b"", b"a@b.example x"):
        with pytest.raises(SyntaxRefused):
            Mailbox.parse(octets)


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("EXAMPLE.com", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER。example", "xn--bcher-kva.example"),
        ("ＥＸＡＭＰＬＥ.com", "example.com"),
        ("faß.example", "xn--fa-hia.example"),
        ("l" * 63 + ".example", "l" * 63 + ".example"),
        ("1and1.example", "1and1.example"),
    ],
)
def test_domains_become_a_labels(domain: str, name: str) -> None:
    assert to_ascii(domain) == name


@pytest.mark.parametrize(
    "domain",
    [
        "",
        ".",
        "a..b",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a b.c",
        "l" * 64,
        "1.2.3.4",
        "a.1",
        "ü" * 64,
        "ü" * 300,
        "\u200b.example",
        "a/b.example",
        "\u2488com",
        "x." * 127 + "com",
        "a\n",
        "\ud800.example",
    ],
)
def test_what_is_no_host_name(domain: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        to_ascii(domain)


def test_address_literals_have_one_form() -> None:
    assert address_literal("[192.0.2.1]") == "[192.0.2.1]"
    assert address_literal("[IPV6:2001:0DB8:0::0001]") == "[IPv6:2001:db8::1]"
    for text in ("192.0.2.1", "[]", "[", "[IPv6:]", "[192.0.2.1", "[" + "1" * 80 + "]", "[٣.0.2.1]"):
        assert address_literal(text) == ""


def spoofers() -> list[tuple[str, bytes, str]]:
    """Cases of the published collection whose MAIL FROM must be refused."""
    file = ATTACKS / "espoofer-facts.yml"
    if not file.exists():
        return []
    found = yaml.safe_load(file.read_text("utf-8"))
    return [
        (case["id"], case["mail_from"].encode("latin-1"), case["expect"].get("smtp", ""))
        for case in found["cases"] + found["own_cases"]
    ]


@pytest.mark.skipif(not spoofers(), reason="../shared/conformance/attacks is not there")
def test_addresses_that_spoof() -> None:
    for name, octets, expected in spoofers():
        if expected.startswith("501 or 553"):
            with pytest.raises(SyntaxRefused) as refused:
                parse_path(octets, smtputf8=False, what="reverse")
            assert refused.value.reply.code in {501, 553}, name
        else:
            mailbox, _ = parse_path(octets, smtputf8=False, what="reverse")
            assert mailbox is not None, name
            assert mailbox.domain.endswith(("attack.com", "notexist.legitimate.com")), name


ALPHABET = st.sampled_from([b"a", b"@", b".", b'"', b"\\", b"<", b">", b"[", b"]", b":", b",", b" ", b"-", b"\xc3\xbc"])
OCTETS = st.one_of(st.binary(max_size=80), st.lists(ALPHABET, max_size=24).map(b"".join))


@settings(max_examples=600, deadline=None)
@given(OCTETS, st.booleans())
def test_any_octets_are_a_mailbox_or_refused(octets: bytes, smtputf8: bool) -> None:
    try:
        mailbox = Mailbox.parse(octets, smtputf8=smtputf8)
    except SyntaxRefused:
        return
    assert Mailbox.parse(str(mailbox).encode(), smtputf8=smtputf8) == mailbox
    assert len(str(mailbox).encode()) <= 254
    assert to_ascii(mailbox.domain) == mailbox.domain or mailbox.domain.startswith("[")


@settings(max_examples=600, deadline=None)
@given(OCTETS, st.booleans(), st.sampled_from(["reverse", "forward"]))
def test_any_octets_are_a_path_or_refused(octets: bytes, smtputf8: bool, what: str) -> None:
    try:
        mailbox, _ = parse_path(octets, smtputf8=smtputf8, what=what)  # type: ignore[arg-type]
    except SyntaxRefused:
        return
    again = f"<{'' if mailbox is None else mailbox}>".encode()
    assert parse_path(again, smtputf8=smtputf8, what=what) == (mailbox, b"")  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_host_name_or_none(text: str) -> None:
    try:
        name = to_ascii(text)
    except ValueError:
        return
    assert name.isascii()
    assert to_ascii(name) == name


def test_long_hostile_paths_take_no_time() -> None:
    for octets in (b'<"' * 30_000, b"<" + b"\\" * 60_000, b"<" + b'"a' * 30_000 + b">", b"<@" + b"a," * 30_000 + b":"):
        with pytest.raises(SyntaxRefused):
            parse_path(octets, smtputf8=True, what="reverse")
