"""Single command lines, by table; any cut of the octets finds the same line or the same fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.reply import SyntaxRefused
from gateway.smtp import grammar


def first_line(octets: bytes) -> bytes | SyntaxRefused | None:
    try:
        return grammar.take_line(bytearray(octets))
    except SyntaxRefused as refused:
        return refused


@pytest.mark.parametrize(
    ("octets", "line"),
    [
        (b"", None),
        (b"NOOP", None),
        (b"NOOP\r", None),
        (b"NOOP\r\n", b"NOOP"),
        (b"\r\nx", b""),
        (b"a\r\nb\r\n", b"a"),
        (b"x" * 2048 + b"\r\n", b"x" * 2048),
        (b"x" * 2048, None),
        (b"x" * 2048 + b"\r", None),
    ],
)
def test_a_line_ends_at_crlf_alone(octets: bytes, line: bytes | None) -> None:
    assert first_line(octets) == line


@pytest.mark.parametrize(
    "octets",
    [
        b"NOOP\n",
        b"NOOP\nNOOP\r\n",
        b"NO\rOP\r\n",
        b"NOOP\r\r\n",
        b"NO\0OP\r\n",
        b"\n",
        b"\rx",
        b"x" * 2050,
        b"x" * 2049 + b"\r\n",
        b"x" * 9000 + b"\n",
    ],
)
def test_bare_octets_and_endless_lines_close(octets: bytes) -> None:
    refused = first_line(octets)
    assert isinstance(refused, SyntaxRefused)
    assert (refused.reply.code, refused.reply.status, refused.close) == (500, "5.5.2", True)


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\0", b"\r\n", b"x" * 700]), max_size=12).map(b"".join))
def test_octet_by_octet_the_first_line_is_the_same(octets: bytes) -> None:
    whole = first_line(octets)
    buffer, found = bytearray(), None
    for octet in octets:
        buffer.append(octet)
        try:
            found = grammar.take_line(buffer)
        except SyntaxRefused as refused:
            found = refused  # type: ignore[assignment]
        if found is not None:
            break
    if isinstance(whole, SyntaxRefused):
        assert isinstance(found, SyntaxRefused)
        assert found.reply == whole.reply
    else:
        assert found == whole


def test_words_are_upper_case_and_trailing_space_goes() -> None:
    assert grammar.word_and_argument(b"mail FROM:<a@b>  \t", first=False, esmtp=True) == (b"MAIL", b"FROM:<a@b>")
    assert grammar.word_and_argument(b"NOOP", first=True, esmtp=False) == (b"NOOP", b"")
    assert grammar.word_and_argument(b"\xff\xfe", first=False, esmtp=False) == (b"\xff\xfe", b"")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"post /x HTTP/1.0", b"PRI * HTTP/2.0", b"CONNECT a:25 HTTP/1.1"])
def test_http_is_cut_off_anywhere(line: bytes, first: bool) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        grammar.word_and_argument(line, first=first, esmtp=True)
    assert refused.value.close


@pytest.mark.parametrize(
    "line",
    [
        b"\x16\x03\x01x",
        b"SSH-2.0-OpenSSH_9",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
        b"\x80.x",
        b"*1",  # Redis
        b'{"id": 1, "method": "login"}',
        b"<?xml version='1.0'?>",
        b"@RSYNCD: 31.0",
        b"\xff\xfb\x1f",  # telnet
        b"INVITE sip:alice@example.com SIP/2.0",
        b"DESCRIBE rtsp://example.com/ RTSP/1.0",
        b"PROPFIND / HTTP/1.1",
    ],
)
def test_other_protocols_are_cut_off_at_the_first_line(line: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        grammar.word_and_argument(line, first=True, esmtp=False)
    assert refused.value.close
    if not line.startswith(b"PROXY"):  # that one at any time
        grammar.word_and_argument(line, first=False, esmtp=False)


@pytest.mark.parametrize(
    ("word", "esmtp", "octets"),
    [
        (b"NOOP ", True, 512),
        (b"MAIL ", False, 512),
        (b"RCPT ", False, 512),
        (b"RCPT ", True, 1048),
        (b"MAIL ", True, 681),
    ],
)
def test_length_limits(word: bytes, esmtp: bool, octets: int) -> None:
    line = word + b"x" * (octets - 2 - len(word))
    grammar.word_and_argument(line, first=False, esmtp=esmtp)
    with pytest.raises(SyntaxRefused) as refused:
        grammar.word_and_argument(line + b"x", first=False, esmtp=esmtp)
    assert (refused.value.reply.code, refused.value.close) == (500, False)


@pytest.mark.parametrize("name", [b"a.example", b"[192.0.2.1]", b"localhost", b"x" * 255, b"()<>;", b"_"])
def test_greetings_are_visible_ascii(name: bytes) -> None:
    assert grammar.greeting(name) == name.decode()


@pytest.mark.parametrize("name", [b"", b"two words", b"x" * 256, b"\xc3\xbc.example", b"a\x07b", b"a\tb", b"\x7f"])
def test_other_greetings_are_501_without_status(name: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        grammar.greeting(name)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "")


def test_mail_with_everything() -> None:
    envelope = grammar.mail("from:<ü@x.example> size=12 BODY=8bitmime smtputf8".encode(), esmtp=True)
    assert str(envelope.reverse_path) == "ü@x.example"
    assert (envelope.declared_size, envelope.body, envelope.smtputf8) == (12, "8BITMIME", True)
    plain = grammar.mail(b"FROM:<>", esmtp=False)
    assert (plain.reverse_path, plain.declared_size, plain.body, plain.smtputf8) == (None, 0, "7BIT", False)


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        (b"", 501, "5.5.2"),
        (b"<a@b.example>", 501, "5.5.2"),
        (b"FROM <a@b.example>", 501, "5.5.2"),
        (b"FROM :<a@b.example>", 501, "5.5.2"),
        (b"TO:<a@b.example>", 501, "5.5.2"),
        (b"FROM:a@b.example", 501, "5.1.7"),
        (b"FROM:<a@b@c.example>", 501, "5.1.7"),
        ("FROM:<ü@b.example>".encode(), 553, "5.6.7"),
        ("FROM:<ü@b.example> XSMTPUTF8".encode(), 555, "5.5.4"),
        ("FROM:<ü@b.example> BODY=SMTPUTF8".encode(), 501, "5.5.4"),
        (b"FROM:<a@b.example> SIZE=999999999999999999999", 501, "5.5.4"),
        (b"FROM:<a@b.example> SIZE", 501, "5.5.4"),
        (b"FROM:<a@b.example> SIZE=", 501, "5.5.4"),
        (b"FROM:<a@b.example> SIZE=-1", 501, "5.5.4"),
        (b"FROM:<a@b.example> SIZE=1 size=1", 501, "5.5.4"),
        (b"FROM:<a@b.example> BODY=BINARYMIME", 501, "5.5.4"),
        (b"FROM:<a@b.example> BODY", 501, "5.5.4"),
        (b"FROM:<a@b.example> SMTPUTF8=1", 501, "5.5.4"),
        (b"FROM:<a@b.example> RET=NONE", 501, "5.5.4"),
        ("FROM:<ü@b.example> ENVID=SMTPUTF8".encode(), 553, "5.6.7"),
        (b"FROM:<a@b.example> AUTH=<>", 555, "5.5.4"),
        (b"FROM:<a@b.example> =", 555, "5.5.4"),
    ],
)
def test_mail_refused(argument: bytes, code: int, status: str) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        grammar.mail(argument, esmtp=True)
    assert (refused.value.reply.code, refused.value.reply.status) == (code, status)


def test_parameters_need_ehlo() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        grammar.mail(b"FROM:<a@b.example> SIZE=1", esmtp=False)
    assert refused.value.reply.code == 555


def test_rcpt() -> None:
    taken = grammar.rcpt(b"to: <A@B.example> notify=never", smtputf8=False, esmtp=True)
    assert (str(taken.mailbox), taken.parameters) == ("A@b.example", (("NOTIFY", "never"),))
    for argument, code in ((b"", 501), (b"A@b.example", 501), (b"TO:<>", 501), (b"TO:<a@b.example> NOTIFY=NEVER", 555)):
        with pytest.raises(SyntaxRefused) as refused:
            grammar.rcpt(argument, smtputf8=False, esmtp=False)
        assert refused.value.reply.code == code


def test_a_bdat_that_is_too_long_closes() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        grammar.word_and_argument(b"BDAT " + b"1" * 600, first=False, esmtp=True)
    assert refused.value.close


def test_commands_without_argument() -> None:
    grammar.nothing(b"", "QUIT")
    with pytest.raises(SyntaxRefused):
        grammar.nothing(b"now", "QUIT")
