"""What the header says about the mail itself: subject, list, and how far it has come.

RFC 5322 section 3.6.5, RFC 2047, RFC 2919 (List-Id), RFC 5321 section 6.3 (hops). Words of a stranger: decoded, on
one line, bounded. Needs no network and never fails.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.check import Check, Named, OnError
from gateway.mail.encodedword import decoded, visible
from gateway.mail.envelope import Transaction
from gateway.mail.message import Field
from gateway.mail.received import hops
from gateway.mail.terms import Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

_READ_LIMIT = 16 * 1024


@dataclass(frozen=True, slots=True)
class ContentFact:
    """`list_id` is the identifier between the angle brackets, in lower case; `hops` the number of Received fields."""

    subject: str = ""
    list_id: str = ""
    hops: int = 0
    result: str = ""


class Content(Check[ContentFact]):
    """Subject, List-Id, hops."""

    name = "content"
    stage = Stage.DATA
    waits = False
    provides: ClassVar = {"message.subject": "string", "message.list_id": "string", "message.hops": "int"}
    on_error = OnError.DEFER

    async def run(self, tx: Transaction, facts: "Facts") -> ContentFact:
        fields = tx.message.fields if tx.message is not None else ()
        subject, list_id = "", ""
        for field in fields:
            key = field.key
            if key == b"subject" and not subject:
                subject = visible(decoded(_text(field)))
            elif key == b"list-id" and not list_id:
                text = _text(field)
                inner = text[text.rfind("<") + 1 :].partition(">")[0] if "<" in text else text
                list_id = visible(inner).lower()
        return ContentFact(subject, list_id, hops(fields))

    def named(self, fact: ContentFact) -> Named:
        return {"message.subject": fact.subject, "message.list_id": fact.list_id, "message.hops": fact.hops}

    def error(self) -> ContentFact:
        return ContentFact(result="temperror")


def _text(field: Field) -> str:
    """The unfolded value; octets that are no UTF-8 become U+FFFD."""
    return field.value[:_READ_LIMIT].replace(b"\r\n", b"").decode("utf-8", "replace")
