"""`gatepost journal`: readable, exact, and safe for the terminal."""

import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import journal as command
from gateway.cli.shown import moment, span, visible
from gateway.clock import ManualClock
from gateway.journal import Entry, Journal, Reader, Spoken
from gateway.mail.terms import Unavailable

EVIL = "\x1b]0;owned\x07\r\n550 ok\x9b31m\u202e"
ENTRY = Entry(
    id="T00000000001",
    time=1_700_000_000.0,
    client="192.0.2.1",
    client_name="mail.x.example",
    helo="mail.x.example",
    tls="TLSv1.3",
    session="S1",
    sender="a@x.example",
    recipients=("b@y.example", "c@y.example"),
    size=1234,
    facts={"spf.result": "pass", "dkim.domains": ["x.example"]},
    failed={"dmarc": "no answer"},
    stage="data",
    action="reject",
    rule="dmarc-reject",
    because="agreed with the mail team",
    reply="550 5.7.26 Refused T00000000001",
    verdicts=(
        Spoken("rcpt", "defer", "grey", "451 4.7.1 Wait", recipient="c@y.example"),
        Spoken("data", "reject", "dmarc-reject", "550 5.7.26 Refused T00000000001"),
    ),
    backend="main",
    fate="none",
    revision="r1",
    timings={"total": 0.25},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path, 1e12, ManualClock())) as journal:
        journal.record(ENTRY)
        journal.record(
            replace(
                ENTRY,
                id="T00000000002",
                helo=EVIL,
                sender=EVIL,
                recipients=(EVIL,),
                reply=EVIL,
                facts={"message.subject": EVIL, EVIL: 1},
                fate="delivered",
                fate_detail=EVIL,
            )
        )
    return path


