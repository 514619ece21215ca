"""Subject, list, hops: decoded, on one line, bounded."""

import asyncio

from gateway.checks.content import Content, ContentFact
from gateway.checks.facts import Facts
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message


def fact(octets: bytes) -> ContentFact:
    session = Session("S", "192.0.2.1", 1, "192.0.2.2", 25, 0)
    tx = Transaction("T", session, Envelope(None), 0, Message.from_octets(octets))

    async def run() -> ContentFact:
        return await Facts({Content: Content()}, tx).get(Content)

    return asyncio.run(run())


def test_what_it_names() -> None:
    found = fact(
        b"Received: a\r\nReceived: b\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_an_alle?=\r\n"
        b"List-Id: The <list> of <News.Example.org>\r\n\r\n"
    )
    assert found == ContentFact("Grüße an alle", "news.example.org", 2)
    assert Content().named(found) == {
        "message.subject": "Grüße an alle",
        "message.list_id": "news.example.org",
        "message.hops": 2,
    }
    assert not Content().failed(found)
    assert Content().failed(Content().error())


def test_nothing_there() -> None:
    assert fact(b"\r\n") == ContentFact()


def test_strange_octets_are_seen_as_such() -> None:
    found = fact(b"Subject: a\xffb=?utf-8?q?=0D=0AX=3A_y?=\r\nList-Id: plain.example\r\n\r\n")
    assert found.subject == "a�b  X: y"
    assert found.list_id == "plain.example"


def test_only_the_first_counts() -> None:
    assert fact(b"Subject: a\r\nSubject: b\r\n\r\n").subject == "a"
