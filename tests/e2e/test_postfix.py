"""The main job with real mail servers: a Postfix client, the gateway, a Postfix backend, verified TLS on both ways."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support import postfix
from tests.support.gateway import HOSTNAME, Gateway, Site, serving, site
from tests.support.wait import until

SENDER = "sue@sender.example"
LINES = b"".join(b"line %d of a plain letter, nothing in it but words\r\n" % n for n in range(80))

#: What a message may look like. Each must arrive as it was sent, octet for octet.
MESSAGES = {
    "plain, 4 KB": b"Subject: plain\r\n\r\n" + LINES,
    "dots at line starts": b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n...b\r\n.\r\n\r\n.\r\n",
    "a dot in the first line": b".x: dotted\r\nSubject: y\r\n\r\nz\r\n",
    "lines of 998 and of 5,000 octets": b"Subject: long\r\n\r\n" + b"l" * 998 + b"\r\n" + b"m" * 5000 + b"\r\n",
    "8-bit body": b"Subject: 8bit\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + "Grüße, žluťoučký kůň, 日本\r\n".encode() * 50 + b"\x80\xfe\xff\r\n",
    "attachment, 1 MB": b"Subject: attachment\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(bytes(n * 7 & 255 for n in range(750_000))).replace(b"\n", b"\r\n"),
    "empty body": b"Subject: empty\r\n\r\n",
    "no body at all": b"Subject: header only\r\n",
    "trailing white space and empty lines": b"Subject: white \t\r\n\r\nx \t\r\n \r\n\r\n\r\n\r\n",
    "folded, repeated and strange fields": b"Subject: a\r\n b\r\n\tc\r\nX-A: 1\r\nx-a:2\r\nX-Empty:\r\n"
    b"X-Dup: 1\r\nX-Dup: 1\r\n\r\nx\r\n",
    "another host's results": b"Authentication-Results: mx.other.example; spf=pass\r\nSubject: x\r\n\r\nx\r\n",
}


@dataclass(frozen=True, slots=True)
class Path:
    """The three on their way: who sends, who stands between, who receives."""

    client: postfix.Postfix
    gateway: Gateway
    backend: postfix.Postfix
    site: Site


@pytest.fixture(scope="module")
def path(
    tmp_path_factory: pytest.TempPathFactory, authority: TestCa, leaf: Pair, backend: postfix.Postfix
) -> Iterator[Path]:
    made = site(tmp_path_factory.mktemp("postfix"), backend.port, authority)
    with (
        serving(made) as gateway,
        postfix.client(gateway.port, authority.file, HOSTNAME, [SENDER]) as client,
    ):
        yield Path(client, gateway, backend, made)


def arrived(backend: postfix.Postfix, mailbox: str, mark: bytes, count: int = 1) -> list[bytes]:
    """The mails there that hold the mark, awaited."""

    def found() -> list[bytes]:
        mails = [mail for mail in backend.mails(mailbox) if mark in mail]
        return mails if len(mails) >= count else []

    return until(found, f"{count} mail(s) with {mark!r} for {mailbox}")


def names(head: bytes) -> list[str]:
    """The names of header fields, in order."""
    return [line.split(b":")[0].decode() for line in re.split(rb"\r\n(?![ \t])", head) if line]


@pytest.mark.parametrize("what", MESSAGES)
def test_a_message_arrives_octet_for_octet(path: Path, what: str, fresh: str) -> None:
    message = f"X-Fresh: {fresh}\r\nFrom: <{SENDER}>\r\n".encode() + MESSAGES[what]
    path.client.inject(SENDER, ["alice@example.com"], message)
    (mail,) = arrived(path.backend, "alice@example.com", fresh.encode())
    assert mail.endswith(message)
    head = mail.removesuffix(message)
    # In front: what the backend adds, then ours, then the client's own Received, and nothing else.
    assert names(head) == [
        *("Return-Path", "X-Original-To", "Delivered-To", "Received"),
        *("Authentication-Results", "Received"),
        "Received",
    ] or names(head) == [
        *("Return-Path", "X-Original-To", "Delivered-To", "Received"),
        *("Received", "Authentication-Results"),
        "Received",
    ]
    ours = next(field for field in re.split(rb"\r\n(?![ \t])", head) if b"Authentication-Results" in field)
    assert HOSTNAME.encode() in ours
    assert b"spf=pass" in ours


def test_a_message_that_starts_with_a_dot_and_lacks_a_header(path: Path, fresh: str) -> None:
    """Postfix's own Received makes it a header; the rest is body, as it was."""
    message = b".\r\n.\r\n" + fresh.encode() + b"\r\n.\r\n"
    path.client.inject(SENDER, ["alice@example.com"], message)
    (mail,) = arrived(path.backend, "alice@example.com", fresh.encode())
    assert mail.endswith(b"\r\n" + message)


