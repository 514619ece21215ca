"""Where the `policy` commands take policies and journals from: the options they share."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.cli.shipped import here
from gateway.clock import Clock, SystemClock
from gateway.config import Config, load_config
from gateway.files import DiskFiles
from gateway.journal import Reader
from gateway.mail.terms import Unavailable
from gateway.policy.fit import unfit
from gateway.policy.loader import Policy, load_policies
from gateway.yamlfile import ConfigError, Problem

ConfigOption = Annotated[Path | None, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
PoliciesOption = Annotated[Path | None, typer.Option("--policies", metavar="DIR", help="The folder of policy files.")]
ListsOption = Annotated[
    Path | None,
    typer.Option("--lists", metavar="DIR", help="The folder of lists; default: lists/ beside the policies."),
]
JournalOption = Annotated[
    Path | None, typer.Option("--journal", metavar="FILE", help="The journal's file, instead of the configured one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


def load(config: Path | None, policies: Path | None, lists: Path | None, as_json: bool) -> Policy:
    """The policy of a configuration or of a folder. Ends the command where it has mistakes, or the call has."""
    config = here(config, policies)
    if (config is None) == (policies is None):
        raise typer.BadParameter("name either a configuration (-c) or a folder of policies (--policies)")
    if lists is not None and policies is None:
        raise typer.BadParameter("--lists goes with --policies")
    if policies is not None:
        return folder(policies, lists, as_json)
    assert config is not None
    loaded = configuration(config, as_json)
    policy = folder(loaded.policies, loaded.lists, as_json, named=False)
    return replace(policy, warnings=(*policy.warnings, *unfit(policy, loaded)))


def folder(policies: Path, lists: Path | None, as_json: bool, *, named: bool = True) -> Policy:
    """The policy of a folder, with its own lists or those. `named`: somebody typed the name of the lists."""
    if named and lists is not None and not lists.is_dir():
        raise typer.BadParameter(f"there is no folder {lists}")
    clock: Clock = SystemClock()
    today = datetime.fromtimestamp(clock.now(), UTC).date()
    try:
        return load_policies(policies, lists or policies / "lists", DiskFiles(), today=today)
    except ConfigError as error:
        _refuse(error, as_json)


def configuration(config: Path, as_json: bool) -> Config:
    """The configuration; ends the command where it has mistakes."""
    try:
        return load_config(config, DiskFiles())
    except ConfigError as error:
        _refuse(error, as_json)


def reader(settings: Config | None, journal: Path | None) -> Reader:
    """The journal that was named, or the configured one. Raises `Unavailable` where there is none."""
    path = journal or (settings.journal.path if settings is not None and settings.journal is not None else None)
    if path is None:
        raise Unavailable("no journal: name one with --journal FILE, or a configuration that keeps one with -c FILE")
    return Reader(path)


def tell(problems: tuple[Problem, ...]) -> None:
    """Problems, one a line, on standard error."""
    for problem in problems:
        typer.echo(str(problem), err=True)


def plain(problems: tuple[Problem, ...]) -> list[dict[str, str | int]]:
    """Problems for programs."""
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


def _refuse(error: ConfigError, as_json: bool) -> NoReturn:
    tell(error.problems)
    if as_json:
        print(json.dumps({"ok": False, "problems": plain(error.problems)}))
    raise typer.Exit(1) from None
