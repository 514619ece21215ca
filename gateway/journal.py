"""The journal: every transaction with its facts, verdict and fate."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spoken:
    """One decision that was spoken: at RCPT there may be one for each recipient."""

    stage: str  # "connect", "helo", "mail", "rcpt", "data"
    action: str  # "accept", "reject", "defer", "quarantine"
    rule: str  # "" where no policy rule decided (unknown recipient, relay denied, backend)
    reply: str  # as it went to the client, lines joined by a space
    because: str = ""
    recipient: str = ""  # "" means: all of them


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction. Strings may be anything a stranger said: they are escaped where they are shown."""

    id: str
    time: float  # epoch seconds of its begin
    client: str  # address
    sender: str  # "" is the null reverse-path
    recipients: tuple[str, ...] = ()
    client_name: str = ""  # verified reverse name
    helo: str = ""
    tls: str = ""
    session: str = ""  # id of the session
    size: int = 0  # octets
    facts: dict[str, object] = field(default_factory=dict)  # dotted name to value
    failed: dict[str, str] = field(default_factory=dict)  # check to why it failed
    stage: str = ""
    action: str = ""
    rule: str = ""
    because: str = ""
    reply: str = ""
    verdicts: tuple[Spoken, ...] = ()
    backend: str = ""
    fate: str = ""  # "delivered", "refused", "unknown", "none" (never got so far), "aborted"
    fate_detail: str = ""  # the backend's host and words, or why it was aborted
    revision: str = ""  # of the policy
    timings: dict[str, float] = field(default_factory=dict)  # step to seconds
