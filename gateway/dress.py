"""The dress of a message for the backend: what stands on top of it, and which of its fields are left out.

On top, newest first (RFC 5321 section 4.4, RFC 8601 section 4): our ARC set where the configuration has a key for it,
our Authentication-Results, our Received, the tags of the policy. Left out: fields that claim to be our results (RFC
8601 section 5), for a backend believes them. Nothing else of the message is touched, so signatures stay whole.
"""

from collections.abc import Collection, Sequence

from gateway.checks.arc import ArcFact
from gateway.checks.seal import Sealer
from gateway.mail.authres import claims, results
from gateway.mail.envelope import Transaction
from gateway.mail.message import Message
from gateway.mail.received import received
from gateway.mail.reply import printable
from gateway.policy.judge import Tag

#: A line of a header has at most 998 octets (RFC 5322 section 2.1.1).
_VALUE = 900


def prepended(
    tx: Transaction,
    hostname: str,
    now: float,
    client_name: str,
    clauses: Sequence[str],
    tags: Sequence[Tag],
    *,
    held: str = "",
) -> bytes:
    """Our fields, whole lines. `held` is the rule that quarantined the mail: then the original envelope stands here,
    for the mail itself goes to another mailbox."""
    fields = [results(hostname, clauses), received(tx, hostname, now, client_name=client_name)]
    fields.extend(_field(tag.name, tag.value) for tag in tags)
    if held:
        fields.append(_field("X-Gatepost-Quarantine", f"{held} {tx.id}"))
        fields.append(_field("X-Gatepost-Envelope-From", f"<{tx.envelope.reverse_path or ''}>"))
        fields.extend(_field("X-Gatepost-Envelope-To", f"<{r.mailbox}>") for r in tx.envelope.recipients)
    return b"".join(fields)


def removed(message: Message, hostname: str, proven: Collection[int] = ()) -> frozenset[int]:
    """The places of the fields that speak in our name; those in `proven` are ours indeed."""
    return frozenset(
        place for place, field in enumerate(message.fields) if place not in proven and claims(field, hostname)
    )


def ours(sealer: Sealer | None, arc: ArcFact) -> frozenset[int]:
    """The places of ARC-Authentication-Results that we sealed ourselves, on a way that led back to us.

    The chain passes, so nobody changed them; without them it would be torn for everybody behind us.
    """
    if sealer is None:
        return frozenset()
    return frozenset(place for place, domain in arc.proven if domain == sealer.domain)


async def sealed(
    sealer: Sealer | None,
    message: Message,
    gone: Collection[int],
    hostname: str,
    clauses: Sequence[str],
    arc: ArcFact,
    now: float,
) -> bytes:
    """Our ARC set over the mail without the fields `gone`; b"" without a key, or where there is nothing to seal."""
    if sealer is None:
        return b""
    return await sealer.seal(message, gone, hostname, clauses, arc, now)


def _field(name: str, value: str) -> bytes:
    return f"{name}: {printable(value, _VALUE)}\r\n".encode("ascii")
