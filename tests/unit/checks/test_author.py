"""The author as policies see it."""

import asyncio

import pytest

from gateway.checks.author import Author, AuthorFact
from gateway.checks.facts import Facts
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message


def fact(header: bytes, *, smtputf8: bool = False) -> tuple[AuthorFact, Author]:
    async def run() -> tuple[AuthorFact, Author]:
        check = Author(["example.com", "*.example.net"])
        session = Session("S", "192.0.2.1", 1, "192.0.2.2", 25, 0)
        message = Message.from_octets(header + b"\r\n")
        tx = Transaction("T", session, Envelope(None, smtputf8=smtputf8), 0, message)
        return await Facts({Author: check}, tx).get(Author), check

    return asyncio.run(run())


def test_all_its_names() -> None:
    found, check = fact(b"From: A <a@mail.example.org>\r\n")
    assert check.named(found) == {
        "from.valid": True,
        "from.address": "a@mail.example.org",
        "from.domain": "mail.example.org",
        "from.name": "A",
        "from.is_local": False,
    }
    assert check.named(found).keys() == check.provides.keys()
    assert not check.failed(found)


@pytest.mark.parametrize(
    ("domain", "local"),
    [("example.com", True), ("x.example.com", True), ("a.b.example.net", True), ("example.net", True),
     ("notexample.com", False), ("example.org", False), ("com", False)],
)  # fmt: skip
def test_is_local(domain: str, local: bool) -> None:
    assert fact(f"From: a@{domain}\r\n".encode())[0].is_local is local


def test_one_of_several_authors_is_local() -> None:
    found, _ = fact(b"From: a@example.org, b@example.com\r\n")
    assert (found.valid, found.is_local, found.domain) == (False, True, "")


def test_a_malformed_header_has_no_valid_author() -> None:
    found, _ = fact(b"From: a@example.org\r\nno field\r\n")
    assert not found.valid
    assert "no field" in found.why


def test_a_broken_check_has_failed() -> None:
    found, check = fact(b"From: a@example.org\r\n")
    assert not check.failed(found)
    assert check.failed(check.error())


def test_utf8_is_asked_for_in_the_envelope() -> None:
    header = "From: jürgen@example.org\r\n".encode()
    assert not fact(header)[0].valid
    assert fact(header, smtputf8=True)[0].valid
