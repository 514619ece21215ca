"""Authentication-Results: ours written, forged ones in our name recognised.

RFC 8601 section 2.2 (grammar), section 5 (what a border gateway removes), RFC 8617 section 4.1.1 (the ARC field:
`i=` first). Writing: `clause` builds one resinfo from validated parts, `pvalue` is the only place that quotes, and
`results` folds. Reading: `claims` looks at the authserv-id alone. Called by the checks (`trace`) and by `pipeline`.
No regular expression here: the fields are an attacker's.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gateway.mail.address import to_ascii
from gateway.mail.received import escaped_comment
from gateway.mail.reply import printable

if TYPE_CHECKING:
    from gateway.mail.message import Field

#: Fields whose authserv-id speaks in somebody's name.
FIELD_KEYS = frozenset({b"authentication-results", b"arc-authentication-results"})
#: RFC 2045 section 5.1: printable ASCII without space and tspecials.
_TOKEN = frozenset(chr(c) for c in range(33, 127)) - frozenset('()<>@,;:\\"/[]?=')
_DOMAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_WSP = frozenset(" \t\r\n")
_FOLD_AT = 78
#: No authserv-id is longer (a host name has at most 255 octets); more is a reason to distrust, not to read on.
_ID_LIMIT = 1000


def pvalue(text: str) -> str:
    """`text` as a value: a token or a mailbox of plain octets as it is, anything else a quoted-string.

    What is not printable ASCII becomes `?`, so no stranger can end the value, the line or the field.
    """
    local, at, domain = text.rpartition("@")
    if text and _TOKEN.issuperset(local) and (_DOMAIN if at else _TOKEN).issuperset(domain) and domain:
        return text
    inner = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'


def clause(
    method: str, result: str, properties: Iterable[tuple[str, str]] = (), *, reason: str = "", comment: str = ""
) -> str:
    """One resinfo: `method=result reason="..." ptype.property=value ... (comment)`; empty values are left out."""
    words = [f"{method}={result}"]
    if reason:
        words.append(f"reason={pvalue(reason)}")
    words.extend(f"{name}={pvalue(value)}" for name, value in properties if value)
    if comment:
        words.append(f"({escaped_comment(comment, 400)})")
    return " ".join(words)


def results(hostname: str, clauses: Sequence[str], *, instance: int = 0) -> bytes:
    """The whole field in our name, one clause a line, `none` without clauses; that of an ARC set with `instance`."""
    lines = [f"Authentication-Results: {hostname};"]
    if instance:  # RFC 8617 section 4.1.1
        lines = [f"ARC-Authentication-Results: i={instance}; {hostname};"]
    for number, text in enumerate(clauses or ("none",)):
        end = ";" if number + 1 < len(clauses) else ""
        lines.extend(_folded(printable(text, limit=4000) + end))
    return "".join(line + "\r\n" for line in lines).encode("ascii")


def _folded(text: str) -> list[str]:
    """Lines of at most 78 octets where spaces outside quotes allow it, each led by a tab."""
    lines, line, quoted = [], "\t", False
    for word in text.split(" "):
        if len(line) > 1 and len(line) + 1 + len(word) > _FOLD_AT and not quoted:
            lines.append(line)
            line = "\t" + word
        else:
            line += word if line == "\t" else " " + word
        if (word.count('"') - word.count('\\"')) % 2:
            quoted = not quoted
    return [*lines, line]


def claims(field: "Field", hostname: str) -> bool:
    """True when the field speaks in our name and came from outside: to be removed before ours is added.

    Our name is matched without regard to case, comments, quoting, folding, a version, a final dot, or whether it is
    written in A-labels or U-labels. What cannot be parsed up to the first `;` counts as ours, and so does a version
    that is not 1 (RFC 8601 section 5). False for every other kind of field.
    """
    if field.key not in FIELD_KEYS:
        return False
    try:
        text = field.value[: 8 * _ID_LIMIT].decode("utf-8")
    except UnicodeDecodeError:
        # The cut may have split a character; otherwise no parser agrees on what these octets say.
        return not _reads_as_other(field.value[: 8 * _ID_LIMIT].decode("utf-8", "replace"), field.key, hostname)
    return not _reads_as_other(text, field.key, hostname)


def _reads_as_other(text: str, key: bytes, hostname: str) -> bool:
    """True only when the grammar holds up to the first `;` and names somebody else."""
    at = 0
    if key == b"arc-authentication-results":
        at = _after_instance(text)
        if at < 0:
            return False
    at = _after_cfws(text, at)
    name, at = _value(text, at)
    if not name or at < 0 or len(name) > _ID_LIMIT:
        return False
    at = _after_cfws(text, at)
    start = at
    while 0 <= at < len(text) and text[at] in "0123456789/":
        # RFC 8601 puts CFWS before the version, RFC 5451 had a slash: both readings count.
        at += 1
    version = text[start:at].lstrip("/") if at > start else "1"
    if version.lstrip("0") != "1":
        return False
    at = _after_cfws(text, at)
    if at < 0 or (at < len(text) and text[at] != ";"):
        return False
    return not _same_name(name, hostname)


def _same_name(name: str, hostname: str) -> bool:
    if "�" in name:
        return True  # octets that are no UTF-8: unparsable
    plain = "".join(name.lower().split()).rstrip(".")  # a fold inside quotes leaves a space that readers drop
    ours = hostname.lower().rstrip(".")
    if plain == ours:
        return True
    if plain.isascii() and ours.isascii() and "xn--" not in plain:
        return False
    try:
        return to_ascii(plain) == to_ascii(ours)
    except ValueError:
        return not plain.isascii()


def _after_instance(text: str) -> int:
    """The place after `i=N;` (RFC 8617 section 4.1.1), or -1."""
    at = _after_cfws(text, 0)
    if at < 0 or text[at : at + 1] not in {"i", "I"}:
        return -1
    at = _after_cfws(text, at + 1)
    if at < 0 or text[at : at + 1] != "=":
        return -1
    at = start = _after_cfws(text, at + 1)
    while 0 <= at < len(text) and text[at] in "0123456789":
        at += 1
    if at < 0 or at == start:
        return -1
    at = _after_cfws(text, at)
    return at + 1 if at >= 0 and text[at : at + 1] == ";" else -1


def _after_cfws(text: str, at: int) -> int:
    """The place after white space and (nested) comments, or -1 where a comment does not end."""
    if at < 0:
        return -1
    depth = 0
    while at < len(text):
        c = text[at]
        if c == "(":
            depth += 1
        elif depth and c == ")":
            depth -= 1
        elif depth and c == "\\":
            at += 1
        elif not depth and c not in _WSP:
            return at
        at += 1
    return -1 if depth else len(text)


def _value(text: str, at: int) -> tuple[str, int]:
    """A token (UTF-8 admitted, RFC 6532) or a quoted-string: its meaning and the place after it, else ("", -1)."""
    if at < 0 or at >= len(text):
        return "", -1
    if text[at] != '"':
        start = at
        while at < len(text) and (text[at] in _TOKEN or (text[at] > "\x9f" and not text[at].isspace())):
            at += 1
        return text[start:at], at
    at += 1
    meaning: list[str] = []
    while at < len(text):
        c = text[at]
        if c == '"':
            return "".join(meaning), at + 1
        if c == "\\":
            at += 1
            c = text[at : at + 1]
        if c not in "\r\n":  # folding inside the quotes is no part of the meaning
            meaning.append(c)
        at += 1
    return "", -1