def test_both_ways_are_verified_tls(path: Path, fresh: str) -> None:
    path.client.inject(SENDER, ["alice@example.com"], f"Subject: {fresh}\r\n\r\nx\r\n".encode())
    (mail,) = arrived(path.backend, "alice@example.com", fresh.encode())
    received = [field for field in re.split(rb"\r\n(?![ \t])", mail) if field.startswith(b"Received:")]
    assert b"with ESMTPS" in received[0]  # the backend on us
    assert b"with ESMTPS" in received[1]  # we on the client
    assert b"by " + HOSTNAME.encode() in received[1]
    assert f"Verified TLS connection established to 127.0.0.1[127.0.0.1]:{path.gateway.port}" in path.client.log()


def test_a_mail_without_final_newline_by_sendmail(path: Path, fresh: str) -> None:
    path.client.submit(SENDER, ["alice@example.com"], f"Subject: {fresh}\r\n\r\nno newline".encode())
    (mail,) = arrived(path.backend, "alice@example.com", fresh.encode())
    assert mail.endswith(b"\r\n\r\nno newline\r\n")


def test_several_recipients_get_one_transaction(path: Path, fresh: str) -> None:
    recipients = [f"{name}@example.com" for name in ("alice", "bob", "carol")]
    path.client.inject(SENDER, recipients, f"Subject: {fresh}\r\n\r\nx\r\n".encode())
    mails = [arrived(path.backend, recipient, fresh.encode())[0] for recipient in recipients]
    ours = {re.search(rb"by mx\.example\.com.*?id (\w+)", mail, re.DOTALL)[1] for mail in mails}  # type: ignore[index]
    assert len(ours) == 1


def test_the_null_sender_stays_null(path: Path, fresh: str) -> None:
    path.client.inject("", ["alice@example.com"], f"Subject: {fresh}\r\n\r\nx\r\n".encode())
    (mail,) = arrived(path.backend, "alice@example.com", fresh.encode())
    assert mail.startswith(b"Return-Path: <>\r\n")


def test_an_internationalised_sender_and_header(path: Path, fresh: str) -> None:
    message = f"X-Fresh: {fresh}\r\nSubject: Grüße, 日本\r\n\r\nžluťoučký\r\n".encode()
    path.client.inject("süe@sender.example", ["alice@example.com"], message, " SMTPUTF8 BODY=8BITMIME")
    (mail,) = arrived(path.backend, "alice@example.com", fresh.encode())
    assert mail.endswith(message)
    assert mail.startswith("Return-Path: <süe@sender.example>\r\n".encode())


