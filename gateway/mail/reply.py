"""A reply of SMTP as one typed value: code, enhanced status, text.

Contradictory, malformed or injectable replies cannot be constructed: the class of the enhanced
status is the class of the code (RFC 3463 section 2, RFC 2034 section 4), and the text is printable
(RFC 5321 section 4.2: no CR, LF or control octets), so no word of a stranger can add a line.
"""

import re
from dataclasses import dataclass

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
#: Octets of one reply line, CRLF included (RFC 5321 section 4.5.3.1.5).
LINE_LIMIT = 512


def printable(text: str, limit: int = 400) -> str:
    """`text` made safe for a reply, a header field or a log: visible ASCII and single spaces only.

    Every other character becomes `?`; longer texts end in `...`.
    """
    clean = text if _visible(text) else "".join(c if " " <= c <= "~" else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply. `status` is "" only where none belongs (banner, EHLO/HELO, 354; RFC 2034 section 4).

    Raises `ValueError` when code and status contradict each other or the text is not printable ASCII.
    """

    code: int
    status: str
    text: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"{self.code} is no reply code")
        if self.status:
            if not _STATUS.fullmatch(self.status):
                raise ValueError(f"{self.status!r} is no enhanced status code")
            if self.status[0] != str(self.code)[0]:
                raise ValueError(f"{self.code} contradicts {self.status}")
        if not self.text:
            raise ValueError("a reply needs a text")
        for line in self.text:
            if not _visible(line):
                raise ValueError(f"a reply line is printable ASCII, not {line!r}")
            if len(line) > LINE_LIMIT - 16:
                raise ValueError("a reply line is at most 512 octets long")

    @classmethod
    def of(cls, code: int, status: str, *text: str) -> "Reply":
        """A reply whose text may hold strange octets or be long: it is made printable first."""
        return cls(code, status, tuple(printable(line) for line in text) or ("",))

    def with_id(self, transaction_id: str) -> "Reply":
        """The same reply whose last word is the transaction's id; unchanged where it is so already."""
        if self.text[-1].endswith(transaction_id):
            return self
        last = f"{self.text[-1]} {transaction_id}".strip()
        return Reply(self.code, self.status, (*self.text[:-1], last))

    @property
    def accepted(self) -> bool:
        """True for 2xx and 3xx."""
        return self.code < 400

    @property
    def permanent(self) -> bool:
        """True for 5xx."""
        return self.code >= 500

    def softened(self) -> "Reply":
        """A 5xx spoken as a 4xx (`soften: true`): 451, or 452 where storage and counts are meant."""
        if not self.permanent:
            return self
        code = 452 if self.code == 552 else 451
        return Reply(code, "4" + self.status[1:] if self.status else "", self.text)

    def encode(self) -> bytes:
        """The octets on the wire (RFC 5321 section 4.2.1: a hyphen on every line but the last)."""
        prefix = f"{self.status} " if self.status else ""
        lines = [f"{self.code}-{prefix}{line}\r\n" for line in self.text[:-1]]
        lines.append(f"{self.code} {prefix}{self.text[-1]}\r\n")
        return "".join(lines).encode("ascii")


def _visible(text: str) -> bool:
    """True when there is nothing but " " to "~"."""
    return text.isascii() and text.isprintable()


class SyntaxRefused(Exception):  # noqa: N818 - the peer's octets were refused, named after the outcome
    """The peer's octets break the grammar. Carries the `Reply` to give, and whether to hang up after it."""

    def __init__(self, reply: Reply, *, close: bool = False) -> None:
        super().__init__(" ".join(reply.text))
        self.reply = reply
        self.close = close
