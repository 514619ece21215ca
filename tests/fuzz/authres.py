"""A results field in our name is recognised however it is written; what we write ourselves is well-formed."""

from gateway.mail.authres import claims, pvalue, results
from gateway.mail.message import Field, Message

OURS = "mx.example.com"
LIMIT_MS = 50
SEEDS = [
    b" mx.example.com; spf=pass",
    b" (c) MX.Example.COM. 1; none",
    b' "mx.example.com" ; dkim=pass',
    b" mx.other.example; spf=fail",
    b" i=1; mx.example.com; arc=pass",
]
TOKENS = [b"mx.example.com", b"(", b")", b'"', b"\\", b";", b" 1", b"/1", b"\r\n ", b"=", b".", b"\xff", b"xn--"]


def one(data: bytes) -> None:
    field = Field(b"Authentication-Results", b"Authentication-Results:" + data + b"\r\n")
    assert isinstance(claims(field, OURS), bool)
    plain = Field(b"authentication-results", b"authentication-results: mx.example.com;" + data + b"\r\n")
    assert claims(plain, OURS), "our bare name before the first semicolon is ours, whatever follows"
    written = results(OURS, [f"spf=fail smtp.mailfrom={pvalue(data.decode('latin-1'))}"])
    message = Message.from_octets(written + b"\r\n")
    assert not message.malformed
    assert len(message.fields) == 1
    assert claims(message.fields[0], OURS)
