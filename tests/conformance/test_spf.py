"""The openspf suites for RFC 7208 and RFC 4408, every `must` case unmodified, over the zone of appendix A."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.checks.spf import check_host
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone

SUITES = Path(
    os.environ.get("GATEPOST_CONFORMANCE") or Path(__file__).resolve().parents[2].parent / "shared" / "conformance"
)

#: Case id -> the clause that justifies another result than the suite's. None so far.
DEVIATIONS: dict[str, str] = {}


def cases() -> list[Any]:
    path = SUITES / "open.jsonl"
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(f"no suites at {SUITES}"))]
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        pytest.param(case, id=case["id"])
        for case in found
        if case.get("area") == "spf" and case["grade"] == "must" and case["id"] not in DEVIATIONS
    ]


@pytest.mark.parametrize("case", cases())
def test_case(case: dict[str, Any]) -> None:
    resolver = Resolver(Zone(case["dns"]), ManualClock())
    fact = asyncio.run(check_host(resolver, case["ip"], case["helo"], case.get("mail_from", "")))
    assert fact.result.value in case["expect"]["spf"], fact
    if "spf_explanation" in case["expect"]:
        # The suites call the explanation of a domain that has none DEFAULT.
        assert (fact.explanation or "DEFAULT") == case["expect"]["spf_explanation"]
