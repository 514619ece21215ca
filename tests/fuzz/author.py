"""Any From field has an author or a reason why not; a valid one has exactly one address and domain."""

from gateway.mail.author import author
from gateway.mail.message import Message

LIMIT_MS = 50
SEEDS = [
    b" Alice <alice@example.com>",
    b' "A, B" <a@example.com>',
    b" a@example.com, b@example.org",
    b" =?utf-8?q?Gr=C3=BC=C3=9Fe?= <a@example.com>",
    b" group: a@example.com;",
    b" (comment (nested) a@b) <a@example.com>",
    b" <@route.example:a@example.com>",
    b" a@[192.0.2.1]",
]
TOKENS = [
    b"<",
    b">",
    b"@",
    b"(",
    b")",
    b'"',
    b"\\",
    b",",
    b";",
    b":",
    b"=?utf-8?b?",
    b"?=",
    b"\r\n ",
    b"\xc3\xbc",
    b".",
]


def one(data: bytes) -> None:
    message = Message.from_octets(b"From:" + data.replace(b"\r", b"").replace(b"\n", b"\r\n ") + b"\r\n\r\n")
    for smtputf8 in (False, True):
        found = author(message.fields, smtputf8=smtputf8)
        assert found.valid == (not found.why)
        if found.valid:
            assert found.address.rpartition("@")[2]
            assert found.domains == (found.domain,)
        assert not set(found.name + found.why) & set("\r\n\0")
