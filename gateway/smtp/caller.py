"""Who is at the other end: as the socket says, or as a trusted proxy told it. Made by `door`, read by `connection`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The client's address and port, and where it connected to; canonical texts."""

    ip: str
    port: int
    server_ip: str
    server_port: int
