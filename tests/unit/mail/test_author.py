"""The author: whoever the From names, and nobody where two programs could read two people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.author import Author, author
from gateway.mail.message import Field, Message
from tests.support.work import grows_linearly


def read(value: str | bytes, *, smtputf8: bool = False) -> Author:
    octets = value if isinstance(value, bytes) else value.encode()
    return author([Field(b"From", b"From:" + octets + b"\r\n")], smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("value", "address", "name"),
    [
        (" user@example.com", "user@example.com", ""),
        (" <user@Example.COM>", "user@example.com", ""),
        ("user@example.com", "user@example.com", ""),
        (" A User <user@example.com>", "user@example.com", "A User"),
        (' "User, A." <user@example.com>', "user@example.com", "User, A."),
        (" John Q. Public <user@example.com>", "user@example.com", "John Q. Public"),
        (" Example.com <user@example.com>", "user@example.com", "Example.com"),
        (" user@example.com (A User)", "user@example.com", "A User"),
        (' "quoted local"@example.com', '"quoted local"@example.com', ""),
        (' "a\\"b"@example.com', '"a\\"b"@example.com', ""),
        (' "quoted"@example.com', '"quoted"@example.com', ""),
        (" user@[192.0.2.1]", "user@[192.0.2.1]", ""),
        (" user@[IPv6:2001:DB8::1]", "user@[IPv6:2001:db8::1]", ""),
        ("\r\n A User\r\n <user@example.com>", "user@example.com", "A User"),
        # RFC 5322 appendix A.5
        (
            " Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            "pete@silly.test",
            "Pete",
        ),
        (" =?utf-8?q?J=C3=BCrgen?= <user@example.com>", "user@example.com", "Jürgen"),
        (' "ceo@other.example" <user@example.com>', "user@example.com", "ceo@other.example"),
        (" =?utf-8?q?ceo=40other.example?= <user@example.com>", "user@example.com", "ceo@other.example"),
        (" user+tag=x@example.com", "user+tag=x@example.com", ""),
        (" user @ example.com", "user@example.com", ""),
    ],
)
def test_one_author(value: str, address: str, name: str) -> None:
    found = read(value)
    assert (found.valid, found.address, found.name, found.why) == (True, address, name, "")
    assert found.domain == address.rpartition("@")[2]
    assert found.domains == (found.domain,)


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("", ()),
        (" ", ()),
        (" <>", ()),
        (" user", ()),
        (" <user>", ()),
        (" A User", ()),
        (" user@", ()),
        (" @example.com", ()),
        (" user@example..com", ()),
        (" .user@example.com", ()),
        (" us..er@example.com", ()),
        (" user@example.com user@example.net", ()),
        (" <user@example.com> <user@example.net>", ()),
        (" <any@attack.example>admin@victim.example", ()),
        (" admin@victim.example <any@attack.example>", ()),
        (" a@b@example.com", ()),
        (' "a"b@example.com', ()),
        (" <user@example.com", ()),
        (" user@example.com>", ()),
        (" user@exa mple.com", ()),
        (' "user@example.com', ()),
        (" (user@example.com", ()),
        (" user@example.com)", ()),
        (" user\\@example.com", ()),
        (" <admin@victim.example>\\,<second@attack.example>", ()),
        (" =?utf-8?B?PGFkbWluQGxlZ2l0aW1hdGUuY29tPg==?=,<second@attack.example>", ()),
        (" user@[not.an.address]", ()),
        (' user@"example.com"', ()),
        (" user@example.com;", ()),
        (" a:user@example.com", ()),
        (" <user@example.com\0@attack.example>", ()),
        (" user@example.com\x01", ()),
        (" user@example.com\rX", ()),
        (b" user@\xff.example", ()),
        (" us\x85er@example.com", ()),
        (" A\x9bB <user@example.com>", ()),
        (" us\x7fer@example.com", ()),
        (" -@-.example", ("-.example",)),
        (" user@x_y.example.com", ("x_y.example.com",)),
        (" a@example.com, b@example.net", ("example.com", "example.net")),
        (" a@example.com, b@EXAMPLE.com", ("example.com",)),
        (" a@example.com,", ("example.com",)),
        (" ,a@example.com", ("example.com",)),
        (" a:<first@attack.example>;, <admin@victim.example>", ("attack.example", "victim.example")),
        (" friends:a@example.com;", ("example.com",)),
        (" undisclosed:;", ()),
        (" <@attack.example,@any.example:admin@victim.example>", ("victim.example",)),
        (" admin(comment).x@victim.example", ("victim.example",)),
        (" admin@victim . example", ("victim.example",)),
        (' "a"."b"@victim.example', ("victim.example",)),
        (" (admin@victim.example) any@attack.example", ("attack.example",)),
        (" any@attack.example (<admin>)", ("attack.example",)),
        (" =?utf-8?q?admin=40victim.example?=@attack.example", ("attack.example",)),
        (" jürgen@example.com", ("example.com",)),
        (" Jürgen <user@example.com>", ("example.com",)),
    ],
)
def test_no_single_clear_author(value: str | bytes, domains: tuple[str, ...]) -> None:
    found = read(value)
    assert not found.valid
    assert found.why
    assert found.domains == domains
    assert found.domain == (domains[0] if len(domains) == 1 else "")


def test_utf8_needs_smtputf8() -> None:
    found = read(" Jürgen <jürgen@bücher.example>", smtputf8=True)
    assert (found.valid, found.address) == (True, "jürgen@xn--bcher-kva.example")
    assert not read(" Jürgen <jürgen@bücher.example>").valid


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"To: a@example.com\r\n",
        b"From: a@example.com\r\nFrom: b@example.com\r\n",
        b"From: a@example.com\r\nfROM : b@example.com\r\n",
        b"Resent-From: a@example.com\r\nSender: a@example.com\r\n",
    ],
)
def test_exactly_one_field(header: bytes) -> None:
    assert not author(Message.from_octets(header + b"\r\n").fields).valid


def test_the_name_is_one_visible_line() -> None:
    found = read(" =?utf-8?q?a=0D=0AX-Evil=3A_b=E2=80=AEc=00?= <user@example.com>")
    assert found.name == "a  X-Evil: bc"


@given(st.text(alphabet='ab@<>,;:."\\()[] =?\r\n\t\0é', max_size=40))
def test_any_text_gets_an_answer(text: str) -> None:
    found = read(text)
    if found.valid:
        assert found.address.endswith("@" + found.domain)
        assert len(found.domains) == 1


@pytest.mark.parametrize(
    "piece", ["(", "<", ",", '"', "\\", "a@b.c,", "a:", "[", "=?", "@", ".", "a.", "=?utf-8?q?", "é"]
)
def test_long_fields_cost_little(piece: str) -> None:
    read(" " + piece * (60_000 // len(piece.encode())))
    assert grows_linearly(lambda size: read(" " + piece * (size // len(piece.encode()))), 3_000)
