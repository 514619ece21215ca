"""XCLIENT and XFORWARD lines: only what is offered, only xtext, never too long."""

import pytest

from gateway.relay.introduction import Introduction

ALL = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT IDENT SOURCE"


def line(verb: str, offered: str = ALL, **what: object) -> str | None:
    told = {"name": "mail.example.org", "ip": "192.0.2.1", "port": 4711, "helo": "mail.example.org", "esmtp": True}
    command = Introduction(verb, **{**told, **what}).command(offered)  # type: ignore[arg-type]
    return None if command is None else command.decode("ascii")


def test_xclient() -> None:
    said = "XCLIENT NAME=mail.example.org ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=mail.example.org\r\n"
    assert line("XCLIENT") == said


def test_xforward_names_the_mail() -> None:
    said = "NAME=mail.example.org ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=mail.example.org IDENT=T1 SOURCE=REMOTE"
    assert line("XFORWARD", id="T1") == f"XFORWARD {said}\r\n"


@pytest.mark.parametrize(
    ("offered", "what", "said"),
    [
        ("addr", {}, "ADDR=192.0.2.1"),
        ("ADDR NAME", {"name": ""}, "NAME=[UNAVAILABLE] ADDR=192.0.2.1"),
        ("ADDR", {"ip": "2001:db8::1"}, "ADDR=IPV6:2001:db8::1"),
        ("PROTO", {"esmtp": False}, "PROTO=SMTP"),
        ("PORT", {"port": 0}, "PORT=[UNAVAILABLE]"),
        ("HELO", {"helo": "a b+c=\r\nMAIL ü"}, "HELO=a+20b+2Bc+3D+0D+0AMAIL+20+C3+BC"),
        ("HELO", {"helo": "x" * 300}, "HELO=[UNAVAILABLE]"),
        ("HELO", {"helo": "\n" * 100}, "HELO=[UNAVAILABLE]"),
    ],
)
def test_values(offered: str, what: dict[str, object], said: str) -> None:
    assert line("XCLIENT", offered, **what) == f"XCLIENT {said}\r\n"


def test_nothing_to_tell() -> None:
    assert line("XCLIENT", "LOGIN") is None


def test_the_longest_line_fits() -> None:
    long = line("XFORWARD", name="n" * 180, helo="h" * 180, ip="2001:db8:1111:2222:3333:4444:5555:6666", id="T" * 12)
    assert long is not None
    assert len(long) <= 512
