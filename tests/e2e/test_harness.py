"""The harness itself: what the other end-to-end tests stand on, without a gateway between."""

import hashlib
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.recorder import recorder
from tests.support.smtp import Client
from tests.support.wait import until


def test_postfix_hands_a_message_over_verified_tls_octet_for_octet(tmp_path: Path) -> None:
    authority = TestCa(tmp_path)
    leaf = authority.issue("mail.int.example.com")
    message = b"From: <a@sender.example>\r\nSubject: \xc3\xa4\r\n\r\n.\r\n..x\r\n" + b"y" * 3000 + b"\r\n\xff\xfe\r\n"
    with (
        postfix.backend(["alice@example.com"], leaf) as backend,
        postfix.client(backend.port, authority.file, "mail.int.example.com", ["a@sender.example"]) as client,
    ):
        client.inject("a@sender.example", ["alice@example.com"], message)
        until(lambda: backend.mails("alice@example.com"), "the mail")
        assert backend.mails("alice@example.com")[0].endswith(b"\r\n" + message)
        assert "Verified TLS connection established" in client.log()

        client.submit("a@sender.example", ["nobody@example.com"], b"Subject: x\r\n\r\ny\r\n")
        until(lambda: client.mails("a@sender.example"), "the bounce")
        assert b"nobody@example.com" in client.mails("a@sender.example")[0]

        backend.stop()
        client.inject("a@sender.example", ["alice@example.com"], message)
        until(lambda: "status=deferred" in client.log(), "the deferral")
        assert len(client.queue()) == 1
        backend.start()
        client.flush()
        until(lambda: len(backend.mails("alice@example.com")) == 2, "the mail after all")
        until(lambda: not client.queue(), "the empty queue")


@pytest.mark.parametrize("fault", ["expired", "other name", "other authority"])
def test_a_bad_certificate_is_one_for_others_too(tmp_path: Path, fault: str) -> None:
    authority, other = TestCa(tmp_path), TestCa(tmp_path, "other")
    leaf = {
        "expired": lambda: authority.issue("mail.int.example.com", expired=True),
        "other name": lambda: authority.issue("mail.example.org"),
        "other authority": lambda: other.issue("mail.int.example.com"),
    }[fault]()
    with postfix.backend(["alice@example.com"], leaf) as backend, Client(backend.port) as client:
        client.ehlo()
        with pytest.raises(OSError, match="certificate verify failed"):
            client.starttls(authority.file, "mail.int.example.com")


def test_the_recorder_takes_what_postfix_sends_and_refuses_clear_text(tmp_path: Path) -> None:
    authority = TestCa(tmp_path)
    message = b"X-Test-Id: one\r\nSubject: x\r\n\r\n.\r\n..\r\ny\r\n"
    with (
        recorder(authority.issue("mail.int.example.com"), tmp_path / "taken") as backend,
        postfix.client(backend.port, authority.file, "mail.int.example.com") as client,
    ):
        with Client(backend.port) as plain:
            plain.ehlo()
            assert plain.command("MAIL FROM:<a@sender.example>").code == 530
        client.inject("a@sender.example", ["alice@example.com"], message)
        until(backend.records, "the mail")
    (record,) = backend.records()
    assert record["id"] == "one"
    assert record["sha256"] == hashlib.sha256(message).hexdigest()
    assert str(record["head"]).startswith("Received: ")
    assert (record["sender"], record["recipients"]) == ("a@sender.example", ["alice@example.com"])
