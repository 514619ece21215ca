"""`gatepost policy check | test`: are the policy files right, and do they do what their tests say?"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.clock import Clock, SystemClock
from gateway.config import load_config
from gateway.files import DiskFiles
from gateway.policy.loader import Policy, load_policies
from gateway.policy.tests import Outcome, Report, run_tests
from gateway.yamlfile import ConfigError, Problem

app = typer.Typer(name="policy", help="Check and test policy files.", no_args_is_help=True)

ConfigOption = Annotated[Path | None, typer.Option("-c", "--config", help="The gateway's configuration.")]
PoliciesOption = Annotated[Path | None, typer.Option("--policies", help="The folder of policy files.")]
ListsOption = Annotated[Path | None, typer.Option("--lists", help="The folder of lists; default: lists/ beside them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@app.command()
def check(
    config: ConfigOption = None, policies: PoliciesOption = None, lists: ListsOption = None, as_json: JsonOption = False
) -> None:
    """Reads the policies and lists and reports every mistake with its place.

    Exit status: 0 fine (warnings are printed), 1 mistakes, 2 bad call.

    Example: gatepost policy check --policies policies/
    """
    policy = _load(config, policies, lists, as_json)
    _problems(policy.warnings)
    if as_json:
        found = {
            "ok": True,
            "rules": len(policy.rules),
            "revision": policy.revision,
            "problems": _plain(policy.warnings),
        }
        print(json.dumps(found))
    else:
        print(f"{len(policy.rules)} rules, {len(policy.lists)} lists: fine (revision {policy.revision})")


@app.command(name="test")
def run(
    config: ConfigOption = None, policies: PoliciesOption = None, lists: ListsOption = None, as_json: JsonOption = False
) -> None:
    """Runs the tests that stand in the policy files. A rule that no test reaches is a failure too.

    Exit status: 0 all passed and every rule reached, 1 not, 2 bad call.

    Example: gatepost policy test -c gatepost.yaml
    """
    policy = _load(config, policies, lists, as_json)
    report = run_tests(policy)
    if as_json:
        print(json.dumps(_report(report)))
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(1)


def _load(config: Path | None, policies: Path | None, lists: Path | None, as_json: bool) -> Policy:
    files = DiskFiles()
    clock: Clock = SystemClock()
    if (config is None) == (policies is None):
        raise typer.BadParameter("name either a configuration (-c) or a folder of policies (--policies)")
    if lists is not None and policies is None:
        raise typer.BadParameter("--lists goes with --policies")
    if lists is not None and not lists.is_dir():
        raise typer.BadParameter(f"there is no folder {lists}")
    try:
        if config is not None:
            loaded = load_config(config, files)
            policies, lists = loaded.policies, loaded.lists
        assert policies is not None
        today = datetime.fromtimestamp(clock.now(), UTC).date()
        return load_policies(policies, lists or policies / "lists", files, today=today)
    except ConfigError as error:
        _problems(error.problems)
        if as_json:
            print(json.dumps({"ok": False, "problems": _plain(error.problems)}))
        raise typer.Exit(1) from None


def _problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        typer.echo(str(problem), err=True)


def _plain(problems: tuple[Problem, ...]) -> list[dict[str, str | int]]:
    return [
        {
            "file": problem.position.file,
            "line": problem.position.line,
            "column": problem.position.column,
            "severity": problem.severity,
            "what": problem.what,
            "hint": problem.hint,
        }
        for problem in problems
    ]


def _report(report: Report) -> dict[str, object]:
    return {
        "ok": report.passed,
        "tests": [_outcome(outcome) for outcome in report.outcomes],
        "rules": report.rules,
        "unreached": [{"rule": rule.id, "position": str(rule.position)} for rule in report.unreached],
    }


def _outcome(outcome: Outcome) -> dict[str, object]:
    verdict = outcome.run.verdict
    return {
        "name": outcome.case.name,
        "position": str(outcome.case.position),
        "passed": not outcome.failure,
        "failure": outcome.failure,
        "action": verdict.action.value if verdict else "none",
        "rule": verdict.rule if verdict else "",
        "stage": outcome.run.stage.name.lower(),
    }


def _print(report: Report) -> None:
    for outcome in report.outcomes:
        if outcome.failure:
            print(f"{outcome.case.position}: failed: {outcome.case.name}: {outcome.failure}")
    for rule in report.unreached:
        print(f"{rule.position}: no test reaches the rule '{rule.id}'")
    total = len(report.outcomes)
    passed = total - sum(1 for outcome in report.outcomes if outcome.failure)
    reached = report.rules - len(report.unreached)
    print(f"{passed} of {total} tests passed, {reached} of {report.rules} rules reached")
