"""What DNS says, in our words: the answer a caller gets, and the response a source gives.

Values by type: A, AAAA, PTR, NS and CNAME are text (names lower-case, no final dot, "" for the root), TXT and SPF
the octets of the record with its character-strings joined, MX and TLSA tuples in their wire order.
"""

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

Mx = tuple[int, str]
Tlsa = tuple[int, int, int, bytes]
Record = str | bytes | Mx | Tlsa

NameType = Literal["A", "AAAA", "PTR", "NS", "CNAME"]
TextType = Literal["TXT", "SPF"]
RdType = Literal["A", "AAAA", "PTR", "NS", "CNAME", "TXT", "SPF", "MX", "TLSA"]

#: Types we ask for, with their numbers (IANA DNS parameters). A response may hold others; they are ignored.
TYPE_NUMBERS: dict[str, int] = {
    "A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52, "SPF": 99,
}  # fmt: skip

R_co = TypeVar("R_co", covariant=True, bound=Record)


@dataclass(frozen=True, slots=True)
class Answer(Generic[R_co]):
    """The records of one name and type. No records and not `nxdomain`: the name exists, the type does not.

    `authenticated` is true when a trusted resolver validated every step of it (the AD bit, RFC 4035).
    """

    records: tuple[R_co, ...]
    nxdomain: bool = False
    authenticated: bool = False


#: For names that cannot exist (overlong, not ASCII): no question is asked.
NO_SUCH_NAME: Answer[Record] = Answer((), nxdomain=True)


@dataclass(frozen=True, slots=True)
class Resource:
    """One record of a response: owner (canonical), type, seconds to live, value."""

    name: str
    rdtype: str
    ttl: float
    value: Record


@dataclass(frozen=True, slots=True)
class Response:
    """What a source says to one question: NOERROR or NXDOMAIN, all else is `Unavailable`.

    `records` are the answer section, aliases included. `negative_ttl` is what the SOA of the authority section says
    (RFC 2308 section 5), `None` where there was none.
    """

    records: tuple[Resource, ...] = ()
    nxdomain: bool = False
    negative_ttl: float | None = None
    authenticated: bool = False


class Source(Protocol):
    """Whoever can be asked: the network (`Stub`) or a file (`Zone`)."""

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        """The response for a canonical name; `Unavailable` when there is none within `timeout` seconds."""
