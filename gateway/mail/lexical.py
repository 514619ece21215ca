"""The tokens of a structured header field: atoms, quoted-strings, domain literals, specials; comments apart.

RFC 5322 section 3.2 with RFC 6532: no obsolete control octets, no bare CR or LF, nothing left open at the end.
Linear; called by `mail/author`.
"""

import re
from dataclasses import dataclass

_ATEXT = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\xa0-\U0010ffff-]+")  # RFC 6532, without C1 controls
_SPECIALS = frozenset("<>@,;:.")


class Malformed(Exception):  # noqa: N818 - a state of the octets, not of the program
    """The field cannot be read; the text says why, in our own words."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind` is "atom", "quoted", "literal" or the special itself; `text` what it means."""

    kind: str
    text: str
    gap: bool  # white space or a comment before it


def quoted(text: str) -> str:
    """`text` as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def scan(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of `text`, and what its comments hold. Raises `Malformed`."""
    tokens: list[Token] = []
    comments: list[str] = []
    at, gap = 0, False
    while at < len(text):
        c = text[at]
        if c in " \t":
            at, gap = at + 1, True
        elif c == "\r":
            if not _fold(text, at):
                raise Malformed("a bare CR or LF")
            at, gap = at + 3, True
        elif c == "(":
            end = _comment_end(text, at)
            comments.append(text[at + 1 : end - 1])
            at, gap = end, True
        elif c in _SPECIALS:
            tokens.append(Token(c, c, gap))
            at, gap = at + 1, False
        elif c == '"':
            at, meaning = _delimited(text, at, '"')
            tokens.append(Token("quoted", meaning, gap))
            gap = False
        elif c == "[":
            at, meaning = _delimited(text, at, "]")
            tokens.append(Token("literal", f"[{meaning}]", gap))
            gap = False
        else:
            atom = _ATEXT.match(text, at)
            if atom is None:
                raise Malformed("an octet that no address may hold")
            tokens.append(Token("atom", atom[0], gap))
            at, gap = atom.end(), False
    return tokens, comments


def _comment_end(text: str, start: int) -> int:
    depth, at = 0, start
    while at < len(text):
        c = text[at]
        if c == "\\":
            at += 1
            if _control(text[at : at + 1]):
                break
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if not depth:
                return at + 1
        elif _control(c) and not _fold(text, at):
            break
        at += 1
    raise Malformed("a comment that does not end")


def _control(c: str) -> bool:
    """True for a control octet other than the tab, and for no octet at all."""
    return (c < " " and c != "\t") or "\x7f" <= c <= "\x9f"


def _fold(text: str, at: int) -> bool:
    """True at the CR or LF of a fold: CRLF before white space."""
    if text[at] == "\n":
        at -= 1
    return text[at : at + 2] == "\r\n" and text[at + 2 : at + 3] in {" ", "\t"}


def _delimited(text: str, start: int, close: str) -> tuple[int, str]:
    """The place after a quoted-string or domain-literal that opens at `start`, and what it means."""
    meaning: list[str] = []
    at = start + 1
    while at < len(text):
        c = text[at]
        if c == close:
            return at + 1, "".join(meaning)
        if c == "\\":
            at += 1
            c = text[at : at + 1]
            if _control(c):
                break
        elif _control(c):
            if not _fold(text, at):
                break
            c = ""
        elif c == "[" and close == "]":
            break
        meaning.append(c)
        at += 1
    raise Malformed("a quote or bracket that does not end")
