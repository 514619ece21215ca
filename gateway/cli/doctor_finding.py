"""What `gatepost doctor` finds: a colour, where, what, and what to do about it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from cryptography import x509

from gateway.mail.reply import printable

SOON_DAYS = 14


class Colour(StrEnum):
    """Green is well, yellow wants a look, red does harm now or soon."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor. `mend` says what to do; only green ones have none."""

    colour: Colour
    where: str
    what: str
    mend: str = ""


def green(where: str, what: str) -> Finding:
    return Finding(Colour.GREEN, where, what)


def yellow(where: str, what: str, mend: str) -> Finding:
    return Finding(Colour.YELLOW, where, what, mend)


def red(where: str, what: str, mend: str) -> Finding:
    return Finding(Colour.RED, where, what, mend)


def days_left(certificate: x509.Certificate, now: float) -> float:
    """Until it expires; below zero where it has."""
    return (certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC)).total_seconds() / 86400


def ending(above: list[x509.Certificate], now: float) -> str:
    """Which of the certificates above a server's own has expired or will soon, in words; "" where none does.

    Authorities renew theirs quietly, and a server that still sends the old one fails on a day that no one expects.
    """
    if not above or days_left(first := min(above, key=lambda one: one.not_valid_after_utc), now) >= SOON_DAYS:
        return ""
    left, until = days_left(first, now), f"{first.not_valid_after_utc:%Y-%m-%d}"
    life = f"is valid until {until}, {left:.0f} days" if left >= 0 else f"expired on {until}"
    return f"{printable(first.subject.rfc4514_string())[:200] or 'no name'}, sent above the certificate, {life}"
