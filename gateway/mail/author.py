"""The author of a mail: its one From field, read by a strict parser of our own.

RFC 5322 sections 3.4 and 3.6.2, RFC 6532 (UTF-8, only after SMTPUTF8), RFC 2047 section 5 (no encoded-word in an
address), RFC 6854 (groups). `valid` means exactly one From field with exactly one mailbox in today's grammar: a list of
authors, a group, an obsolete form, a comment that holds an address are all refused, because mail programs disagree on
whom to show for them ("Composition Kills", section 5). `domains` are the author domains that DMARC has to judge (RFC
9989 section 5.3.1), named even where the field is not valid as long as it can be read at all.
Called by `checks/author`. Linear in the length of the field.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.mail.address import address_literal, to_ascii
from gateway.mail.encodedword import decoded, visible
from gateway.mail.lexical import Malformed, Token, quoted, scan

if TYPE_CHECKING:
    from gateway.mail.message import Field

_MAILBOX_LIMIT = 50  # authors; a longer list is no letter
_FIELD_LIMIT = 64 * 1024
_LOOSE_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote the mail, by its From field.

    `address` and `domain` are "" unless there is exactly one mailbox; `domain` is in A-label form. `domains` holds the
    distinct domains of all mailboxes. `why` says what is not valid, in our own words.
    """

    valid: bool
    address: str = ""
    domain: str = ""
    name: str = ""
    why: str = ""
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mailbox:
    name: str
    local: str
    domain: str


def author(fields: "Iterable[Field]", *, smtputf8: bool = False) -> Author:
    """The author named by the From field among `fields`."""
    found = [field for field in fields if field.key == b"from"]
    if len(found) != 1:
        return Author(False, why="no From field" if not found else "several From fields")
    return _read(found[0].value, smtputf8)


def _read(value: bytes, smtputf8: bool) -> Author:
    if len(value) > _FIELD_LIMIT:
        return Author(False, why="the From field is too long")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return Author(False, why="octets that are neither ASCII nor UTF-8")
    try:
        reader = _Reader(text)
        mailboxes = reader.mailboxes()
    except Malformed as fault:
        return Author(False, why=str(fault))
    why = reader.flaw
    if not text.isascii() and not smtputf8:
        why = "8-bit octets without SMTPUTF8"
    if len(mailboxes) > 1:
        why = "several authors"
    domains = tuple(dict.fromkeys(mailbox.domain for mailbox in mailboxes))
    if len(mailboxes) != 1:
        domain = domains[0] if len(domains) == 1 else ""
        return Author(False, domain=domain, why=why or "no author", domains=domains)
    (only,) = mailboxes
    return Author(not why, f"{only.local}@{only.domain}", only.domain, only.name, why, domains)


