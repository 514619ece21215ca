"""What the backend says, and what we answer: the table of the relay, pure.

A backend's refusal keeps its class, its code and its enhanced code; its words are made printable and bounded. What it
says about *us* (421, 530, 535 and their kin) is no refusal of the mail and becomes 451. What has no place at a step of
the dialogue is `OutOfPlace`.

RFC 5321 section 4.3.2 (which code has a place where), RFC 3463 (enhanced codes), RFC 1047 (why `Unknown` exists).
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from gateway.mail.reply import Reply
from gateway.relay.response import Response

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: +|$)")
_LINES = 5  # of a backend's text that we repeat
_TEXT = 300  # characters of one line
_NOT_US = "The mail server does not serve us now; try again later"
#: Refusals of the gateway itself, not of the mail: closing, and everything about authentication (RFC 4954).
_ABOUT_US = frozenset({421, 530, 534, 535, 538})


class Step(Enum):
    """The commands of a mail transaction."""

    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    DOT = auto()


#: The codes that mean yes to them; 3xx and other 2xx are out of place.
_YES = {Step.MAIL: (250,), Step.RCPT: (250, 251), Step.DATA: (354,), Step.DOT: (250,)}


@dataclass(frozen=True, slots=True)
class Delivered:
    """The backend said 250 to the dot: the mail is its own. `host` is who said it."""

    reply: Reply
    host: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The backend does not have the mail, and said or showed so. `why` is for the operator, not for the client."""

    reply: Reply
    why: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The dot was sent and no usable reply came: the backend may have the mail. The sender keeps it (RFC 1047)."""

    reply: Reply
    why: str = ""


Fate = Delivered | Refused | Unknown


class Broken(Exception):  # noqa: N818 - a state of the connection, named after it
    """The connection to a backend is of no further use; carries the reply for our client. `str` is for the log."""

    reply = Reply(451, "4.4.2", ("Connection to the mail server lost; try again later",))

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Lost(Broken):
    """Closed, reset, or silent beyond the deadline."""


class Busy(Broken):
    """It says that it does not serve us now: 421, or a wish for authentication. Another host may."""

    def __init__(self, host: str, response: Response) -> None:
        super().__init__(f"{host}: {response.code} {' '.join(response.lines)[:_TEXT]}")
        self.reply = passed_on(response)


class Unreachable(Broken):
    """No connection, or no SMTP service behind it."""

    reply = Reply(451, "4.4.1", ("The mail server cannot be reached; try again later",))


class Untrusted(Broken):
    """TLS is not offered, refused, or the certificate is not the one we must see."""

    reply = Reply(451, "4.7.5", ("No trusted TLS connection to the mail server; try again later",))


class OutOfPlace(Broken):
    """A code, or octets, that have no place at this point of the dialogue."""

    reply = Reply(451, "4.3.0", ("The mail server gave an answer that has no place; try again later",))


class Congested(Broken):
    """No connection became free in time; the backend was not asked."""

    reply = Reply(451, "4.4.5", ("The mail server is busy; try again later",))


class Unfit(Broken):
    """The host is well and offers not what this mail needs. Another one of the backend may."""

    def __init__(self, host: str, reply: Reply) -> None:
        super().__init__(f"{host} does not offer what the mail needs")
        self.reply = reply


class Abandoned(Broken):
    """Our client is gone and the dot not said: it never heard a 250 and sends the mail again; now it would be twice."""

    reply = Reply(451, "4.4.2", ("Connection closed by the client",))


class InDoubt(Broken):
    """The connection broke after the dot: the backend may have the mail. The reply is that of the cause."""

    def __init__(self, cause: Broken) -> None:
        super().__init__(cause.why)
        self.reply = cause.reply


def worse(one: Broken | None, other: Broken) -> Broken:
    """Which of two hosts' failures speaks for the backend: that of trust, which an operator must see, before the
    later one, and `Unfit` only where all hosts are: one that could not be asked may be fit, and its mail is not to
    bounce."""
    if isinstance(one, Untrusted) or (one is not None and isinstance(other, Unfit)):
        return one
    return other


def means_yes(step: Step, response: Response) -> bool:
    """True for the yes of that step, False for a refusal. Raises `OutOfPlace` for anything else."""
    if response.code in _YES[step]:
        return True
    if response.code >= 400:
        return False
    raise OutOfPlace(f"{response.code} in reply to {step.name}")


def about_us(response: Response) -> bool:
    """True for a refusal of the gateway itself, not of the mail."""
    return response.code in _ABOUT_US


def passed_on(response: Response) -> Reply:
    """A 250 or a refusal of the backend as our own reply."""
    code = 451 if about_us(response) else response.code
    match = _ENHANCED.match(response.lines[0])
    status = "0.0"
    # RFC 2034 section 4: the class of the status is the class of the code. A backend that contradicts itself is
    # believed in its code alone.
    if match and match[1] == str(response.code)[0]:
        status = f"{int(match[2])}.{int(match[3])}"
    # What it says about our address or our credentials is no stranger's business; the log has it.
    lines = [_NOT_US] if about_us(response) else [_words(line) for line in response.lines[:_LINES]]
    return Reply.of(code, f"{code // 100}.{status}", *lines)


def temporary(reply: Reply) -> Reply:
    """A refusal as a 451 with the same detail: what was permanent for the backend is not for our client."""
    if not reply.permanent:
        return reply
    return Reply(451, f"4{reply.status[1:]}", reply.text)


def _words(line: str) -> str:
    text = _ENHANCED.sub("", line, count=1) if _ENHANCED.match(line) else line
    return text.strip()[:_TEXT]
