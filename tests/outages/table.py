"""The table of the relay as data: every step of the dialogue, every fault, and what must come of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.outages.backend import CLOSE, DRIP, FEATURES, GOOD, HANG, READ, RESET, STALL, Action

#: Recipients of each mail, in a domain of its own: two, so that each RCPT is a step.
LOCALS = ("u0", "u1")
OPENING = ("connect", "banner", "ehlo", "starttls", "handshake", "ehlo-tls")
#: The steps in their order. "reply" is the middle of the reply to the dot; "rset" follows a refusal; "quit" comes when
#: the pool is closed.
STEPS = (*OPENING, "mail", "rcpt u0", "rcpt u1", "data", "body", "dot", "reply", "rset", "quit")
FAULTS = ("refuse", "hang", "close", "reset", "garbage", "4xx", "5xx", "wrong", "drip")
SILENT = {"hang", "drip"}
GONE = {"close", "reset"}
QUARANTINE_SILENT = {("banner", "hang"), ("data", "hang"), ("dot", "hang")}
#: What the backend offers.
OFFERS = {"pipelining": FEATURES, "chunking": (*FEATURES, "CHUNKING"), "plain": ("8BITMIME",)}
#: Steps and faults that there are not, and why.
EXCLUDED = {
    **{(step, "refuse"): "a port refuses; what is connected does not" for step in STEPS if step != "connect"},
    **{
        ("connect", fault): "whatever a host says first is its banner"
        for fault in ("garbage", "4xx", "5xx", "wrong", "drip")
    },
    **{("reply", fault): "in the middle of a reply there is no code any more" for fault in ("4xx", "5xx", "wrong")},
}


@dataclass(frozen=True)
class Case:
    """One fault at one step. With `second` there is a sound host behind the faulty one."""

    step: str
    fault: str
    offer: str
    second: bool = False
    quarantined: bool = False

    def __str__(self) -> str:
        where = "-then-next" if self.second else ""
        return f"{self.step}-{self.fault}-{self.offer}{where}{'-quarantined' if self.quarantined else ''}"

    @property
    def slow(self) -> bool:
        """True where only the deadline ends it."""
        return self.fault in SILENT and self.step != "quit"


@dataclass(frozen=True)
class Expected:
    """What must come of it: the reply, the journal's fate, connections that the faulty and the sound host's pool may
    keep, and how many copies may lie in their mailboxes."""

    code: int
    status: str
    fate: str
    idle: int = 0
    mails: tuple[int, ...] = (0,)
    second_idle: int = 0
    second_mails: int = 0


DELIVERED = Expected(250, "2.0.0", "delivered", idle=1, mails=(1,))
BY_THE_NEXT = Expected(250, "2.0.0", "delivered", second_idle=1, second_mails=1)


def cases() -> Iterator[Case]:
    """All of them."""
    for step in STEPS:
        for fault in FAULTS:
            if (step, fault) in EXCLUDED:
                continue
            for offer in OFFERS:
                if (step, offer) == ("data", "chunking"):  # no DATA is said
                    continue
                yield Case(step, fault, offer)
                yield Case(step, fault, offer, second=True)


def quarantine_cases() -> Iterator[Case]:
    """A mail to the quarantine: one recipient, one host. Silence is the same at each step, and takes its time."""
    for step, fault in dict.fromkeys((case.step, case.fault) for case in cases()):
        if step != "rcpt u1" and (fault not in SILENT or (step, fault) in QUARANTINE_SILENT):
            yield Case(step, fault, "pipelining", quarantined=True)


def expected(case: Case) -> Expected:
    """The table of the relay as a function."""
    alone = _alone(case)
    said_no = case.step not in OPENING and case.step != "body" and case.fault in {"4xx", "5xx"}
    if not case.second or alone.fate != "refused" or said_no or case.step == "rset":
        return alone
    return BY_THE_NEXT  # not after a dot, and not after a refusal: that is the backend's word


def _alone(case: Case) -> Expected:
    step, fault = case.step, case.fault
    if step in OPENING:
        return Expected(451, _opening(step, fault), "refused")
    if step == "body":  # before the dot: the mail is not there, and no reply is due
        return Expected(451, "4.4.2" if fault in {"hang", *GONE} else "4.3.0", "refused")
    if step == "reply" or (step == "dot" and fault not in {"4xx", "5xx"}):
        return Expected(451, "4.3.0" if fault in {"garbage", "wrong"} else "4.4.2", "unknown", mails=(0, 1))
    if step == "rset":  # the refusal before it is what counts; the connection may be lost
        return Expected(450, "4.2.1", "refused")
    if step == "quit":
        return DELIVERED
    if fault == "4xx":
        return Expected(450, "4.2.0", "refused", idle=1)
    if fault == "5xx":  # one of several recipients: the others would lose their mail by it
        ours = step.startswith("rcpt") or case.quarantined
        return Expected(451 if ours else 550, "4.7.1" if ours else "5.7.1", "refused", idle=1)
    return Expected(451, "4.4.2" if fault in SILENT | GONE else "4.3.0", "refused")


def _opening(step: str, fault: str) -> str:
    if step == "handshake":
        return "4.4.1" if fault == "hang" else "4.7.5"
    if step == "starttls" and fault in {"4xx", "5xx"}:
        return "4.7.5"
    if step == "ehlo" and fault == "5xx":
        return "4.7.5"
    return "4.3.0" if fault in {"garbage", "wrong"} else "4.4.1"


def script(case: Case, domain: str) -> dict[str, Action]:
    """What the faulty backend does; `domain` is that of the recipients."""
    step, fault = case.step, case.fault
    if step == "connect" and fault in {"refuse", "hang"}:
        return {}  # nobody is there
    wrong = {"banner": b"250 hm\r\n", "starttls": b"250 hm\r\n", "data": b"250 hm\r\n"}.get(step, b"354 hm\r\n")
    acts: dict[str, Action] = {
        "hang": HANG, "close": CLOSE, "reset": RESET, "drip": DRIP, "garbage": b"\x00\xff no reply at all\r\n",
        "4xx": b"450 4.2.0 later\r\n", "5xx": b"550 5.7.1 never\r\n", "wrong": wrong,
    }  # fmt: skip
    act = acts[fault]
    if step.startswith("rcpt"):
        return {"rcpt" if case.quarantined else f"{step}@{domain}": act}
    if step == "handshake":
        assert not isinstance(act, tuple)
        return {step: (READ, act)}
    if step == "reply":
        return {"dot": (b"250-2.0", b"\xff\x00\n" if fault == "garbage" else act)}  # type: ignore[dict-item]
    if step == "body" and fault == "hang":
        return {f"rcpt u1@{domain}" if case.offer == "chunking" else "data": (GOOD, STALL)}
    if step == "rset":
        return {"mail": b"450 4.2.1 later\r\n", step: act}
    return {step: act}
