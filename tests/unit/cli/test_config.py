"""gatepost config check, show, schema: what is printed where, and the exit status."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.config import app
from gateway.cli.policy import app as policy
from tests.support.configured import MINIMAL, furnish


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("configuration")
    furnish(made)
    (made / "good.yaml").write_text(MINIMAL)
    (made / "doubtful.yaml").write_text(MINIMAL + "limits: {recipients: 10}\n")
    (made / "bad.yaml").write_text(MINIMAL.replace("hostname", "hostnam"))
    (made / "other").mkdir()
    (made / "other" / "10-broken.yaml").write_text("rules: [{id: odd, when: from.valids, then: reject}]\n")
    (made / "other.yaml").write_text(MINIMAL + "policies: other\n")
    return made


def fine(file: Path, warnings: str = "") -> str:
    """The last line of a good check."""
    return (
        f"{file}: fine{warnings}: configuration, certificates, 0 rules, 0 lists"
        f" (the policy's own tests: gatepost policy test -c {file})\n"
    )


def test_check_says_fine(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["check", "-c", str(folder / "good.yaml")])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, fine(folder / "good.yaml"), "")


def test_check_warns_and_does_not_fail(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["check", "-c", str(folder / "doubtful.yaml")])
    assert ran.exit_code == 0
    assert ran.stderr.startswith(f"{folder}/doubtful.yaml:12:22: warning: RFC 5321")
    assert ran.stdout == fine(folder / "doubtful.yaml", ", 1 warning(s)")


def test_check_refuses_a_policy_that_serve_refuses_in_the_words_of_policy_check(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["check", "-c", str(folder / "other.yaml")])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"{folder}/other/10-broken.yaml:1:25: ")
    assert ran.stderr == CliRunner().invoke(policy, ["check", "-c", str(folder / "other.yaml")]).stderr
    ran = CliRunner().invoke(app, ["check", "--json", "-c", str(folder / "other.yaml")])
    (problem,) = json.loads(ran.stdout)["problems"]
    assert (problem["file"], problem["line"]) == (f"{folder}/other/10-broken.yaml", 1)


def test_check_strict_fails_for_warnings(folder: Path) -> None:
    assert CliRunner().invoke(app, ["check", "--strict", "-c", str(folder / "doubtful.yaml")]).exit_code == 1


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_bad_file_is_status_1_and_one_line_a_problem(folder: Path, command: str) -> None:
    ran = CliRunner().invoke(app, [command, "-c", str(folder / "bad.yaml")])
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert ran.stderr == f"{folder}/bad.yaml:1:1: unknown key 'hostnam'; did you mean 'hostname'?\n"


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_file_that_is_not_there_is_status_1(folder: Path, command: str) -> None:
    ran = CliRunner().invoke(app, [command, "-c", str(folder / "nowhere.yaml")])
    assert ran.exit_code == 1
    assert ran.stderr == f"{folder}/nowhere.yaml:1:1: there is no such file; check the path\n"


def test_check_for_programs(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["check", "--json", "-c", str(folder / "bad.yaml")])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == {
        "file": f"{folder}/bad.yaml",
        "ok": False,
        "problems": [
            {
                "file": f"{folder}/bad.yaml",
                "line": 1,
                "column": 1,
                "severity": "error",
                "what": "unknown key 'hostnam'",
                "hint": "did you mean 'hostname'?",
            }
        ],
    }
    ran = CliRunner().invoke(app, ["check", "--json", "-c", str(folder / "good.yaml")])
    told = json.loads(ran.stdout)
    assert len(told.pop("revision")) > 6
    assert told == {"file": f"{folder}/good.yaml", "ok": True, "problems": [], "rules": 0, "lists": 0}


def test_show(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["show", "-c", str(folder / "good.yaml")])
    assert ran.exit_code == 0
    assert "greeting_delay: 100ms\n" in ran.stdout
    ran = CliRunner().invoke(app, ["show", "--json", "-c", str(folder / "good.yaml")])
    assert json.loads(ran.stdout)["limits"]["message"] == "35MB"


def test_schema() -> None:
    ran = CliRunner().invoke(app, ["schema"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["title"] == "gatepost.yaml"


@pytest.mark.parametrize("arguments", [["check", "--bogus"], ["check", "-c"], ["bogus"], ["schema", "extra"]])
def test_a_bad_call_is_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["check", "show", "schema"])
def test_help_has_an_example(command: str) -> None:
    ran = CliRunner().invoke(app, [command, "--help"])
    assert ran.exit_code == 0
    assert "Example: gatepost config" in ran.stdout
