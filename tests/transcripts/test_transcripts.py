"""Golden dialogues: every `*.smtp` of this folder, played through the real gateway. `make golden` rewrites them."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from tests.transcripts.script import Script, matches, octets, parse, rewritten
from tests.transcripts.stage import differences, stage

SCRIPTS = [parse(path) for path in sorted(Path(__file__).parent.glob("*.smtp"))]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_the_gateway_says_what_the_script_says(script: Script, tmp_path: Path, authority: TestCa) -> None:
    write = os.environ.get("GOLDEN") == "write"

    async def play() -> dict[int, list[tuple[str, str]]]:
        async with asyncio.timeout(60), stage(script, tmp_path / "site", authority) as playing:
            return await playing.play(write)

    outcomes = asyncio.run(play())
    if write:
        script.path.write_text(rewritten(script, outcomes), "utf-8")
    else:
        assert not differences(script, outcomes), "\n".join(differences(script, outcomes))


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 20


@pytest.mark.parametrize(
    ("expected", "said", "fits"),
    [
        ("250 2.0.0 OK", "250 2.0.0 OK", True),
        ("250 2.0.0 OK", "250 2.0.0 OK now", False),
        ("250 2.1.0 *", "250 2.1.0 Sender ok", True),
        ("*", "", True),
        ("550 * T00", "550 5.7.1 No T00", True),
        ("a.c", "abc", False),
    ],
)
def test_wildcards(expected: str, said: str, fits: bool) -> None:
    assert matches(expected, said) is fits


def test_golden_keeps_what_still_holds_and_rewrites_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "x.smtp"
    file.write_text("# A comment.\nS: 220 *\nC: NOOP\nS: 250 old\n\nC: QUIT\nS: *\nclosed\n")
    outcomes = {
        2: [("S", "220 mx.example.com ESMTP")],
        4: [("S", "250 2.0.0 OK")],
        7: [("S", "221-a"), ("S", "221 b"), ("closed", "")],
    }
    assert rewritten(parse(file), outcomes) == (
        "# A comment.\nS: 220 *\nC: NOOP\nS: 250 2.0.0 OK\n\nC: QUIT\nS: 221-a\nS: 221 b\nclosed\n"
    )


def test_an_unknown_word_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.smtp"
    file.write_text("S: 220 *\nnonsense\n")
    with pytest.raises(ValueError, match=r"x\.smtp:2: "):
        parse(file)


def test_many_equal_lines_are_one(tmp_path: Path) -> None:
    file = tmp_path / "x.smtp"
    file.write_text("C*3: NOOP\nS*12: 250 *\nC\\*2 a\\0\n")
    script = parse(file)
    assert [octets(line) for line in script.lines if line.kind[:1] == "C"] == [b"NOOP\r\n" * 3, b"a\0a\0"]
    assert [line.text for line in script.lines if line.kind == "S"] == ["250 *"] * 12
    assert rewritten(script, {2: [("S", "250 OK")] * 12}) == file.read_text()
    assert rewritten(script, {2: [("S", "250 OK")] * 11 + [("S", "421 No")]}) == (
        "C*3: NOOP\nS*11: 250 *\nS: 421 No\nC\\*2 a\\0\n"
    )
