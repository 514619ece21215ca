"""Any octets are a message; its fields and body put together again are what came."""

from gateway.mail.message import Message

SEEDS = [
    b"From: a\r\nTo: b\r\n c\r\n\r\nbody\r\n",
    b"\r\nbody",
    b" first\r\nA: b\r\n\r\n",
    b"no colon\r\n\r\n",
    b"A:\r\n\r\n",
]
TOKENS = [b"\r\n", b"\r\n\r\n", b":", b" ", b"\t", b"A: b\r\n", b"\0", b"\r", b"\n"]


def one(data: bytes) -> None:
    message = Message.from_octets(data)
    assert message.size == len(data)
    assert b"".join(message.chunks(size=7)) == data
    fields = b"".join(field.raw for field in message.fields)
    assert data.startswith(fields) or message.malformed
    if not message.malformed:
        between = data[len(fields) : message.body_offset]
        assert between in {b"", b"\r\n"}, between
