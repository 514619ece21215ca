"""One mail as it goes out: octet for octet, dot-stuffed, and no octet that could end a command."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient
from gateway.mail.message import Message
from gateway.relay import outgoing
from gateway.relay.outgoing import Outgoing, command

ALL = {"PIPELINING": "", "SIZE": "1000", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""}
TO = (Recipient(Mailbox("u", "example.com")),)


def mail(octets: bytes, prepended: bytes = b"", removed: frozenset[int] = frozenset(), **more: object) -> Outgoing:
    envelope = Envelope(Mailbox("a", "example.org"), **more)  # type: ignore[arg-type]
    return Outgoing(envelope, TO, prepended, Message.from_octets(octets), removed)


def unstuffed(octets: bytes) -> bytes:
    """What a strict reader makes of it: by lines, in the most naive way."""
    lines = octets.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:-2])


@pytest.mark.parametrize(
    ("octets", "sent"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.b\r\nc.\r\n", b"a\r\n..b\r\nc.\r\n.\r\n"),
        (b"no end", b"no end\r\n.\r\n"),
        (b"a\n.\nb\r\n", b"a\n..\nb\r\n.\r\n"),  # never comes this far; must not become an end either
    ],
)
def test_stuffing(octets: bytes, sent: bytes) -> None:
    assert b"".join(mail(octets).pieces()) == sent


@given(
    st.lists(st.sampled_from([b".", b"..", b"a", b"", b".b", b"x" * 10]), max_size=40),
    st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_every_piece_size_gives_the_same(lines: list[bytes], size: int) -> None:
    octets = b"".join(line + b"\r\n" for line in lines)
    before, outgoing.PIECE = outgoing.PIECE, size
    try:
        pieces = list(mail(octets, b"X: y\r\n").pieces())
    finally:
        outgoing.PIECE = before
    assert unstuffed(b"".join(pieces)) == b"X: y\r\n" + octets
    assert pieces[-1].endswith(b".\r\n")


def test_orcpt_beyond_ascii_has_another_form_where_smtputf8_is_not() -> None:
    to = Recipient(Mailbox("u", "example.com"), (("NOTIFY", "NEVER"), ("ORCPT", "utf-8;süe😀@b.example")))
    out = Outgoing(Envelope(None, smtputf8=True), (to,), b"", Message.from_octets(b"a\r\n"))
    assert out.rcpt(ALL) == ["RCPT TO:<u@example.com> NOTIFY=NEVER ORCPT=utf-8;süe😀@b.example\r\n".encode()]
    assert out.rcpt({"DSN": ""}) == [
        b"RCPT TO:<u@example.com> NOTIFY=NEVER ORCPT=utf-8;s\\x{FC}e\\x{1F600}@b.example\r\n"
    ]
    assert out.rcpt({"SMTPUTF8": ""}) == [b"RCPT TO:<u@example.com>\r\n"]


HEADER = [b"A: 1\r\n", b"B: 2\r\n\tfolded\r\n", b"C: 3\r\n", b"D: 4\r\n"]


@given(st.frozensets(st.integers(0, 3)), st.sampled_from([b"", b"\r\n", b"\r\nbody\r\n.\r\n"]))
def test_removed_fields_are_gone_and_nothing_else(removed: frozenset[int], rest: bytes) -> None:
    out = mail(b"".join(HEADER) + rest, b"Ours: x\r\n", removed)
    kept = b"".join(field for index, field in enumerate(HEADER) if index not in removed)
    assert unstuffed(b"".join(out.pieces())) == b"Ours: x\r\n" + kept + rest
    assert out.size == len(b"Ours: x\r\n" + kept + rest)


@pytest.mark.parametrize("ours", [b"X: a\nb\r\n", b"X: a\rb\r\n", b"X: a\0\r\n", b"X: a"])
def test_our_fields_are_whole_lines(ours: bytes) -> None:
    with pytest.raises(ValueError, match="whole lines"):
        list(mail(b"\r\n", ours).pieces())


def test_parameters_only_where_offered() -> None:
    more = {
        "body": "8BITMIME",
        "smtputf8": True,
        "parameters": (("RET", "HDRS"), ("ENVID", "a+2Bb"), ("AUTH", "<>")),
    }
    out = mail(b"a\r\n", **more)
    assert out.mail({}) == b"MAIL FROM:<a@example.org>\r\n"
    assert out.mail(ALL) == b"MAIL FROM:<a@example.org> SIZE=3 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb\r\n"
    envelope = Envelope(None)
    recipient = Recipient(Mailbox('"a b"', "example.com"), (("NOTIFY", "NEVER"), ("ORCPT", "rfc822;x@y"), ("X", "1")))
    out = Outgoing(envelope, (recipient,), b"", Message.from_octets(b""))
    assert out.mail({}) == b"MAIL FROM:<>\r\n"
    assert out.rcpt(ALL) == [b'RCPT TO:<"a b"@example.com> NOTIFY=NEVER ORCPT=rfc822;x@y\r\n']
    assert out.rcpt({}) == [b'RCPT TO:<"a b"@example.com>\r\n']


@pytest.mark.parametrize("local", ["a\r\nRCPT TO:<b", "a\n", "a\0", "a\x7f", "a\tb"])
def test_no_octet_ends_a_command_early(local: str) -> None:
    with pytest.raises(ValueError, match="control octet"):
        command("RCPT TO:", Mailbox(local, "example.com"), [])
    with pytest.raises(ValueError, match="control octet"):
        command("RCPT TO:", None, [f"ORCPT={local}"])


def test_utf8_addresses_go_as_they_came() -> None:
    assert command("RCPT TO:", Mailbox("ü", "example.com"), []) == "RCPT TO:<ü@example.com>\r\n".encode()
    assert command("RCPT TO:", Mailbox("postmaster", ""), []) == b"RCPT TO:<postmaster>\r\n"


@pytest.mark.parametrize(
    ("octets", "utf8_sender", "smtputf8", "features", "status"),
    [
        (b"S: x\r\n\r\nx\r\n", False, False, {}, None),
        (b"S: x\r\n\r\nx\r\n", False, True, {}, None),  # asked for, but nothing in it needs it
        (b"S: x\r\n\r\n\xff\r\n", False, False, {}, "5.6.3"),
        (b"S: x\r\n\r\n\xff\r\n", False, False, {"8BITMIME": ""}, None),
        (b"S: \xc3\xa9\r\n\r\nx\r\n", False, True, {"8BITMIME": ""}, "5.6.9"),
        (b"S: \xc3\xa9\r\n\r\nx\r\n", False, True, {"8BITMIME": "", "SMTPUTF8": ""}, None),
        (b"S: \xc3\xa9\r\n\r\nx\r\n", False, False, {"8BITMIME": ""}, None),  # not announced: relayed as it is
        (b"S: x\r\n\r\nx\r\n", True, True, {"8BITMIME": ""}, "5.6.7"),
        (b"S: x\r\n\r\nx\r\n", True, True, {"8BITMIME": "", "SMTPUTF8": ""}, None),
    ],
)
def test_unfit(octets: bytes, utf8_sender: bool, smtputf8: bool, features: dict[str, str], status: str | None) -> None:
    envelope = Envelope(Mailbox("ü" if utf8_sender else "a", "example.org"), smtputf8=smtputf8)
    reply = Outgoing(envelope, TO, b"", Message.from_octets(octets)).unfit(features)
    assert (reply.status if reply else None) == status
    assert reply is None or reply.permanent
