"""The JSON Schema for editors: all that we ship and document fits it, mistakes of form do not."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from policy_folder import Memory

from gateway.files import DiskFiles
from gateway.policy.rules import Action
from gateway.policy.schema import schema
from gateway.yamlfile import load

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "policies").glob("*.yaml"))
SNIPPETS = re.findall(
    r"^```yaml\n(.*?)^```", (ROOT / "docs" / "POLICY.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
#: Mistakes of form, which an editor can show while they are typed.
FORM = [
    "action-discard",
    "action-parameters",
    "action-two",
    "action-unknown",
    "because-not-text",
    "empty-rule",
    "for-bad-address",
    "for-bad-domain",
    "greylist-unit",
    "id-missing",
    "id-with-space",
    "key-misspelt",
    "limit-zero",
    "key-top-level",
    "mode-unknown",
    "reply-class",
    "reply-contradiction",
    "reply-control",
    "reply-for-tag",
    "reply-no-status",
    "reply-server-code",
    "stage-unknown",
    "tag-name",
    "tag-newline",
    "test-action",
    "test-fact-misspelt",
    "test-fact-type",
    "when-missing",
]
VALIDATOR = Draft202012Validator(schema())


def data(path: Path) -> Any:
    return load(path, DiskFiles(), strict=False).data


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_policies_fit(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(data(path))] == []


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_documented_policies_fit(snippet: str) -> None:
    found = load(Path("a.yaml"), Memory(a__yaml=snippet), strict=False).data
    assert [error.message for error in VALIDATOR.iter_errors(found)] == []


@pytest.mark.parametrize("name", FORM)
def test_mistakes_of_form_do_not(name: str) -> None:
    assert list(VALIDATOR.iter_errors(data(ROOT / "tests" / "bad_policy" / f"{name}.yaml")))


def test_every_action_has_its_form() -> None:
    text = str(schema()["$defs"]["then"])  # type: ignore[index]
    for action in Action:
        assert f"'{action.value}'" in text
