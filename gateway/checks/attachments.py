"""`message.attachments`: the files in the mail, by name and content, in archives and nested mails too.

The look itself is `scan`; here it gets its octets, and a thread where they are many: decoding 25 MB takes 30 ms. Not
eager: most mail is judged by rules that never ask.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.check import Check, Named, OnError
from gateway.checks.scan import Attachment, scan
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

#: Octets from which on a thread is cheaper than everybody's wait.
THREAD_ABOVE = 256 * 1024


@dataclass(frozen=True, slots=True)
class AttachmentsFact:
    """The files in their order."""

    attachments: tuple[Attachment, ...] = ()
    result: str = ""


class Attachments(Check[AttachmentsFact]):
    """`message.attachments`."""

    name = "attachments"
    stage = Stage.DATA
    provides: ClassVar = {"message.attachments": "list<attachment>"}
    #: Hostile files are facts; only a bug of ours fails this check, and that must not let mail through.
    on_error = OnError.DEFER
    eager = False

    async def run(self, tx: Transaction, facts: "Facts") -> AttachmentsFact:
        """The files of the message."""
        if tx.message is None:
            return AttachmentsFact()
        view = tx.message.view()
        if len(view) <= THREAD_ABOVE:
            return AttachmentsFact(scan(view.tobytes()))
        return AttachmentsFact(await asyncio.to_thread(lambda: scan(view.tobytes())))

    def named(self, fact: AttachmentsFact) -> Named:
        """The fact for policies."""
        files: list[dict[str, str | int]] = [
            {"name": one.name, "type": one.type, "kind": one.kind, "size": one.size} for one in fact.attachments
        ]
        return {"message.attachments": files}

    def error(self) -> AttachmentsFact:
        """The fact when the check itself failed."""
        return AttachmentsFact(result="temperror")
