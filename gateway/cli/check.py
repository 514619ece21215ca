"""`gatepost check`: what would become of this mail? One from a file, or many as JSON lines (`--batch`).

Nothing is delivered, greylisting counts as passed. Exit status: 0 the mail would be taken (with --batch: all lines are
answered), 1 it would be refused or deferred, 2 a bad call.
"""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.build import sealers_of, terms_of
from gateway.checks.roster import Terms
from gateway.cli import batch as batches
from gateway.cli.examine import ANYBODY, Case, Examiner, Findings
from gateway.cli.shipped import here, shipped_policies
from gateway.cli.shown import visible
from gateway.clock import Clock, SystemClock
from gateway.config import Config, load_config
from gateway.dns.answer import Source
from gateway.dns.resolver import Resolver
from gateway.dns.stub import Stub
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.message import Message
from gateway.policy.loader import Policy, load_policies


def check(
    message: Annotated[
        Path | None, typer.Argument(metavar="MESSAGE", help="The mail, as a file; - for standard input.")
    ] = None,
    client: Annotated[str, typer.Option(metavar="IP", help="The client's address.")] = "",
    helo: Annotated[str, typer.Option(metavar="NAME", help="What it said after EHLO.")] = "",
    mail_from: Annotated[str, typer.Option(metavar="ADDR", help="The envelope's sender; empty for <>.")] = "",
    rcpt: Annotated[str, typer.Option(metavar="ADDR", help="The recipient; its domain is ours.")] = "",
    smtputf8: Annotated[bool, typer.Option("--smtputf8", help="The sender asked for SMTPUTF8.")] = False,
    dns: Annotated[Path | None, typer.Option(metavar="ZONE.json", help="Ask this file instead of the network.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE",
            help="Its policies, lists, domains, DNS; default: gatepost.yaml here, else the shipped policies.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="JSON lines on standard input, offline.")] = False,
) -> None:
    """Say what would become of a mail: all results, the verdict, the reply and the rule.

    \b
    gatepost check mail.eml --client 192.0.2.7 --helo mail.example.net --mail-from a@example.net
    gatepost check --batch < cases.jsonl
    """
    config = here(config) if not batch else config
    settings = load_config(config, DiskFiles()) if config is not None else None
    policy = _policy(settings)
    examiner = _examiner(policy, settings, rcpt)
    if batch:
        if message is not None:
            _bad_call("--batch reads standard input and takes no MESSAGE")
        if client or helo or mail_from or rcpt or dns is not None:
            _bad_call("--batch takes client, HELO, addresses and DNS from its lines")
        asyncio.run(batches.run(examiner, sys.stdin.buffer, sys.stdout.buffer))
        return
    if message is None:
        _bad_call("MESSAGE is missing (or --batch)")
    if not client:
        _bad_call("--client is missing: whose mail is it?")
    clock = SystemClock()
    case = Case(_read(message), client, helo, mail_from, rcpt or ANYBODY, smtputf8)
    try:
        findings = asyncio.run(_examined(examiner, case, _source(dns, settings), clock))
    except ValueError as why:
        _bad_call(str(why))
    if as_json:
        print(json.dumps(_described(findings), indent=2))
    else:
        _tell(findings)
    if findings.disposition is not None and findings.disposition.code >= 400:
        raise typer.Exit(1)


async def examined(
    path: Path, policy: Policy, settings: Config | None, dns: Path | None, case: Case
) -> tuple[Case, Findings]:
    """The mail of a file, examined: the case with its message, and what was found. For `policy explain`."""
    clock = SystemClock()
    case = replace(case, message=_read(path))
    return case, await _examined(_examiner(policy, settings, case.recipient), case, _source(dns, settings), clock)


def _examiner(policy: Policy, settings: Config | None, rcpt: str) -> Examiner:
    return Examiner(
        policy,
        terms_of(settings, policy)
        if settings
        else Terms(local_domains=tuple(filter(None, [rcpt.rpartition("@")[2].lower()])), sealers=sealers_of(policy)),
    )


async def _examined(examiner: Examiner, case: Case, source: Source, clock: Clock) -> Findings:
    resolver = Resolver(source, clock)
    try:
        return await examiner.examine(case, resolver, clock)
    finally:
        await resolver.close()


def _policy(settings: Config | None) -> Policy:
    if settings is not None:
        return load_policies(settings.policies, settings.lists, DiskFiles(), today=None)
    folder = shipped_policies()
    return load_policies(folder, folder / "lists", DiskFiles(), today=None)


def _source(dns: Path | None, settings: Config | None) -> Source:
    zone = dns or (settings.dns.zone if settings else None)
    if zone is not None:
        return Zone.load(zone, DiskFiles())
    return Stub(settings.dns.servers if settings else ())


def _read(path: Path) -> Message:
    octets = sys.stdin.buffer.read() if str(path) == "-" else DiskFiles().read(path)
    if b"\r\n" not in octets:  # a file as Unix keeps it; on the wire its lines end in CRLF
        octets = octets.replace(b"\n", b"\r\n")
    return Message.from_octets(octets)


def _described(findings: Findings) -> dict[str, object]:
    found = batches.report(findings, with_spf=True, with_message=True)
    if findings.disposition is not None:
        spoken = findings.disposition
        found["disposition"] = {
            "action": spoken.action,
            "code": spoken.code,
            "rule": spoken.rule or None,
            "reply": spoken.reply,
            "because": spoken.because,
            "stage": spoken.stage.name.lower(),
        }
    found["facts"] = findings.values
    found["failed"] = dict(findings.failed)
    found["authentication_results"] = list(findings.trace)
    return found


def _tell(findings: Findings) -> None:
    rows = [("spf", str(findings.spf.result), f"{findings.spf.domain} {findings.spf.why}".strip())]
    for signature in findings.dkim.signatures:
        who = " ".join(filter(None, (signature.domain, signature.selector, signature.why)))
        rows.append(("dkim", str(signature.result), who))
    if not findings.dkim.signatures:
        rows.append(("dkim", str(findings.dkim.result), ""))
    rows.append(("arc", str(findings.arc.result), f"{findings.arc.sealer} {findings.arc.why}".strip()))
    dmarc = findings.dmarc
    record = f"policy {dmarc.policy} of {dmarc.domain}" if dmarc.domain else ""
    rows.append(("dmarc", str(dmarc.result), " ".join(filter(None, (dmarc.author_domain, record, dmarc.why)))))
    for name, word, detail in rows:
        print(f"{name:6} {word:10} {visible(detail)}".rstrip())
    spoken = findings.disposition
    if spoken is not None:
        rule = f"  (rule {spoken.rule}{': ' + spoken.because if spoken.because else ''})" if spoken.rule else ""
        print(f"{spoken.action}: {spoken.reply}{rule}")


def _bad_call(why: str) -> NoReturn:
    print(f"gatepost check: {visible(why)}", file=sys.stderr)
    raise typer.Exit(2)
