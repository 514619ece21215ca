"""gatepost policy check and test: what is printed where, and the exit status."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.policy import app

SHIPPED = Path(__file__).resolve().parents[3] / "policies"
RULES = """\
rules:
  - id: a
    when: spf.result == "fail"
    then: reject
    tests:
      - {name: hard fail, given: {spf.result: fail}, expect: {action: reject}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.yaml").write_text(RULES)
    return tmp_path


def test_shipped_are_fine_and_tested() -> None:
    ran = CliRunner().invoke(app, ["check", "--policies", str(SHIPPED)])
    assert (ran.exit_code, ran.stderr) == (0, "")
    ran = CliRunner().invoke(app, ["test", "--policies", str(SHIPPED), "--lists", str(SHIPPED / "lists")])
    assert ran.exit_code == 0, ran.stdout
    assert "rules reached" in ran.stdout


def test_check_tells_every_mistake(folder: Path) -> None:
    (folder / "b.yaml").write_text("rules:\n  - {id: b, when: spf.reslut == 'fail', then: rejct}\n")
    ran = CliRunner().invoke(app, ["check", "--policies", str(folder)])
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert ran.stderr.splitlines() == [
        f"{folder}/b.yaml:2:19: unknown fact 'spf.reslut'; did you mean 'spf.result'?",
        f"{folder}/b.yaml:2:47: unknown action 'rejct'; did you mean 'reject'?",
    ]
    ran = CliRunner().invoke(app, ["check", "--policies", str(folder), "--json"])
    assert ran.exit_code == 1
    found = json.loads(ran.stdout)
    assert not found["ok"]
    assert [(problem["line"], problem["column"]) for problem in found["problems"]] == [(2, 19), (2, 47)]


def test_check_warns_and_does_not_fail(folder: Path) -> None:
    (folder / "b.yaml").write_text("rules: [{id: b, when: client.tls, then: accept}]\n")
    ran = CliRunner().invoke(app, ["check", "--policies", str(folder)])
    assert ran.exit_code == 0
    assert "warning: the exception 'b' has no owner" in ran.stderr
    ran = CliRunner().invoke(app, ["check", "--policies", str(folder), "--json"])
    assert json.loads(ran.stdout)["ok"]


def test_test_passes_fails_and_covers(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["test", "--policies", str(folder)])
    assert (ran.exit_code, ran.stdout) == (0, "1 of 1 tests passed, 1 of 1 rules reached\n")
    (folder / "b.yaml").write_text(
        "rules: [{id: b, when: spf.result == 'none', then: defer}]\n"
        "tests: [{name: wrong, given: {spf.result: fail}, expect: {action: none}}]\n"
    )
    ran = CliRunner().invoke(app, ["test", "--policies", str(folder)])
    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == [
        f"{folder}/b.yaml:2:9: failed: wrong: expected none; it was reject by a at mail",
        f"{folder}/b.yaml:1:14: no test reaches the rule 'b'",
        "1 of 2 tests passed, 1 of 2 rules reached",
    ]
    ran = CliRunner().invoke(app, ["test", "--policies", str(folder), "--json"])
    assert ran.exit_code == 1
    found = json.loads(ran.stdout)
    assert (found["ok"], found["rules"], found["unreached"]) == (
        False,
        2,
        [{"rule": "b", "position": f"{folder}/b.yaml:1:14"}],
    )
    assert [one["passed"] for one in found["tests"]] == [True, False]


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["test", "--lists", "x"],
        ["check", "--policies", ".", "--lists", "/nowhere"],
        ["check", "-c", "a", "--policies", "b"],
        ["chek"],
    ],
)
def test_bad_calls_are_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_lists_need_not_be(folder: Path) -> None:
    (folder / "lists").rmdir()
    assert CliRunner().invoke(app, ["test", "--policies", str(folder)]).exit_code == 0
    (folder / "b.yaml").write_text("rules: [{id: b, when: mail.domain in lists.partners, then: defer}]\n")
    ran = CliRunner().invoke(app, ["check", "--policies", str(folder)])
    assert ran.stderr == f"{folder}/b.yaml:1:38: unknown list 'lists.partners'; there are no lists\n"


def test_a_folder_that_is_not_there_is_status_1(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["test", "--policies", str(tmp_path / "nowhere")])
    assert ran.exit_code == 1
    assert "cannot read the policies" in ran.stderr
