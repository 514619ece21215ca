"""The sender of the envelope, and the null one."""

import asyncio

import pytest

from gateway.checks.facts import Facts
from gateway.checks.mail import Mail, MailFact
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Session, Transaction


@pytest.mark.parametrize(
    ("sender", "named"),
    [
        (None, {"mail.address": "", "mail.domain": "", "mail.is_null": True}),
        (
            Mailbox('"a@b"', "example.org"),
            {"mail.address": '"a@b"@example.org', "mail.domain": "example.org", "mail.is_null": False},
        ),
    ],
)
def test_the_check(sender: Mailbox | None, named: dict[str, object]) -> None:
    check = Mail()
    tx = Transaction("T1", Session("S1", "192.0.2.1", 4711, "192.0.2.25", 25, 0.0), Envelope(sender), 0.0)

    async def main() -> MailFact:
        return await Facts({Mail: check}, tx).get(Mail)

    assert check.named(asyncio.run(main())) == named
    assert set(named) == set(Mail.provides) == set(check.named(check.error()))
