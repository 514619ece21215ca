"""Any octets are a mailbox or a refusal; what is a mailbox is the same mailbox when read again."""

from gateway.mail.address import Mailbox, parse_path
from gateway.mail.reply import SyntaxRefused

SEEDS = [
    b"alice@example.com",
    b'"quoted \\" local"@example.com',
    b"a@[192.0.2.1]",
    b"a@[IPv6:2001:db8::1]",
    b"<@a.example,@b.example:x@c.example> SIZE=1",
    "süe@bücher.example".encode(),
    b"<>",
    b"<postmaster>",
]
TOKENS = [b"@", b".", b'"', b"\\", b"<", b">", b"[", b"]", b":", b",", b"xn--", b"IPv6:", b" ", "ß".encode(), b"\xff"]


def one(data: bytes) -> None:
    for smtputf8 in (False, True):
        try:
            mailbox = Mailbox.parse(data, smtputf8=smtputf8)
        except SyntaxRefused:
            pass
        else:
            assert Mailbox.parse(str(mailbox).encode(), smtputf8=True) == mailbox
            assert not set(str(mailbox)) & set("\r\n\0")
            assert mailbox.domain == mailbox.domain.lower() or mailbox.domain.startswith("[")
        for what in ("reverse", "forward"):
            try:
                path, rest = parse_path(data, smtputf8=smtputf8, what=what)
            except SyntaxRefused:
                continue
            assert data.rstrip(b" ").endswith(rest)
            assert path is not None or what == "reverse"
