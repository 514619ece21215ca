"""Parameters of MAIL and RCPT, by table."""

import pytest

from gateway.mail.envelope import Envelope
from gateway.mail.reply import SyntaxRefused
from gateway.smtp.parameters import of_mail, of_rcpt, xtext


def test_a_size_beyond_what_is_kept_anywhere_is_the_largest() -> None:
    assert of_mail(Envelope(None), b"SIZE=12", esmtp=True).declared_size == 12
    assert of_mail(Envelope(None), b"SIZE=99999999999999999999", esmtp=True).declared_size == 2**63 - 1


@pytest.mark.parametrize(
    "value",
    [
        b"RET=FULL",
        b"RET=hdrs",
        b"ENVID=QQ314159",
        b"ENVID=a+2Bb+20c+3Dd",
        b"ENVID=" + b"x" * 100,
        b"RET=HDRS ENVID=a>SMTPUTF8",
    ],
)
def test_dsn_of_mail_is_kept_as_it_came(value: bytes) -> None:
    envelope = of_mail(Envelope(None), value, esmtp=True)
    assert b" ".join(f"{name}={text}".encode() for name, text in envelope.parameters) == value


@pytest.mark.parametrize(
    "value",
    [
        b"RET",
        b"RET=",
        b"RET=BODY",
        b"RET=FULL RET=FULL",
        b"ENVID",
        b"ENVID=",
        b"ENVID=a=b",
        b"ENVID=a+b",
        b"ENVID=a+2b",
        b"ENVID=a+0Db",
        b"ENVID=a+0A",
        b"ENVID=a+00",
        b"ENVID=+C3+BC",
        "ENVID=ü".encode(),
        b"ENVID=a\tb",
        b"ENVID=" + b"x" * 101,
    ],
)
def test_bad_dsn_of_mail(value: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        of_mail(Envelope(None), value, esmtp=True)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")


@pytest.mark.parametrize(
    "value",
    [
        b"NOTIFY=NEVER",
        b"NOTIFY=never",
        b"NOTIFY=SUCCESS",
        b"NOTIFY=SUCCESS,FAILURE,delay",
        b"ORCPT=rfc822;B+2BOB@Example.COM",
        b"ORCPT=RFC822;a",
        b"ORCPT=utf-8;s\\x{FC}e@example.com",
        b"ORCPT=rfc822;" + b"x" * 493,
        b"NOTIFY=DELAY ORCPT=rfc822;a+20b",
    ],
)
def test_dsn_of_rcpt_is_kept_as_it_came(value: bytes) -> None:
    assert b" ".join(f"{name}={text}".encode() for name, text in of_rcpt(value, esmtp=True)) == value


@pytest.mark.parametrize(
    "value",
    [
        b"NOTIFY",
        b"NOTIFY=",
        b"NOTIFY=NEVER,SUCCESS",
        b"NOTIFY=SUCCESS,SUCCESS",
        b"NOTIFY=SUCCESS,",
        b"NOTIFY=ALWAYS",
        b"NOTIFY=NEVER notify=NEVER",
        b"ORCPT",
        b"ORCPT=a@b.example",
        b"ORCPT=;a",
        b"ORCPT=rfc822;",
        b"ORCPT=x400;a",
        b"ORCPT=rfc822;a=b",
        b"ORCPT=rfc822;a+0D+0ARCPT",
        "ORCPT=utf-8;ü".encode(),
        b"ORCPT=rfc822;" + b"x" * 494,
    ],
)
def test_bad_dsn_of_rcpt(value: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        of_rcpt(value, esmtp=True)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")


def test_orcpt_in_utf_8_where_mail_asked_for_it() -> None:
    value = "utf-8;süe+2Bx@bücher.example"
    assert of_rcpt(f"ORCPT={value}".encode(), esmtp=True, smtputf8=True) == (("ORCPT", value),)
    for bad in ("rfc822;ü", "utf-8;ü+0D", "utf-8;ü\u2028", "utf-8;\x85", "utf-8;ü=", "utf-8;" + "ü" * 248):
        with pytest.raises(SyntaxRefused):
            of_rcpt(f"ORCPT={bad}".encode(), esmtp=True, smtputf8=True)
    with pytest.raises(SyntaxRefused):
        of_rcpt(b"ORCPT=utf-8;\xfc", esmtp=True, smtputf8=True)


@pytest.mark.parametrize("value", [b"COLOUR=red", b"RET=FULL", b"SIZE=1", b"=", b"NOTIFY2=NEVER"])
def test_parameters_of_others_are_unknown_at_rcpt(value: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        of_rcpt(value, esmtp=True)
    assert refused.value.reply.code == 555


def test_parameters_need_ehlo() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        of_rcpt(b"NOTIFY=NEVER", esmtp=False)
    assert refused.value.reply.code == 555
    assert of_rcpt(b"", esmtp=False) == ()


def test_xtext() -> None:
    assert xtext(b"a+2Bb+3D") == "a+b="
    for bad in (b"", b"a b", b"+", b"+2", b"+2b", b"=", b"\x7f", b"+FF"):
        with pytest.raises(ValueError):  # noqa: PT011 - UnicodeDecodeError is one too
            xtext(bad)
