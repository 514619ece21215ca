"""DATA: whole or octet by octet the same message; what was stuffed arrives; nothing bare gets through."""

from gateway.mail.message import MessageWriter
from gateway.mail.reply import SyntaxRefused
from gateway.smtp.reader import DataReader
from tests.support.smtp import stuffed

SEEDS = [
    b"a\r\n.\r\n",
    b"..\r\n.\r\nMAIL",
    b"\r\n.\r\n",
    b".\r\n",
    b"x\n.\r\n.\r\n",
    b"x\r.\r\n.\r\n",
    b"a\r\n.\n\r\n.\r\n",
]
TOKENS = [b"\r\n", b".", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n..", b"\0", b"\n", b"\r"]


def read(pieces: list[bytes]) -> tuple[object, bytes | None]:
    """The outcome of one reader, and what follows the end."""
    reader, rest = DataReader(1000, MessageWriter()), None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        rest = reader.feed(piece)
    if rest is None:
        reader.abandon()
        return None, None
    try:
        return bytes(reader.finish().view()), rest
    except SyntaxRefused as refused:
        return refused.reply, rest


def one(data: bytes) -> None:
    whole = read([data])
    assert read([bytes([octet]) for octet in data]) == whole
    for cut in range(0, len(data), 5):
        assert read([data[:cut], data[cut:]]) == whole
    message, _ = whole
    if isinstance(message, bytes):
        bare = message.replace(b"\r\n", b"")
        assert not set(bare) & set(b"\r\n\0")
        assert read([stuffed(message)]) == (message, b"")
