"""Every snippet of docs/POLICY.md loads without a warning, and its tests pass and reach all its rules."""

import re
from pathlib import Path

import pytest
from policy_folder import policy

from gateway.policy.advice import FUNCTIONS
from gateway.policy.cases import OUTCOMES
from gateway.policy.reading import KEYS
from gateway.policy.tests import run_tests
from gateway.policy.vocabulary import FACTS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "POLICY.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_there_are_some() -> None:
    assert len(SNIPPETS) > 10


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[re.findall(r"id: (\S+)", snippet)[0] for snippet in SNIPPETS])
def test_snippet(snippet: str) -> None:
    named = set(re.findall(r"lists\.(\w+)", snippet)) | {"vips", "small-mailboxes", "sales"}
    found = policy(snippet, **dict.fromkeys({name.replace("_", "-") for name in named}, "# may be empty\n"))
    assert [str(problem) for problem in found.warnings] == []
    report = run_tests(found)
    assert [one.failure for one in report.outcomes if one.failure] == []
    assert [rule.id for rule in report.unreached] == []


def test_the_page_names_everything() -> None:
    for word in [*FACTS, *KEYS, *OUTCOMES, *FUNCTIONS]:
        if word not in {"int", "string"}:
            assert f"`{word}" in TEXT or f" {word}" in TEXT or f".{word}" in TEXT, word
