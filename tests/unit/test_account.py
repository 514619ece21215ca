"""One record a transaction: the entry, bounded, with the last word on top."""

from gateway.account import Account
from gateway.journal import Entry
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage


class Memory:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        self.entries.append(entry)


def account() -> Account:
    session = Session("S", "192.0.2.7", 4, "192.0.2.2", 25, 0.0, helo="a.example")
    envelope = Envelope(Mailbox("a", "a.example"), declared_size=5)
    return Account(Transaction("T1", session, envelope, 3.0), "rev")


def test_the_last_decision_is_the_entrys() -> None:
    made = account()
    made.tx.envelope.recipients.append(Recipient(Mailbox("joe", "example.com")))
    made.speak(Stage.RCPT, "reject", "", Reply(550, "5.1.1", ("no",)), recipient="x@example.com")
    made.speak(Stage.DATA, "accept", "good", Reply(250, "2.0.0", ("OK T1",)), because="why not")
    entry = made.entry()
    assert (entry.stage, entry.action, entry.rule, entry.because) == ("data", "accept", "good", "why not")
    assert entry.recipients == ("joe@example.com", "x@example.com")
    assert [v.reply for v in entry.verdicts] == ["550 5.1.1 no", "250 2.0.0 OK T1"]
    assert (entry.size, entry.revision, entry.time) == (5, "rev", 3.0)


def test_a_flood_of_refused_recipients_is_bounded() -> None:
    made, journal = account(), Memory()
    for number in range(1000):
        made.speak(Stage.RCPT, "reject", "", Reply(550, "5.1.1", ("no",)), recipient=f"x{number}@example.com")
        made.write(journal)  # type: ignore[arg-type]
    assert len(journal.entries) == 5
    assert len(made.entry().verdicts) == 200
    made.close(journal)  # type: ignore[arg-type]
    assert journal.entries[-1].fate == "none"
