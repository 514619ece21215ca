"""`gatepost config`: check, show, schema.

Exit status: 0 fine (warnings included), 1 the configuration is wrong or cannot be read, 2 a bad call.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.build import plan
from gateway.clock import SystemClock
from gateway.config import Config, load_config, schema, show
from gateway.files import DiskFiles
from gateway.policy.loader import Policy
from gateway.yamlfile import ConfigError, Problem

app = typer.Typer(
    help="Check, print and describe gatepost.yaml; check what it names.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
_DEFAULT = Path("gatepost.yaml")
_STRICT = "Warnings are faults, too."


def _json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _described(problem: Problem) -> dict[str, str | int]:
    position = problem.position
    return {
        "file": position.file,
        "line": position.line,
        "column": position.column,
        "severity": problem.severity,
        "what": problem.what,
        "hint": problem.hint,
    }


def _tell(config: Path, problems: Sequence[Problem], policy: Policy | None, *, good: bool, as_json: bool) -> None:
    """`policy`: the one that was read, `None` where it was refused or nobody asked."""
    if as_json:
        told = {"rules": len(policy.rules), "lists": len(policy.lists), "revision": policy.revision} if policy else {}
        _json({"file": str(config), "ok": good, "problems": [_described(problem) for problem in problems], **told})
        return
    for problem in problems:
        print(problem, file=sys.stderr)
    if good and policy is not None:
        word = "fine" + (f", {len(problems)} warning(s)" if problems else "")
        read = f"configuration, certificates, {len(policy.rules)} rules, {len(policy.lists)} lists"
        print(f"{config}: {word}: {read} (the policy's own tests: gatepost policy test -c {config})")


def _load(config: Path, *, as_json: bool) -> Config:
    try:
        return load_config(config, DiskFiles())
    except ConfigError as error:
        _refuse(config, error, as_json=as_json)


def _refuse(config: Path, error: ConfigError, *, as_json: bool) -> NoReturn:
    _tell(config, error.problems, None, good=False, as_json=as_json)
    raise typer.Exit(1) from None


@app.command("check")
def check(
    config: ConfigOption = _DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help=_STRICT)] = False,
) -> None:
    """Say all that is wrong in what serve would load, with line and column.

    The configuration, its certificates and folders, policies and lists; asks nothing of the network. The tests in the
    policy files are run by: gatepost policy test.

    Example: gatepost config check -c /etc/gatepost/gatepost.yaml
    """
    try:
        made = plan(config, DiskFiles(), SystemClock(), today=True)
    except ConfigError as error:
        _refuse(config, error, as_json=as_json)
    good = not (strict and made.warnings)
    _tell(config, made.warnings, made.policy, good=good, as_json=as_json)
    if not good:
        raise typer.Exit(1)


@app.command("show")
def show_effective(
    config: ConfigOption = _DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of YAML.")] = False,
) -> None:
    """Print the effective configuration: every default filled in, every path absolute.

    Names the files of keys, and none of their content.

    Example: gatepost config show -c gatepost.yaml | grep -A5 deadlines
    """
    effective = _load(config, as_json=as_json)
    if as_json:
        _json(effective.model_dump(mode="json"))
    else:
        print(show(effective), end="")


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of gatepost.yaml (draft 2020-12), for editors.

    Example: gatepost config schema > gatepost.schema.json
    """
    _json(schema())
