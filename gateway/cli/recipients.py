"""`gatepost recipients`: what backends said of recipients, and making the gateway ask again.

Works on the state (file or Redis) beside running workers; they see the change at once. Exit status: 0 fine, 1 nothing
is remembered of it or it is not at our domains, 2 a bad call.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.shown import line, span, visible
from gateway.clock import SystemClock
from gateway.config import Config, load_config
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox, to_ascii
from gateway.mail.reply import SyntaxRefused
from gateway.relay.recipients import everybody
from gateway.relay.route import route
from gateway.state.opening import open_store
from gateway.state.store import RecipientRow, Store

app = typer.Typer(
    help="Which recipients the backends know.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

_WHOM = "An address, a domain, or @DOMAIN: what a probe found of the whole domain."
_ADDRESS = "An address at our domains, or @DOMAIN: what a probe found of the whole domain. None: all, as `list`."
WhomArgument = Annotated[str, typer.Argument(metavar="[WHOM]", help=_WHOM, show_default=False)]
WhomArguments = Annotated[list[str] | None, typer.Argument(metavar="[WHOM]...", help=_WHOM, show_default=False)]
Addresses = Annotated[list[str] | None, typer.Argument(metavar="[ADDRESS]...", help=_ADDRESS, show_default=False)]
BackendOption = Annotated[str, typer.Option("--backend", metavar="NAME", help="Only what this backend said.")]
ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many rows.")]
OffsetOption = Annotated[int, typer.Option("--offset", min=0, help="After so many rows: the next page.")]
_DEFAULT = Path("gatepost.yaml")
_CLOCK = SystemClock()
_KNOWN = {True: "known", False: "not known", None: "not asked lately"}
_PROBED = {True: "takes everybody", False: "refuses who is not there", None: "not probed lately"}


@app.command("list")
def list_rows(
    whom: WhomArgument = "",
    config: ConfigOption = _DEFAULT,
    backend: BackendOption = "",
    limit: LimitOption = 1000,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Print what is remembered, by backend and address; nobody is asked.

    Example: gatepost recipients list example.com --limit 50
    """
    now = _CLOCK.now()
    match = _match(whom)
    with _opened(config) as (_, store):
        rows = store.recipient_list(now, backend=backend, match=match, limit=limit + 1, offset=offset)
    for row in rows[:limit]:
        print(line(asdict(row)) if as_json else _told(row.address, row.backend, row, now))
    if len(rows) > limit:
        print(f"gatepost: there are more: --offset {offset + limit}", file=sys.stderr)
    if not rows and not as_json:
        print("nothing")


@app.command("show")
def show(
    addresses: Addresses = None,
    config: ConfigOption = _DEFAULT,
    backend: BackendOption = "",
    limit: LimitOption = 1000,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Print what is remembered of these recipients, in capitals or not; nobody is asked.

    Example: gatepost recipients show sue@example.com @example.com
    """
    if not addresses:
        list_rows("", config, backend, limit, offset, as_json)
        return
    found, now = False, _CLOCK.now()
    with _opened(config) as (loaded, store):
        for address, whose, key in _routed(addresses, loaded):
            if backend not in {"", whose}:
                raise typer.BadParameter(f"{visible(address)} is for backend {whose}", param_hint="--backend")
            rows = store.recipient_list(now, backend=whose, match=key, limit=limit)
            found = found or bool(rows)
            for row in rows:  # as many as there are spellings
                print(line(asdict(row)) if as_json else _told(row.address, whose, row, now))
            if not rows:
                told = {"backend": whose, "address": address, "known": None, "until": None}
                print(line(told) if as_json else _told(address, whose, None, now))
    raise typer.Exit(0 if found else 1)


@app.command("forget")
def forget(
    whom: WhomArguments = None,
    config: ConfigOption = _DEFAULT,
    backend: BackendOption = "",
    everything: Annotated[bool, typer.Option("--all", help="All that is remembered.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget what backends said of an address, a domain, all recipients of a backend, or all: the next mail asks again.

    Example: gatepost recipients forget new.colleague@example.com
    """
    if everything and (whom or backend):
        raise typer.BadParameter("all, or some: not both", param_hint="--all")
    if not (everything or whom or backend):
        raise typer.BadParameter("name an address, a domain, --backend NAME, or --all", param_hint="WHOM")
    matches = [_match(word) for word in whom or [""]]
    count, now = 0, _CLOCK.now()
    with _opened(config) as (_, store):
        for match in matches:
            gone = store.recipient_forget(now, backend=backend, match=match)
            if match and not gone:
                print(f"gatepost: nothing is remembered of {visible(match)}", file=sys.stderr)
            count += gone
    print(line({"forgotten": count}) if as_json else f"{count} forgotten")
    raise typer.Exit(0 if count else 1)


def _told(address: str, backend: str, row: RecipientRow | None, now: float) -> str:
    """One line for people."""
    words = (_PROBED if address.startswith("@") else _KNOWN)[row.known if row else None]
    left = f", for {span(row.until - now)}" if row else ""
    return f"{visible(address)}  backend {visible(backend)}: {words}{left}"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Config, Store]]:
    config = load_config(path, DiskFiles())
    store = open_store(config, _CLOCK, existing=True)
    try:
        yield config, store
    finally:
        store.close()


def _match(whom: str) -> str:
    """An address or a domain as the store spells it; "" stays. Raises `typer.BadParameter` for what is neither."""
    try:
        if whom.lstrip("@").count("@"):
            return str(Mailbox.parse(whom.encode(), smtputf8=True))
        domain = whom.removeprefix("@")
        return whom.removesuffix(domain) + (to_ascii(domain) if whom else "")
    except (SyntaxRefused, ValueError):
        raise typer.BadParameter(f"{visible(whom)} is no address and no domain", param_hint="WHOM") from None


def _routed(addresses: list[str], config: Config) -> Iterator[tuple[str, str, str]]:
    """The address, its backend, and the key of its answer. Raises `typer.BadParameter` for what is not ours."""
    domains = {domain: target.backend for domain, target in config.domains.items()}
    for address in addresses:
        try:
            if address.startswith("@"):
                domain = to_ascii(address[1:])
                key = everybody(domain)
            else:
                mailbox = Mailbox.parse(address.encode(), smtputf8=True)
                domain, key = mailbox.domain, str(mailbox)
        except (SyntaxRefused, ValueError):
            raise typer.BadParameter(f"{visible(address)} is no address", param_hint="ADDRESS") from None
        backend = route(domains, domain)
        if backend is None:
            raise typer.BadParameter(f"{visible(address)} is at none of our domains", param_hint="ADDRESS")
        yield address, backend, key
