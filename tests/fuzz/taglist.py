"""Any octets are a tag list or `BadTagList`; what is one reads the same when written anew."""

from gateway.checks.taglist import BadTagList, listed, parse, unspaced, without_signature

LIMIT_MS = 50
SEEDS = [
    b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel;\r\n\th=from:to; bh=abc=; b=QUJD",
    b"i=1; cv=none; a=ed25519-sha256; d=example.org; s=s; t=1700000000; b=",
    b"v=DKIM1; k=rsa; p=",
    b";;",
]
TOKENS = [b";", b"=", b" ", b"\r\n\t", b"b=", b"v=", b";b=", b"\x80", b"\0", b":"]


def one(data: bytes) -> None:
    tags: dict[str, bytes] | None = None
    refused = ""
    try:
        tags = parse(data)
    except BadTagList as why:
        refused = str(why)
    assert refused.isprintable()
    if tags is not None:
        again = b"; ".join(name.encode() + b"=" + value for name, value in tags.items())
        assert parse(again) == tags
        for value in tags.values():
            assert not set(unspaced(value)) & set(b" \t\r\n")
            assert len(listed(value)) == value.count(b":") + 1
    field = b"DKIM-Signature:" + data + b"\r\n"
    unsigned = without_signature(field)
    assert without_signature(unsigned + b"\r\n") == unsigned
