"""`gatepost policy check | test | schema`: are the policy files right, and do they do what their tests say?"""

import json
from typing import Annotated

import typer

from gateway.cli.policy.sources import ConfigOption, JsonOption, ListsOption, PoliciesOption, load, plain, tell
from gateway.cli.shown import visible
from gateway.policy.failures import Matrix, Other, matrix
from gateway.policy.replay import Kind
from gateway.policy.schema import schema as policy_schema
from gateway.policy.tests import Outcome, Report, run_tests

FailuresOption = Annotated[
    bool, typer.Option("--failures", help="What is accepted, deferred, refused while a check is down.")
]


def check(
    config: ConfigOption = None,
    policies: PoliciesOption = None,
    lists: ListsOption = None,
    failures: FailuresOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read the policies and lists and report every mistake with its place.

    --failures computes, over the mails of the policy's own tests, what gets in while a check is down.
    Exit status: 0 fine (warnings are printed), 1 mistakes, 2 bad call.

    Example: gatepost policy check --policies policies/ --failures
    """
    policy = load(config, policies, lists, as_json)
    tell(policy.warnings)
    found = matrix(policy) if failures else None
    if as_json:
        told = {
            "ok": True,
            "rules": len(policy.rules),
            "revision": policy.revision,
            "problems": plain(policy.warnings),
        }
        print(json.dumps(told | ({"failures": _plain_matrix(found)} if found else {})))
        return
    print(f"{len(policy.rules)} rules, {len(policy.lists)} lists: fine (revision {policy.revision})")
    if found:
        _print_matrix(found)


def schema() -> None:
    """Print the JSON Schema of a policy file, for editors.

    Example: gatepost policy schema > gatepost-policy.schema.json
    """
    print(json.dumps(policy_schema(), indent=2))


def _print_matrix(found: Matrix) -> None:
    whose = "the mails of the policy's own tests" if found.own else "a base set: the policy has no tests"
    print(f"\n{found.mails} mails ({whose})\n")
    kinds = [kind for kind in Kind if kind is not Kind.UNKNOWN]
    print(f"{'is down':14}" + "".join(f"{kind.value:>13}" for kind in kinds))
    for row in found.rows:
        print(f"{row.down or '(nothing)':14}" + "".join(f"{row.counts.get(kind, 0):13}" for kind in kinds))
    for row in found.rows[1:]:
        print(f"\n{row.down} down" + ("" if row.others else ": nothing changes"))
        ways: dict[tuple[Kind, Kind], list[Other]] = {}
        for one in row.others:
            ways.setdefault((one.up.kind, one.down.kind), []).append(one)
        for (up, now), mails in sorted(ways.items(), key=lambda way: way[0][1] is not Kind.ACCEPTED):
            rules = ", ".join(dict.fromkeys(one.down.rule or one.up.rule for one in mails))
            word = "GETS IN: " if now is Kind.ACCEPTED else ""
            print(f"  {word}{up} -> {now}: {len(mails)} ({rules}), as '{visible(mails[0].name)}'")


def _plain_matrix(found: Matrix) -> dict[str, object]:
    return {
        "mails": found.mails,
        "own_tests": found.own,
        "rows": [
            {
                "down": row.down or None,
                **{kind.value: row.counts.get(kind, 0) for kind in Kind if kind is not Kind.UNKNOWN},
                "changes": [{"mail": one.name, "up": one.up.shown(), "down": one.down.shown()} for one in row.others],
            }
            for row in found.rows
        ],
    }


def run(
    config: ConfigOption = None, policies: PoliciesOption = None, lists: ListsOption = None, as_json: JsonOption = False
) -> None:
    """Runs the tests that stand in the policy files. A rule that no test reaches is a failure too.

    Exit status: 0 all passed and every rule reached, 1 not, 2 bad call.

    Example: gatepost policy test -c gatepost.yaml
    """
    policy = load(config, policies, lists, as_json)
    report = run_tests(policy)
    if as_json:
        print(json.dumps(_report(report)))
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(1)


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
