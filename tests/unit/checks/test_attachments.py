"""The check `message.attachments` over a transaction: small mails at once, large ones in a thread."""

import asyncio
import threading

import pytest

from gateway.checks import attachments
from gateway.checks.attachments import THREAD_ABOVE, Attachments, AttachmentsFact
from gateway.checks.check import OnError
from gateway.checks.facts import Facts
from gateway.checks.scan import Attachment
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message
from tests.unit.checks.made import mail, part


def found(octets: bytes | None) -> AttachmentsFact:
    session = Session("S1", "192.0.2.1", 4711, "192.0.2.25", 25, 0.0)
    message = Message.from_octets(octets) if octets is not None else None
    tx = Transaction("T1", session, Envelope(None), 0.0, message)

    async def main() -> AttachmentsFact:
        return await Facts({Attachments: Attachments()}, tx).get(Attachments)

    return asyncio.run(main())


def test_the_fact() -> None:
    fact = found(mail(part(b"x", "a.exe")))
    file = {"name": "a.exe", "type": "application/octet-stream", "kind": "executable", "size": fact.attachments[0].size}
    assert Attachments().named(fact) == {"message.attachments": [file]}
    assert not Attachments().failed(fact)
    assert found(None) == AttachmentsFact() == found(b"Subject: x\r\n\r\nHello")


def test_a_failure_defers() -> None:
    check = Attachments()
    assert check.failed(check.error())
    assert check.named(check.error()) == {"message.attachments": []}
    assert Attachments.on_error is OnError.DEFER
    assert not Attachments.eager


@pytest.mark.parametrize(("size", "elsewhere"), [(1_000, False), (THREAD_ABOVE + 1, True)])
def test_large_mails_are_looked_at_in_a_thread(size: int, elsewhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def scan(octets: bytes) -> tuple[Attachment, ...]:
        threads.append(threading.current_thread() is threading.main_thread())
        return ()

    monkeypatch.setattr(attachments, "scan", scan)
    found(b"x" * size)
    assert threads == [not elsewhere]
