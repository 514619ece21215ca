"""`gatepost recipients`: what a backend said of a recipient, and making the gateway ask again.

Works on the state (file or Redis) beside running workers; they see the change at once. Exit status: 0 fine, 1 nothing
is remembered of it or it is not at our domains, 2 a bad call.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.shown import line, visible
from gateway.clock import SystemClock
from gateway.config import Config, load_config
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox, to_ascii
from gateway.mail.reply import SyntaxRefused
from gateway.relay.recipients import everybody
from gateway.relay.route import route
from gateway.state.opening import open_store
from gateway.state.store import Store

app = typer.Typer(
    help="Which recipients the backends know.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

_WHOM = "An address at our domains; @example.com is what a probe found of the whole domain."
Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS...", help=_WHOM)]
ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
_DEFAULT = Path("gatepost.yaml")
_CLOCK = SystemClock()
_KNOWN = {True: "known", False: "not known", None: "not asked lately"}
_PROBED = {True: "takes everybody", False: "refuses who is not there", None: "not probed lately"}


@app.command("show")
def show(addresses: Addresses, config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Print what is remembered of recipients; nobody is asked.

    Example: gatepost recipients show sue@example.com @example.com
    """
    found = False
    with _opened(config) as (loaded, store):
        for address, backend, key in _routed(addresses, loaded):
            known = store.recipient(backend, key, _CLOCK.now())
            found = found or known is not None
            words = (_PROBED if key.startswith("@") else _KNOWN)[known]
            told = {"address": address, "backend": backend, "known": known}
            print(line(told) if as_json else f"{visible(address)}  backend {backend}: {words}")
    raise typer.Exit(0 if found else 1)


@app.command("forget")
def forget(addresses: Addresses, config: ConfigOption = _DEFAULT, as_json: JsonOption = False) -> None:
    """Forget what the backend said of recipients: the next mail for one asks again.

    Example: gatepost recipients forget new.colleague@example.com
    """
    count = 0
    with _opened(config) as (loaded, store):
        for address, backend, key in _routed(addresses, loaded):
            if store.recipient(backend, key, _CLOCK.now()) is None:
                print(f"gatepost: nothing is remembered of {visible(address)}", file=sys.stderr)
                continue
            store.forget_recipient(backend, key)
            count += 1
    print(line({"forgotten": count}) if as_json else f"{count} forgotten")
    raise typer.Exit(0 if count else 1)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Config, Store]]:
    config = load_config(path, DiskFiles())
    store = open_store(config, _CLOCK, existing=True)
    try:
        yield config, store
    finally:
        store.close()


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
