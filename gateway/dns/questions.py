"""Which DNS questions a transaction asked, and what it was told: for the journal.

Whoever judges a mail puts a `Questions` into `noting`, a context variable, so that every task it starts notes in the
same one; the resolver writes down each answer that it gives, from the cache or not, in a short form that was made once
when the answer arrived. Bounded in number and length: a stranger chooses most names.
"""

from contextvars import ContextVar

from gateway.dns.answer import Answer, Record

_MOST = 100
_RECORDS = 8
_TEXT = 200


class Questions:
    """The questions of one transaction, each once, with the last answer to it."""

    __slots__ = ("_answers", "_left_out")

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], str] = {}
        self._left_out = 0

    def note(self, question: tuple[str, str], answer: str) -> None:
        """One answer; not more than `_MOST` questions are kept."""
        if question in self._answers or len(self._answers) < _MOST:
            self._answers[question] = answer
        else:
            self._left_out += 1

    def told(self) -> dict[str, str]:
        """ "example.org TXT" to the answer in short."""
        told = {f"{name} {rdtype}": answer for (name, rdtype), answer in self._answers.items()}
        if self._left_out:
            told["..."] = f"{self._left_out} more were asked"
        return told


#: Where the running task's questions are noted; `None`: nowhere.
noting: ContextVar[Questions | None] = ContextVar("gatepost_questions", default=None)


def short(answer: Answer[Record] | None, why: str = "") -> str:
    """An answer in a few words; `why` says why there is none."""
    if answer is None:
        return why[:_TEXT]
    if not answer.records:
        return "NXDOMAIN" if answer.nxdomain else "no such record"
    words = [_shown(record) for record in answer.records[:_RECORDS]]
    if len(answer.records) > _RECORDS:
        words.append(f"and {len(answer.records) - _RECORDS} more")
    return ", ".join(words)


def _shown(record: Record) -> str:
    match record:
        case str():
            text = record or "."
        case bytes():
            text = '"' + record[: _TEXT + 1].decode("ascii", "backslashreplace") + '"'
        case preference, str() as name:
            text = f"{preference} {name or '.'}"
        case _:
            text = " ".join(each.hex() if isinstance(each, bytes) else str(each) for each in record)
    return text if len(text) <= _TEXT else text[:_TEXT] + "..."
