"""`gatepost journal`: what happened to a mail, and why. Reads only, beside a running gateway or without one.

Exit status: 0 fine, 1 there is no such entry or no journal, 2 a bad call.
"""

import contextlib
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.shown import line, moment, visible
from gateway.clock import SystemClock
from gateway.config import load_config
from gateway.files import DiskFiles
from gateway.journal import OUTCOMES, Entry, Reader, Wanted
from gateway.yamlfile import Fault
from gateway.yamlfile.units import parse_duration

app = typer.Typer(
    help="What happened to a mail, and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]
PathOption = Annotated[
    Path | None, typer.Option("--journal", metavar="FILE", help="The journal's file, instead of a configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
_DEFAULT = Path("gatepost.yaml")
_REMEMBERED = 1000


def _reader(config: Path, path: Path | None) -> Reader:
    if path is None:
        journal = load_config(config, DiskFiles()).journal
        if journal is None:
            print(f"{config}: keeps no journal; write  journal: {{path: FILE, keep: 30d}}", file=sys.stderr)
            raise typer.Exit(1)
        path = journal.path
    return Reader(path)


def left_out(reader: Reader) -> None:
    """Tells, on standard error, of entries that nobody can read."""
    if reader.damaged:
        numbers = ", ".join(str(number) for number in reader.damaged[:3])
        more = ", ..." if len(reader.damaged) > 3 else ""
        what = f"{len(reader.damaged)} entries of the journal are damaged and left out (number {numbers}{more})"
        print(f"gatepost: {what}", file=sys.stderr)


@app.command("tail")
def tail(
    count: Annotated[int, typer.Option("-n", "--lines", min=0, max=1_000_000, help="How many.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as mails come; end with Ctrl-C.")] = False,
    config: ConfigOption = _DEFAULT,
    journal: PathOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the last mails, one a line, oldest first.

    Example: gatepost journal tail -n 50 -f
    """
    # Ctrl-C is how -f ends, also when it comes while the last mails are still printed.
    ended = contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext()
    with contextlib.closing(_reader(config, journal)) as reader, ended:
        rows = reader.numbered(count)
        last = rows[-1][0] if rows else reader.last()
        for _, entry in rows:
            print(line(asdict(entry)) if as_json else brief(entry))
        left_out(reader)
        if not follow:
            return
        sys.stdout.flush()  # a pipe sees them now, not with the next mail
        told: dict[str, str] = {}  # an entry comes again when its mail ends: tell only what is new
        for entry in reader.follow(last):
            text = brief(entry)
            if told.get(entry.id) != text:
                print(line(asdict(entry)) if as_json else text, flush=True)
            told[entry.id] = text
            if len(told) > _REMEMBERED:
                del told[next(iter(told))]


@app.command("show")
def show(
    transaction: Annotated[str, typer.Argument(metavar="ID", help="The last word of a reply of ours.")],
    config: ConfigOption = _DEFAULT,
    journal: PathOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one mail: who sent it, what was found out, which rule decided, what was answered, where it went.

    The ID is the last word of every refusal; a bounce quotes it.

    Example: gatepost journal show 1HBQ7TWK3F9R
    """
    with contextlib.closing(_reader(config, journal)) as reader:
        entry = reader.get(transaction.strip().upper())
    if entry is None:
        print(f"gatepost: the journal has no mail with the id {visible(transaction)}", file=sys.stderr)
        raise typer.Exit(1)
    print(line(asdict(entry)) if as_json else explained(entry))


@app.command("search")
def search(
    sender: Annotated[str, typer.Option(metavar="WHO", help="An address, a domain, or <>.")] = "",
    recipient: Annotated[str, typer.Option(metavar="WHO", help="An address or a domain.")] = "",
    client: Annotated[str, typer.Option(metavar="IP", help="An address or a network: 192.0.2.0/24.")] = "",
    rule: Annotated[str, typer.Option(metavar="RULE", help="A rule that had a hand in it, observing ones too.")] = "",
    transaction: Annotated[str, typer.Option("--id", metavar="ID", help="The id, or how it begins.")] = "",
    outcome: Annotated[str, typer.Option(metavar="WORD", help=", ".join(OUTCOMES) + ".")] = "",
    since: Annotated[str, typer.Option(metavar="WHEN", help="12h or 7d ago; 2026-11-22, 2026-11-22T14:30 (UTC).")] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="The same.")] = "",
    count: Annotated[int, typer.Option("-n", "--lines", min=1, max=10**9, help="At most so many, the newest.")] = 100,
    config: ConfigOption = _DEFAULT,
    journal: PathOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find mails; all that is given must hold. One a line, oldest first. Exit status 1 where there is none.

    Example: gatepost journal search --recipient bob@example.com --outcome rejected --since 7d
    """
    if outcome and outcome not in OUTCOMES:
        raise typer.BadParameter(f"{outcome} is none of {', '.join(OUTCOMES)}", param_hint="--outcome")
    begin, end = _moment(since, "--since"), _moment(until, "--until")
    wanted = Wanted(sender, recipient, client, rule, transaction.strip(), outcome, begin, end)
    with contextlib.closing(_reader(config, journal)) as reader:
        try:
            found = reader.search(wanted, count)
        except ValueError as why:
            raise typer.BadParameter(str(why), param_hint="--client") from None
        left_out(reader)
    for entry in found:
        print(line(asdict(entry)) if as_json else brief(entry))
    if len(found) == count and not as_json:
        print(f"the newest {count}; -n shows more", file=sys.stderr)
    if not found:
        if not as_json:
            print("gatepost: the journal has no such mail", file=sys.stderr)
        raise typer.Exit(1)


def _moment(text: str, option: str) -> float:
    """Epoch seconds of a date, or of so long ago; 0.0 for ""."""
    if not text:
        return 0.0
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%SZ"):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    try:
        return SystemClock().now() - parse_duration(text)
    except Fault as fault:
        raise typer.BadParameter(f"{fault.what}, and no date either", param_hint=option) from None


def brief(entry: Entry) -> str:
    """One line for a list."""
    first = entry.recipients[0] if entry.recipients else "-"
    more = f" +{len(entry.recipients) - 1}" if len(entry.recipients) > 1 else ""
    rule = f" [{entry.rule}]" if entry.rule else ""
    fate = f" {entry.fate}" if entry.fate not in {"", "none"} else ""
    text = f"{entry.action or '-'}{rule}{fate}  {entry.client}  <{entry.sender}> -> <{first}>{more}  {entry.reply}"
    return f"{moment(entry.time)} {visible(entry.id)} {visible(text)}"


def explained(entry: Entry) -> str:
    """All that is known of a mail, for people."""
    who = entry.client + (f" ({entry.client_name})" if entry.client_name else "")
    said = (f", says it is {entry.helo}" if entry.helo else "") + (f", {entry.tls}" if entry.tls else ", no TLS")
    rows: list[tuple[str, object]] = [
        ("id", entry.id + (f"   session {entry.session}" if entry.session else "")),
        ("time", moment(entry.time)),
        ("client", who + said),
        ("from", f"<{entry.sender}>"),
        *((("to" if not number else ""), f"<{each}>") for number, each in enumerate(entry.recipients)),
        ("size", f"{entry.size} octets"),
    ]
    verdict = " at ".join(word for word in (entry.action, entry.stage.upper()) if word) or "none"
    rows += [
        ("verdict", verdict),
        ("rule", entry.rule or "none: no policy rule decided this"),
        ("because", entry.because),
        ("reply", entry.reply),
        ("fate", " ".join(word for word in (entry.fate, entry.backend and f"at {entry.backend}") if word)),
        ("", entry.fate_detail),
        ("policy", entry.revision),
    ]
    lines = [f"{name:<9}{visible(value)}" for name, value in rows if value]
    if len(entry.verdicts) > 1:
        lines += ["", "answers, in order"]
        for each in entry.verdicts:
            whom = f"<{each.recipient}> " if each.recipient else ""
            rule = f"[{each.rule}] " if each.rule else ""
            lines.append(visible(f"  {each.stage:<8}{whom}{each.action} {rule}{each.reply}"))
    lines += _pairs("rules that only observe, and what they would have done", entry.observed)
    lines += _pairs("remarks", entry.notes)
    lines += _pairs("fields added", entry.judged.tags)
    others = [rule for rule in entry.fired if rule not in {entry.rule, *dict(entry.observed), *dict(entry.notes)}]
    if others:
        lines += ["", visible(f"rules that acted, too: {', '.join(others)}")]
    lines += _table("facts", entry.facts)
    lines += _table("checks that failed", entry.failed)
    lines += _table("DNS said", entry.dns)
    lines += _table("seconds", {step: f"{seconds:.3f}" for step, seconds in entry.timings.items()})
    if entry.asked:
        lines += ["", f"rule by rule: gatepost policy explain {visible(entry.id)}"]
    return "\n".join(lines)


def _pairs(title: str, pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return ["", title, *(visible(f"  {name}: {value}") for name, value in pairs)] if pairs else []


def _table(title: str, values: "dict[str, object] | dict[str, str]") -> list[str]:
    if not values:
        return []
    width = max(len(visible(name)) for name in values)
    return ["", title, *(f"  {visible(name):<{width}}  {visible(value)}" for name, value in sorted(values.items()))]
