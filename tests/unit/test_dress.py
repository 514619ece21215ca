"""What stands on top of a relayed mail, and what is left out of it."""

from gateway.dress import prepended, removed
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.policy.judge import Tag


def transaction() -> Transaction:
    session = Session("S", "192.0.2.7", 4, "192.0.2.2", 25, 0.0, helo="a.example", esmtp=True)
    envelope = Envelope(Mailbox("a", "a.example"), recipients=[Recipient(Mailbox("joe", "example.com"))])
    return Transaction("T1", session, envelope, 0.0)


def test_results_then_received_then_tags_and_nothing_of_a_stranger_makes_a_line() -> None:
    tags = (Tag("X-Seen", "a\r\nBcc: x@y.example", "rule"),)
    octets = prepended(
        transaction(), "mx.example.com", 0.0, "host.a.example", ["spf=pass smtp.mailfrom=a.example"], tags
    )
    names = [line.partition(b":")[0] for line in octets.split(b"\r\n") if line and line[:1] not in b" \t"]
    assert names == [b"Authentication-Results", b"Received", b"X-Seen"]
    assert b"X-Seen: a??Bcc: x@y.example\r\n" in octets
    assert octets.endswith(b"\r\n")


def test_a_quarantined_mail_carries_its_envelope() -> None:
    octets = prepended(transaction(), "mx.example.com", 0.0, "", [], (), held="odd")
    assert b"X-Gatepost-Quarantine: odd T1\r\n" in octets
    assert b"X-Gatepost-Envelope-From: <a@a.example>\r\n" in octets
    assert b"X-Gatepost-Envelope-To: <joe@example.com>\r\n" in octets


def test_fields_in_our_name_are_left_out_and_no_others() -> None:
    message = Message.from_octets(
        b"Authentication-Results: MX.example.COM. 1; spf=pass\r\n"
        b"Subject: mx.example.com\r\n"
        b"Authentication-Results: other.example; spf=pass\r\n"
        b"ARC-Authentication-Results: i=1; mx.example.com; spf=pass\r\n\r\nbody\r\n"
    )
    assert removed(message, "mx.example.com") == {0, 3}
