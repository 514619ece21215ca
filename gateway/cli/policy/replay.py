"""`gatepost policy replay`: last week's mail under another policy, from the recorded facts."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from gateway.cli.journal import left_out
from gateway.cli.policy import compared
from gateway.cli.policy.sources import (
    ConfigOption,
    JournalOption,
    JsonOption,
    ListsOption,
    configuration,
    folder,
    reader,
)
from gateway.cli.shipped import here
from gateway.clock import Clock, SystemClock
from gateway.journal import Entry, Reader
from gateway.policy.replay import Tally, again, hearings
from gateway.yamlfile import Fault
from gateway.yamlfile.units import parse_duration

SinceOption = Annotated[str, typer.Option(metavar="DURATION", help="How far back, as in 7d or 12h; default: all.")]


def replay(
    policies: Annotated[Path, typer.Option("--policies", metavar="DIR", help="The policies to try.")],
    since: SinceOption = "",
    config: ConfigOption = None,
    lists: ListsOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every recorded mail again under other policies, and say what would have ended otherwise.

    Nothing is asked again: recorded facts and recorded answers of greylist and limits alone. A fact that was not
    gathered then is named, never guessed. Exit status: 0 nothing differs, 1 something does, 2 a bad call.

    Example: gatepost policy replay --policies policies-next/ --since 7d -c gatepost.yaml
    """
    config = here(config, journal)
    settings = configuration(config, as_json) if config is not None else None
    beside = policies / "lists"
    if lists is None and not beside.is_dir() and settings is not None:
        lists = settings.lists
    policy = folder(policies, lists, as_json)
    start = moment_of(since)
    tally, transactions, unheard = Tally(), 0, 0
    with contextlib.closing(reader(settings, journal)) as past:
        for entry in watched(past, start):
            transactions += 1
            unheard += not entry.asked
            for hearing in hearings(entry):
                about = compared.about(entry, hearing.scene.recipient)
                tally.add(entry.id, about, hearing.then, again(policy, hearing.scene))
    if as_json:
        found = {"revision": policy.revision, "transactions": transactions, "not_heard": unheard, **tally.plain()}
        print(json.dumps({"differs": tally.differs, **found}))
    else:
        compared.tell(
            f"{transactions} transactions, {tally.cases} recipients judged again under {policies}"
            f" (revision {policy.revision})",
            tally,
        )
        if unheard:
            print(f"  {unheard} transactions never came to the policy: relaying denied, given up, or an older journal")
    if tally.differs:
        raise typer.Exit(1)


def moment_of(since: str) -> float:
    """The moment that lies so far back; the beginning of time for ""."""
    if not since:
        return 0.0
    clock: Clock = SystemClock()
    try:
        return clock.now() - parse_duration(since)
    except Fault as fault:
        raise typer.BadParameter(f"--since: {fault.what}") from None


def watched(past: Reader, start: float) -> Iterator[Entry]:
    """The entries since then, oldest first, with a bar where a person watches; at the end, what could not be read."""
    yield from _with_bar(past, start) if sys.stderr.isatty() else past.since(start)
    left_out(past)


def _with_bar(past: Reader, start: float) -> Iterator[Entry]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=past.count(start))
        for number, entry in enumerate(past.since(start), 1):
            if number % 200 == 0:
                bar.update(task, completed=number)
            yield entry
