"""The shipped policies: no warning, every test passes, every rule reached; published spoofs end in a reject."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.checks.check import Value
from gateway.files import DiskFiles
from gateway.policy.cases import CLEAN
from gateway.policy.loader import load_policies
from gateway.policy.rules import Action
from gateway.policy.tests import run, run_tests

ROOT = Path(__file__).resolve().parents[3]
ATTACKS = ROOT.parent / "shared" / "conformance" / "attacks" / "espoofer-facts.yml"
#: A day far ahead: nothing that we ship may expire in an installation that nobody touches.
POLICY = load_policies(ROOT / "policies", ROOT / "policies" / "lists", DiskFiles(), today=date(2099, 1, 1))


def test_no_warning() -> None:
    assert [str(problem) for problem in POLICY.warnings] == []


def test_tests_and_coverage() -> None:
    report = run_tests(POLICY)
    assert [(one.case.name, one.failure) for one in report.outcomes if one.failure] == []
    assert [rule.id for rule in report.unreached] == []


def test_every_rule_has_a_reason_and_a_test_of_its_own() -> None:
    named = {case.rule for case in POLICY.cases}
    for rule in POLICY.rules:
        assert rule.because, rule.id
        assert rule.id in named, rule.id


def attacks() -> list[Any]:
    if not ATTACKS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{ATTACKS.name} is not beside the project"))]
    loaded = yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))
    cases = [case for case in loaded["cases"] + loaded["own_cases"] if case["expect"]["action"] == "reject"]
    # Refused by the edge before any policy: syntax of MAIL FROM, bare CR or LF, NUL.
    cases = [
        case
        for case in cases
        if "smtp" not in case["expect"] and case["id"] not in {"own_from_bare_cr", "own_from_bare_lf", "own_from_nul"}
    ]
    return [pytest.param(case, id=case["id"]) for case in cases]


@pytest.mark.parametrize("case", attacks())
def test_spoofs_are_refused(case: dict[str, Any]) -> None:
    """With the facts that right checks give for the case, which `expect` names; both readings where two are right."""
    expect = case["expect"]
    attacker: dict[str, Value] = {
        **CLEAN,
        "client.ip": "203.0.113.66",
        "mail.address": "any@attack.com",
        "mail.domain": "attack.com",
        "from.address": "admin@legitimate.com",
        "from.domain": "legitimate.com",
        "from.org_domain": "legitimate.com",
        "dmarc.result": "fail",
        "dmarc.policy": "reject",
        "dmarc.domain": "legitimate.com",
    }
    malformed: dict[str, Value] = {
        **attacker,
        "from.valid": False,
        "from.domain": "",
        "from.org_domain": "",
        "dmarc.result": "none",
        "dmarc.policy": "",
    }
    readings = []
    for spf in expect.get("spf", ["pass"]):
        for dkim in expect.get("dkim", ["none"]):
            readings.append({**attacker, "spf.result": spf, "dkim.result": dkim, "dkim.domains": []})
    if "dmarc" not in expect and "dkim" not in expect:
        readings = [malformed]  # the case is about what From is
    for facts in readings:
        for name, iprev in (("", "fail"), ("host.attack.com", "pass")):
            ran = run(POLICY, {**facts, "client.name": name, "client.iprev": iprev})
            assert ran.verdict is not None
            assert ran.verdict.action is Action.REJECT


DMARC = {"dmarc.result": "fail", "dmarc.policy": "reject"}
SELF_SIGNED = {**DMARC, "dkim.domains": ["attack.example"]}
NO_DKIM = {"dkim.result": "none", "dkim.domains": []}


@pytest.mark.parametrize(
    ("given", "action", "rule"),
    [
        # A forwarder breaks SPF, the signature holds.
        ({"spf.result": "fail"}, None, ""),
        # A spoofer signs as himself and calls it a list: never into the inbox.
        ({**SELF_SIGNED, "message.list_id": "x.attack.example"}, Action.QUARANTINE, "dmarc-list"),
        ({**SELF_SIGNED, "message.list_id": "lists.example.org"}, Action.REJECT, "dmarc-reject"),
        # A chain that passes but that nobody trusts is worth nothing.
        ({**DMARC, "arc.result": "pass", "arc.sealer": "attack.example"}, Action.REJECT, "dmarc-reject"),
        # p=none changes nothing (RFC 9989 section 5.4).
        ({"dmarc.result": "fail", "dmarc.policy": "none"}, None, ""),
        # DNS down: mail that needs it waits, is neither let in nor refused.
        ({"dmarc.result": "temperror", "dmarc.policy": ""}, Action.DEFER, "dmarc-reject"),
        ({"spf.result": "temperror"}, None, ""),
        ({"spf.result": "temperror", "dmarc.result": "none", **NO_DKIM}, Action.DEFER, "spf-fail"),
        ({"dkim.result": "temperror", "dkim.domains": []}, None, ""),
        ({**DMARC, "arc.result": "temperror"}, Action.DEFER, "dmarc-reject"),
        ({"client.iprev": "temperror", "client.name": "", "dmarc.result": "none"}, None, ""),
    ],
)
def test_cases_in_between(given: dict[str, Value], action: Action | None, rule: str) -> None:
    verdict = run(POLICY, {**CLEAN, **given}).verdict
    assert (verdict.action if verdict else None, verdict.rule if verdict else "") == (action, rule)
