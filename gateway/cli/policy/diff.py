"""`gatepost policy diff`: what changes in meaning from one folder of policies to another."""

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.policy import compared
from gateway.cli.policy.replay import SinceOption, moment_of, watched
from gateway.cli.policy.sources import ConfigOption, JournalOption, JsonOption, configuration, folder, reader
from gateway.policy.compare import over_tests
from gateway.policy.replay import Tally, again, hearings


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The folder of policies as they are.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The folder as it shall be.")],
    since: SinceOption = "",
    config: ConfigOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what changes in meaning: the mails of both folders' tests, and of the journal, judged under both.

    The journal is asked where one is named (-c or --journal). Exit status: 0 nothing differs, 1 something does, 2 a
    bad call.

    Example: gatepost policy diff policies/ policies-next/ -c gatepost.yaml --since 7d
    """
    settings = configuration(config, as_json) if config is not None else None
    shared = settings.lists if settings is not None else None
    before, after = (
        folder(each, None if (each / "lists").is_dir() or shared is None else shared, as_json) for each in (old, new)
    )
    tests = over_tests(before, after)
    past: Tally | None = None
    if journal is not None or (settings is not None and settings.journal is not None):
        past = Tally()
        with contextlib.closing(reader(settings, journal)) as recorded:
            for entry in watched(recorded, moment_of(since)):
                for hearing in hearings(entry):
                    about = compared.about(entry, hearing.scene.recipient)
                    past.add(entry.id, about, again(before, hearing.scene), again(after, hearing.scene))
    differs = tests.differs or (past is not None and past.differs)
    if as_json:
        told = {"old": before.revision, "new": after.revision, "tests": tests.plain()}
        print(json.dumps({"differs": differs, **told, "journal": past.plain() if past else None}))
    else:
        _rules({rule.id for rule in before.rules}, {rule.id for rule in after.rules})
        compared.tell(f"{tests.cases} mails of the tests of both", tests)
        if past is not None:
            compared.tell(f"{past.cases} recipients of the journal", past)
        elif not differs:
            print("(no journal was asked: name one with -c or --journal)")
    if differs:
        raise typer.Exit(1)


def _rules(old: set[str], new: set[str]) -> None:
    """Which rules came and went."""
    for word, ids in (("new rules", new - old), ("rules gone", old - new)):
        if ids:
            print(f"{word}: {', '.join(sorted(ids))}")