def run(path: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command.app, [*arguments, "--journal", str(path)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_show_explains(path: Path) -> None:
    code, text = run(path, "show", "t00000000001")
    assert code == 0
    for piece in (
        "2023-11-14 22:13:20Z",
        "192.0.2.1 (mail.x.example), says it is mail.x.example, TLSv1.3",
        "<a@x.example>",
        "<c@y.example>",
        "reject at DATA",
        "dmarc-reject",
        "agreed with the mail team",
        "550 5.7.26 Refused",
        "spf.result    pass",
        "dmarc  no answer",
        "<c@y.example> defer [grey] 451 4.7.1 Wait",
        "none at main",
        "total  0.250",
    ):
        assert piece in text, piece


def test_show_as_json_is_the_entry(path: Path) -> None:
    said = json.loads(run(path, "show", "T00000000001", "--json")[1])
    assert said["rule"] == "dmarc-reject"
    assert said["facts"] == ENTRY.facts


def test_an_unknown_id_is_1_and_said(path: Path) -> None:
    code, text = run(path, "show", "NOBODY")
    assert code == 1
    assert "no mail with the id NOBODY" in text


def test_tail(path: Path) -> None:
    code, text = run(path, "tail", "-n", "5")
    assert code == 0
    assert text.splitlines()[0] == (
        "2023-11-14 22:13:20Z T00000000001 reject [dmarc-reject]  192.0.2.1  <a@x.example> -> <b@y.example> +1  "
        "550 5.7.26 Refused T00000000001"
    )
    assert len(text.splitlines()) == 2
    assert run(path, "tail", "-n", "0") == (0, "")
    assert [json.loads(each)["id"] for each in run(path, "tail", "--json")[1].splitlines()] == [
        "T00000000001",
        "T00000000002",
    ]


@pytest.mark.parametrize(("arguments", "status"), [(["tail", "-f"], 0), (["tail"], 130)])
def test_ctrl_c_before_tail_follows(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int
) -> None:
    """It may come when the last mails are just printed: -f ends well then, too."""

    def interrupted(_: Reader) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "left_out", interrupted)
    assert run(path, *arguments)[0] == status


@pytest.mark.parametrize("arguments", [["show", "T00000000002"], ["tail"]])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_control_characters_of_strangers_never_reach_the_terminal(
    path: Path, arguments: list[str], form: list[str]
) -> None:
    text = run(path, *arguments, *form)[1]
    assert all(c == "\n" or " " <= c <= "~" for c in text)
    assert "owned" in text


def test_no_journal(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no journal there yet"):
        run(tmp_path / "none.db", "tail")


@pytest.mark.parametrize(
    "arguments", [["tail"], ["show", "A1"], ["search", "--rule", "x"]], ids=["tail", "show", "search"]
)
def test_a_journal_of_a_newer_version(path: Path, arguments: list[str]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("ALTER TABLE entry RENAME COLUMN n TO number; PRAGMA user_version = 3")
    with pytest.raises(Unavailable, match=r"newer version of the gateway \(schema 3, ours is 2\); read it with the"):
        run(path, *arguments)


@pytest.mark.parametrize("what", ["noise", "another database", "a folder", "nothing"])
def test_what_is_no_journal(tmp_path: Path, what: str) -> None:
    file = tmp_path / "x.db"
    if what == "a folder":
        file.mkdir()
    elif what == "another database":
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE entry (n INTEGER)")
    else:
        file.write_bytes(b"noise " * 1000 if what == "noise" else b"")
    with pytest.raises(Unavailable, match="no journal that can be read: "):
        run(file, "tail")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"recipients": 7}',
        b'{"judged": [1]}',
        b'{"facts": [1]}',
        b'{"time": "x"}',
        b"\xff\x00",
    ],
)
@pytest.mark.parametrize("command", [("tail",), ("show", ENTRY.id), ("search",)])
def test_a_damaged_entry_hides_no_other(path: Path, damage: bytes, command: tuple[str, ...]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE entry SET entry = ? WHERE id = ?", (damage, ENTRY.id))
    if damage == b"{}":  # every key may be absent
        assert run(path, *command)[0] == 0
        return
    if command[0] == "show":
        with pytest.raises(Unavailable, match=f"journal: its entry 1, of {ENTRY.id}, is damaged"):
            run(path, *command)
        return
    code, text = run(path, *command)
    assert code == 0
    assert "T00000000002" in text
    assert "gatepost: 1 entries of the journal are damaged and left out (number 1)" in text


def test_words() -> None:
    assert visible("naïve ñ 日本") == "naïve ñ 日本"
    assert visible("\ud800\x7f\u200b\n") == "\\ud800\\x7f\\u200b\\n"
    assert moment(0) == "1970-01-01 00:00:00Z"
    assert [span(each) for each in (0, 59.6, 61, 3600, 90061, -5)] == ["0s", "1m", "1m 1s", "1h", "1d 1h", "0s"]


def test_search(path: Path) -> None:
    code, text = run(path, "search", "--rule", "grey", "--since", "2023-11-14")
    assert code == 0
    assert ENTRY.id in text
    code, text = run(path, "search", "--sender", "x.example", "--client", "192.0.2.0/24", "--json")
    assert code == 0
    assert ENTRY.id in [json.loads(one)["id"] for one in text.splitlines()]
    assert "the newest 1" in run(path, "search", "-n", "1")[1]
    for nothing in (["--sender", "nobody.example"], ["--until", "2023-11-14"], ["--since", "1h"], ["--id", "NONE"]):
        code, text = run(path, "search", *nothing)
        assert code == 1, nothing
        assert "no such mail" in text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--outcome", "refused"], "none of accepted, rejected"),
        (["--client", "x.example"], "does not appear to be an IPv4 or IPv6"),
        (["--since", "yesterday"], "no duration, and no date either"),
        (["--until", "2026-13-01"], "no date"),
        (["-n", "99999999999999999999"], "less than"),
    ],
)
def test_search_for_what_cannot_be_is_a_bad_call(path: Path, words: list[str], why: str) -> None:
    code, text = run(path, "search", *words)
    assert code == 2
    assert why in " ".join(text.replace("\u2502", " ").split())