def test_an_unknown_recipient_bounces_with_our_id_and_the_others_get_the_mail(path: Path, fresh: str) -> None:
    path.client.inject(SENDER, ["bob@example.com", f"{fresh}@example.com"], f"Subject: {fresh}\r\n\r\nx\r\n".encode())
    arrived(path.backend, "bob@example.com", f"Subject: {fresh}".encode())
    (bounce,) = arrived(path.client, SENDER, b"Final-Recipient: rfc822; " + fresh.encode())
    match = re.search(rb"Diagnostic-Code: smtp; (.*?)\r\n(?![ \t])", bounce, re.DOTALL)
    assert match, bounce
    words = b" ".join(match[1].split())
    assert words.startswith(b"550 5.1.1 ")
    assert re.search(rb" [0-9A-Z]{12}$", words), "the id is the last word"
    transaction = words.rsplit(b" ", 1)[1].decode()
    assert any(transaction in str(line) for line in path.gateway.log), "what the bounce quotes is found in the log"


def test_fifty_mails_by_several_connections_all_arrive_once(path: Path, fresh: str) -> None:
    for number in range(50):
        path.client.inject(SENDER, ["carol@example.com"], f"Subject: {fresh}-{number}\r\n\r\nx\r\n".encode())
    mails = arrived(path.backend, "carol@example.com", fresh.encode(), 50)
    subjects = sorted(re.search(rb"Subject: (\S+)", mail)[1] for mail in mails)  # type: ignore[index]
    assert subjects == sorted(f"{fresh}-{number}".encode() for number in range(50))


def test_the_backend_stops_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, authority: TestCa, leaf: Pair, fresh: str
) -> None:
    message = f"Subject: {fresh}\r\n\r\nx\r\n".encode()
    with postfix.backend(["dora@example.com"], leaf) as backend:
        made = site(tmp_path_factory.mktemp("stopped"), backend.port, authority)
        with (
            serving(made) as gateway,
            postfix.client(gateway.port, authority.file, HOSTNAME, [SENDER]) as client,
        ):
            backend.stop()
            client.inject(SENDER, ["dora@example.com"], message)
            until(lambda: "status=deferred" in client.log(), "the deferral")
            assert re.search(r"said: 451 4\.4\.1 ", client.log()), client.log()
            assert len(client.queue()) == 1
            backend.start()
            client.flush()
            arrived(backend, "dora@example.com", fresh.encode())
            until(lambda: not client.queue(), "the empty queue of the client")
            assert not client.mails(SENDER), "no bounce"


def test_a_backend_with_a_wrong_certificate_gets_nothing(
    tmp_path_factory: pytest.TempPathFactory, authority: TestCa, fresh: str
) -> None:
    wrong = authority.issue("mail.example.org")
    with postfix.backend(["dora@example.com"], wrong) as backend:
        made = site(tmp_path_factory.mktemp("wrong"), backend.port, authority)
        with serving(made) as gateway, gateway.client() as client:
            client.ehlo()
            answer = client.deliver(SENDER, ["dora@example.com"], f"Subject: {fresh}\r\n\r\nx\r\n".encode())
            assert (answer.code, answer.lines[0][:5]) == (451, "4.7.5"), answer
        assert not backend.mails("dora@example.com")
        assert "from=<" not in backend.log(), "not even the envelope"


def test_a_greylisted_stranger_is_deferred_then_delivered(
    tmp_path_factory: pytest.TempPathFactory, authority: TestCa, backend: postfix.Postfix, fresh: str
) -> None:
    made = site(tmp_path_factory.mktemp("greylist"), backend.port, authority)
    made.policy(
        "rules:\n  - id: strangers\n    when: spf.result != 'pass'\n"
        "    then: {greylist: {wait: 2s, window: 24h, keep: 36d}}\n    because: a test\n"
    )
    with (
        serving(made) as gateway,
        postfix.client(gateway.port, authority.file, HOSTNAME, [SENDER]) as client,
    ):
        client.inject("tom@stranger.example", ["alice@example.com"], f"Subject: {fresh}\r\n\r\nx\r\n".encode())
        until(lambda: "status=deferred" in client.log(), "the deferral")
        assert re.search(r"said: 45[01] 4\.7\.1 ", client.log()), client.log()
        arrived(backend, "alice@example.com", fresh.encode())
        until(lambda: not client.queue(), "the empty queue of the client")
