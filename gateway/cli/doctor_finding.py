"""What `gatepost doctor` finds: a colour, where, what, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


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
