"""Envelopes share nothing: what one transaction had, the next has not."""

import pytest

from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction

SESSION = Session("S1", "192.0.2.1", 4000, "192.0.2.25", 25, started=1.0)


def test_a_new_envelope_is_empty() -> None:
    first, second = Envelope(None), Envelope(Mailbox("a", "b.example"))
    first.recipients.append(Recipient(Mailbox("c", "d.example")))
    assert second.recipients == []
    assert (second.declared_size, second.body, second.smtputf8, second.parameters) == (0, "7BIT", False, ())


def test_a_session_begins_without_greeting_or_tls() -> None:
    assert (SESSION.helo, SESSION.esmtp, SESSION.tls, SESSION.cipher, SESSION.early_talker) == (
        "",
        False,
        "",
        "",
        False,
    )


def test_a_transaction_has_no_message_before_data() -> None:
    assert Transaction("T1", SESSION, Envelope(None), started=2.0).message is None


def test_recipients_cannot_be_changed_behind_the_verdict() -> None:
    recipient = Recipient(Mailbox("c", "d.example"))
    with pytest.raises(AttributeError):
        recipient.mailbox = Mailbox("e", "f.example")  # type: ignore[misc]