class _Reader:
    """Reads one field value. `flaw` is the first departure from today's grammar that still leaves a meaning."""

    def __init__(self, text: str) -> None:
        self.flaw = ""
        self._tokens, comments = scan(text)
        self._at = 0
        if any("@" in comment or "<" in comment for comment in comments):
            self._flaw("a comment that holds an address")
        self._comment = visible(decoded(comments[0])) if comments else ""

    def _flaw(self, why: str) -> None:
        self.flaw = self.flaw or why

    def mailboxes(self) -> list[_Mailbox]:
        """All mailboxes of the field, those of groups included. Raises `Malformed`."""
        found: list[_Mailbox] = []
        self._list(found, inside_group=False)
        if self._at < len(self._tokens):
            raise Malformed("a stray semicolon")
        return found

    def _list(self, found: list[_Mailbox], *, inside_group: bool) -> None:
        elements = 0
        while True:
            if self._peek() in {"", ",", ";"}:
                if elements or self._peek() == ",":
                    self._flaw("an empty list element")  # obs-mbox-list
            else:
                self._address(found, inside_group=inside_group)
            elements += 1
            if len(found) > _MAILBOX_LIMIT:
                raise Malformed("too many authors")
            if self._peek() != ",":
                return
            self._at += 1

    def _address(self, found: list[_Mailbox], *, inside_group: bool) -> None:
        words = self._words()
        stop = self._peek()
        if stop == "@":
            local = self._local(words)
            found.append(_Mailbox(self._comment, local, self._domain()))
        elif stop == "<":
            name = self._phrase(words)
            found.append(self._angle(name or self._comment))
        elif stop == ":" and words and not inside_group:
            self._flaw("a group")
            self._phrase(words)
            self._at += 1
            self._list(found, inside_group=True)
            if self._peek() != ";":
                raise Malformed("a group that does not end")
            self._at += 1
        else:
            raise Malformed("a name without an address")
        if self._peek() not in {"", ",", ";"}:
            raise Malformed("text after an address")

    def _angle(self, name: str) -> _Mailbox:
        self._at += 1
        if self._peek() == "@" or self._peek() == ",":
            self._flaw("a source route")  # obs-route: only the address behind it counts (RFC 5322 section 4.4)
            self._route()
        words = self._words()
        if self._peek() != "@":
            raise Malformed("angle brackets without an address")
        mailbox = _Mailbox(name, self._local(words), self._domain())
        if self._peek() != ">":
            raise Malformed("an address that does not end")
        self._at += 1
        return mailbox

    def _route(self) -> None:
        while self._peek() in {"@", ","}:
            if self._peek() == "@":
                self._domain()
            else:
                self._at += 1
        if self._peek() != ":":
            raise Malformed("a source route that does not end")
        self._at += 1

    def _peek(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""

    def _words(self) -> list[Token]:
        start = self._at
        while self._peek() in {"atom", "quoted", "."}:
            self._at += 1
        return self._tokens[start : self._at]

    def _phrase(self, words: Sequence[Token]) -> str:
        """The display name. Dots in it are obsolete, but everywhere ("John Q. Public") and nothing hangs on them."""
        if words and words[0].kind == ".":
            raise Malformed("a display name that starts with a dot")
        parts = [(" " if word.gap and n else "") + word.text for n, word in enumerate(words)]
        return visible(decoded("".join(parts)))

    def _local(self, words: Sequence[Token]) -> str:
        self._dotted(words, "local part")
        if any(word.kind == "quoted" for word in words) and len(words) > 1:
            self._flaw("an obsolete local part")
        if any("=?" in word.text for word in words):
            self._flaw("an encoded-word in an address")
        return "".join(quoted(word.text) if word.kind == "quoted" else word.text for word in words)

    def _dotted(self, words: Sequence[Token], what: str) -> None:
        """Refuses what is not word *("." word); space or comments around the dots are obsolete."""
        if not words or len(words) % 2 == 0:
            raise Malformed(f"a {what} that is none")
        for number, word in enumerate(words):
            if (word.kind == ".") != (number % 2 == 1):
                raise Malformed(f"a {what} that is none")
            if number and word.gap:
                self._flaw(f"space inside a {what}")

    def _domain(self) -> str:
        self._at += 1  # the @
        if self._peek() == "literal":
            literal = address_literal(self._tokens[self._at].text)
            self._at += 1
            if not literal:
                raise Malformed("an address literal that is none")
            return literal
        words = self._words()
        if any(word.kind == "quoted" for word in words):
            raise Malformed("a quoted domain")
        self._dotted(words, "domain")
        name = "".join(word.text for word in words)
        try:
            return to_ascii(name)
        except ValueError:
            pass
        # Names that no host may have can stand in the DNS all the same: DMARC must not be blind to them.
        loose = name.lower()
        if len(loose) > 253 or any(not 0 < len(x) <= 63 or not _LOOSE_LABEL.issuperset(x) for x in loose.split(".")):
            raise Malformed("a domain that is no host name")
        self._flaw("a domain that is no host name")
        return loose
