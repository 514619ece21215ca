"""The trace field this gateway prepends: one folded `Received` field; and how many others did before it.

RFC 5321 sections 4.4 (clauses and their order) and 6.3 (loops), RFC 3848 (the words after "with"), RFC 6531 section
4.3 (UTF8SMTP). Called by `pipeline` when the message is dressed for the backend, and by what counts hops. HELO and the
reverse name are a stranger's words: what is no domain or address literal stands only inside a comment, escaped.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from gateway.mail.envelope import Transaction
from gateway.mail.message import Field
from gateway.mail.reply import printable

#: Received fields of a mail that goes in no circle: RFC 5321 section 6.3 asks for a limit of at least 100.
HOPS_LIMIT = 100

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_QUOTED = str.maketrans({c: "\\" + c for c in "()\\"})
_LITERAL = frozenset("0123456789abcdefABCDEF.:IPv")


def bracketed(ip: str) -> str:
    """`ip` as RFC 5321 section 4.1.3 writes it: [192.0.2.1] or [IPv6:2001:db8::1]."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def escaped_comment(text: str, limit: int = 200) -> str:
    """`text` for the inside of a comment: printable ASCII, parentheses and backslashes quoted (RFC 5322 3.2.2)."""
    return printable(text, limit).translate(_QUOTED)


def hops(fields: Iterable[Field]) -> int:
    """How many servers say that they had the mail."""
    return sum(field.key == b"received" for field in fields)


def received(tx: Transaction, hostname: str, date: float, *, client_name: str = "") -> bytes:
    """The field for this transaction, taken at `date` (epoch seconds); `client_name` is the verified reverse name."""
    session, envelope = tx.session, tx.envelope
    literal = bracketed(session.client_ip)
    tcp_info = f"{client_name} {literal}" if _domain(client_name) else literal
    if _domain(session.helo) or _helo_literal(session.helo):
        source = f"from {session.helo} ({tcp_info})"
    else:
        source = f"from {literal} ({tcp_info}) (helo {escaped_comment(session.helo)})"
    lines = [f"Received: {source}", f"by {hostname} with {_protocol(tx)} id {tx.id}"]
    if session.tls:
        shown = session.certificate
        proof = "" if shown is None else f", client certificate {'not ' if shown.fault else ''}verified"
        lines.append(f"(using {escaped_comment(session.tls)} with cipher {escaped_comment(session.cipher)}{proof})")
    # Exactly one path or none (RFC 5321 section 7.6: several would tell each recipient of the blind others).
    if len(envelope.recipients) == 1:
        lines.append(f"for <{envelope.recipients[0].mailbox}>")
    stamp = _stamp(int(date))
    return ("\r\n\t".join(lines) + f";\r\n\t{stamp}\r\n").encode("utf-8" if envelope.smtputf8 else "ascii", "replace")


@lru_cache(maxsize=2)  # a busy second has hundreds of mails
def _stamp(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def _protocol(tx: Transaction) -> str:
    if not tx.session.esmtp:
        return "SMTP"  # TLS after HELO has no word of its own; the comment tells of it
    word = "UTF8SMTP" if tx.envelope.smtputf8 else "ESMTP"
    return word + "S" if tx.session.tls else word


def _domain(name: str) -> bool:
    labels = name.split(".")
    return 0 < len(name) <= 255 and all(0 < len(label) <= 63 and _LABEL.issuperset(label) for label in labels)


def _helo_literal(name: str) -> bool:
    return 2 < len(name) <= 64 and name[0] == "[" and name[-1] == "]" and _LITERAL.issuperset(name[1:-1])
