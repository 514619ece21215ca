"""Words that every floor shares: results, stages, and the one error of a dead dependency.

RFC 8601 (result words), RFC 5321 section 3 (the stages of a session).
"""

from enum import IntEnum, StrEnum


class Result(StrEnum):
    """The result words of RFC 8601 section 2.7."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - a result word
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    POLICY = "policy"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class Stage(IntEnum):
    """The moments of a session at which a policy may speak, in their order."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4


class Unavailable(Exception):  # noqa: N818 - a state of a dependency, not a mistake
    """A dependency (DNS, state, backend) did not answer in time or at all.

    Becomes `temperror` or a 4xx at the floor's edge, never a 5xx and never a pass.
    The text is for the log; strangers never see it.
    """
