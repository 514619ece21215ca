"""A backend's octets: whole or octet by octet the same replies, or the same refusal."""

from gateway.relay.fate import OutOfPlace, Step, means_yes, passed_on
from gateway.relay.response import Garbled, Response, ResponseReader

SEEDS = [b"250 2.0.0 ok\r\n", b"250-a\r\n250-b\r\n250 c\r\n", b"550\r\n", b"421 4.3.2 bye\r\n", b"220 x\r\n250 y\r\n"]
TOKENS = [b"250", b"250-", b"550 5.1.1 ", b"\r\n", b"\n", b"\r", b" ", b"-", b"4.0.0", b"\xff", b"999"]


def read(pieces: list[bytes]) -> tuple[list[Response], bool]:
    """All replies before the fault, and whether there was one."""
    reader, found = ResponseReader(), []
    try:
        for piece in pieces:
            for response in reader.feed(piece):
                found.append(response)
    except Garbled:
        return found, True
    return found, False


def one(data: bytes) -> None:
    whole, fault = read([data])
    single, again = read([bytes([octet]) for octet in data])
    assert fault == again
    assert single == whole
    for response in whole:
        if response.code >= 400 or response.code == 250:
            reply = passed_on(response)
            assert reply.code // 100 == response.code // 100 or reply.code == 451
            reply.encode()
        for step in Step:
            try:
                means_yes(step, response)
            except OutOfPlace:
                assert response.code < 400
