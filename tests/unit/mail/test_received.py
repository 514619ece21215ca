"""The Received field: the right clauses, and no word of a stranger outside a comment."""

import pytest

from gateway.mail.address import Mailbox
from gateway.mail.envelope import ClientCertificate, Envelope, Recipient, Session, Transaction
from gateway.mail.received import received

DATE = 1_700_000_000.0


def transaction(
    *,
    helo: str = "mail.example.net",
    esmtp: bool = True,
    tls: str = "",
    ip: str = "192.0.2.7",
    smtputf8: bool = False,
    recipients: tuple[str, ...] = ("user@example.com",),
) -> Transaction:
    session = Session(
        "S1",
        ip,
        40000,
        "192.0.2.1",
        25,
        DATE,
        helo=helo,
        esmtp=esmtp,
        tls=tls,
        cipher="TLS_AES_256_GCM_SHA384" if tls else "",
    )
    envelope = Envelope(None, smtputf8=smtputf8)
    for text in recipients:
        local, _, domain = text.rpartition("@")
        envelope.recipients.append(Recipient(Mailbox(local, domain)))
    return Transaction("T1", session, envelope, DATE)


def test_the_whole_field() -> None:
    assert received(transaction(tls="TLSv1.3"), "mx.example.com", DATE, client_name="mail.example.net") == (
        b"Received: from mail.example.net (mail.example.net [192.0.2.7])\r\n"
        b"\tby mx.example.com with ESMTPS id T1\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <user@example.com>;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


@pytest.mark.parametrize(("fault", "words"), [("", b"verified)"), ("cert has expired", b"not verified)")])
def test_the_clients_certificate(fault: str, words: bytes) -> None:
    tx = transaction(tls="TLSv1.3")
    tx.session.certificate = ClientCertificate("ab" * 32, fault, () if fault else ("mail.example.net",))
    field = received(tx, "mx.example.com", DATE)
    assert b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384, client certificate " + words + b"\r\n" in field


@pytest.mark.parametrize(
    ("esmtp", "tls", "smtputf8", "word"),
    [
        (False, "", False, b"SMTP"),
        (False, "TLSv1.3", False, b"SMTP"),
        (True, "", False, b"ESMTP"),
        (True, "TLSv1.2", False, b"ESMTPS"),
        (True, "", True, b"UTF8SMTP"),
        (True, "TLSv1.2", True, b"UTF8SMTPS"),
    ],
)
def test_the_word_after_with(esmtp: bool, tls: str, smtputf8: bool, word: bytes) -> None:
    tx = transaction(esmtp=esmtp, tls=tls, smtputf8=smtputf8)
    assert b" with " + word + b" id " in received(tx, "mx.example.com", DATE)


def test_several_recipients_leave_for_out() -> None:
    tx = transaction(recipients=("a@example.com", "b@example.com"))
    assert b"for <" not in received(tx, "mx.example.com", DATE)


def test_an_ipv6_client_is_a_tagged_literal() -> None:
    assert b"([IPv6:2001:db8::7])" in received(transaction(ip="2001:db8::7"), "mx.example.com", DATE)


def test_a_literal_helo_stands_as_it_is() -> None:
    assert received(transaction(helo="[192.0.2.7]"), "mx.example.com", DATE).startswith(b"Received: from [192.0.2.7] (")


@pytest.mark.parametrize(
    "helo",
    ["x) evil (", "a b", "x\r\nX-Evil: 1", "", "..", "ü.example", "\\", "a" * 5000, "[x]", "x;y", "x\0y"],
)
def test_a_strange_helo_stays_inside_a_comment(helo: str) -> None:
    field = received(transaction(helo=helo), "mx.example.com", DATE)
    lines = field.split(b"\r\n")
    assert lines[-1] == b""
    assert all(line.startswith((b"Received: ", b"\t")) and len(line) < 998 for line in lines[:-1])
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)
    first = lines[0]
    assert first.startswith(b"Received: from [192.0.2.7] ([192.0.2.7]) (helo ")
    assert first.endswith(b")")
    unescaped = first.replace(b"\\\\", b"").replace(b"\\(", b"").replace(b"\\)", b"")
    assert unescaped.count(b"(") == 2


def test_utf8_recipients_need_a_utf8_field() -> None:
    tx = transaction(smtputf8=True, recipients=("ü@example.com",))
    assert "for <ü@example.com>".encode() in received(tx, "mx.example.com", DATE)
