"""`gatepost greylist`: who waits, who passed, who is exempt; let somebody pass, or forget somebody.

Works on the state (file or Redis) beside running workers; they see the change at once. Exit status: 0 fine, 1 nothing
matched or there is no state, 2 a bad call.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.shown import line, moment, span, visible
from gateway.clock import SystemClock
from gateway.config import load_config
from gateway.files import DiskFiles
from gateway.state.opening import open_store
from gateway.state.store import GreylistRow, Store

app = typer.Typer(
    help="Who waits in the greylist, who passed, who is exempt.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
_WHOM = "An identity (spf:example.org, net:192.0.2.0/24), an address, or a domain."
WhomArgument = Annotated[str, typer.Argument(metavar="WHOM", help=_WHOM)]
_DEFAULT = Path("gatepost.yaml")
_CLOCK = SystemClock()


@contextlib.contextmanager
def _store(config: Path) -> Iterator[Store]:
    store = open_store(load_config(config, DiskFiles()), _CLOCK, existing=True)
    try:
        yield store
    finally:
        store.close()


@app.command("list")
def list_rows(
    whom: Annotated[str, typer.Argument(metavar="[WHOM]", help=_WHOM, show_default=False)] = "",
    config: ConfigOption = _DEFAULT,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many rows.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Print exempt identities and then the triplets, the latest first.

    Example: gatepost greylist list newsletter.example
    """
    now = _CLOCK.now()
    with _store(config) as store:
        rows = store.greylist_list(now, match=whom, limit=limit)
    for row in rows:
        print(line(asdict(row)) if as_json else described(row, now))
    if not rows and not as_json:
        print("nothing")


@app.command("release")
def release(
    whom: WhomArgument,
    config: ConfigOption = _DEFAULT,
    days: Annotated[int, typer.Option("--days", min=1, help="How long to remember it.")] = 36,
    as_json: JsonOption = False,
) -> None:
    """Let the waiting triplets of somebody pass at their next attempt.

    Example: gatepost greylist release newsletter.example
    """
    with _store(config) as store:
        count = store.greylist_release(whom, now=_CLOCK.now(), keep=days * 86400.0)
    _told(count, "released", f"nothing waits that matches {visible(whom)}", as_json=as_json)


@app.command("forget")
def forget(whom: WhomArgument, config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Forget the triplets and exemptions of somebody: the next mail is a stranger's.

    Example: gatepost greylist forget spf:example.org
    """
    with _store(config) as store:
        count = store.greylist_forget(whom)
    _told(count, "forgotten", f"nothing matches {visible(whom)}", as_json=as_json)


def described(row: GreylistRow, now: float) -> str:
    """One line for people."""
    triplet = "" if row.state == "exempt" else f"  <{row.sender}> -> <{row.recipient}>"
    left = span(row.expires - now)
    text = f"{row.state:<8} {row.identity}{triplet}"
    return f"{visible(text)}  since {moment(row.first_seen)}, for {left}" + (
        f", {row.attempts} attempts" if row.attempts else ""
    )


def _told(count: int, what: str, nothing: str, *, as_json: bool) -> None:
    if as_json:
        print(line({what: count}))
    elif count:
        print(f"{count} {what}")
    else:
        print(f"gatepost: {nothing}", file=sys.stderr)
    if not count:
        raise typer.Exit(1)
