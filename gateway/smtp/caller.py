"""Who is at the other end: as the socket says, or as a trusted proxy told it. Made by `door`, read by `connection`."""

from dataclasses import dataclass

from gateway.mail.envelope import Session
from gateway.smtp.xclient import Attributes


@dataclass(frozen=True, slots=True)
class Caller:
    """The client's address and port, and where it connected to; canonical texts."""

    ip: str
    port: int
    server_ip: str
    server_port: int


def told(said: Attributes, before: Session) -> Caller:
    """The client that XCLIENT names; what it leaves out stays as it was."""
    return Caller(
        said.ip or before.client_ip,
        said.port or before.client_port,
        said.server_ip or before.server_ip,
        said.server_port or before.server_port,
    )
