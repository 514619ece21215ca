"""`gatepost doctor`: is everything around the gateway as it must be, and what is to be mended?

Looks at backends, DNS, state, disks, clock, files, certificates and listeners, with the same code that relays mail.
Nothing is delivered and nothing changed. Exit status: 0 nothing is red, 1 something is, 2 a bad call.
"""

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway import tls
from gateway.build import plan, resolver_of
from gateway.cli import doctor_house as house
from gateway.cli import doctor_listeners as doors
from gateway.cli.doctor_backends import Rounds
from gateway.cli.doctor_finding import Colour, Finding, yellow
from gateway.cli.shown import line, visible
from gateway.clock import SystemClock
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.mail.reply import SyntaxRefused
from gateway.relay.route import route

_ANSI = {Colour.GREEN: "\x1b[32m", Colour.YELLOW: "\x1b[33m", Colour.RED: "\x1b[31m"}


def doctor(
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = Path(
        "gatepost.yaml"
    ),
    smuggling: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Test whether backends take a smuggled end of data. A vulnerable one delivers a few lines to ADDRESS.",
        ),
    ] = "",
    seconds: Annotated[float, typer.Option("--timeout", min=0.1, max=300, help="Seconds for one step.")] = 15.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for yellow, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a finding.")] = False,
) -> None:
    """Probe backends, certificates, DNS, state and clock; say what to mend. Nothing is delivered.

    Example: gatepost doctor -c /etc/gatepost/gatepost.yaml
    """
    clock, files = SystemClock(), DiskFiles()
    made = plan(config, files, clock, today=True)  # raises what `gatepost config check` prints
    to: Mailbox | None = None
    if smuggling:
        try:
            to = Mailbox.parse(smuggling.encode())
        except SyntaxRefused:
            raise typer.BadParameter(f"{visible(smuggling)} is no address", param_hint="--smuggling") from None
        if route({name: target.backend for name, target in made.config.domains.items()}, to.domain) is None:
            raise typer.BadParameter(f"{to} is at none of our domains", param_hint="--smuggling")
    counts = dict.fromkeys(Colour, 0)

    def tell(findings: Iterable[Finding]) -> None:
        for finding in findings:
            counts[finding.colour] += 1
            print(line(asdict(finding)) if as_json else _row(finding), flush=True)

    async def examine() -> None:
        loaded = made.config
        tell(yellow("configuration", f"{w.position}: {w.what}", w.hint) for w in made.warnings)
        tell(house.clock(clock.now()))
        tell(house.files(config, loaded))
        tell(house.own_certificates(loaded, files, clock.now()))
        tell(house.state(loaded, clock))
        tell(house.disks(loaded))
        tell(await house.dns(loaded, clock, seconds))
        tell(await doors.listeners(loaded, seconds))
        tell(await doors.admin(loaded, seconds))
        resolver = resolver_of(loaded, files, clock)
        rounds = Rounds(loaded, resolver, clock, tls.ClientContexts(files), seconds, to)
        tell(await house.way_around(loaded, resolver, rounds.way))
        for visit in asyncio.as_completed([rounds.visit(name) for name in loaded.backends]):
            tell(await visit)
        await resolver.close()

    asyncio.run(examine())
    if not as_json:
        print(f"{counts[Colour.RED]} red, {counts[Colour.YELLOW]} yellow, {counts[Colour.GREEN]} green")
    raise typer.Exit(1 if counts[Colour.RED] or (strict and counts[Colour.YELLOW]) else 0)


def _row(finding: Finding) -> str:
    colour = f"{finding.colour.value:<6}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        colour = f"{_ANSI[finding.colour]}{colour}\x1b[0m"
    rows: Sequence[str] = [f"{colour}  {visible(finding.where)}: {visible(finding.what)}"]
    if finding.mend:
        rows = [*rows, f"        -> {visible(finding.mend)}"]
    return "\n".join(rows)
