"""`gatepost policy explain`: why a mail was judged as it was, rule by rule, and what would have changed that."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.checks.check import Value
from gateway.cli.check import examined
from gateway.cli.examine import ANYBODY, Case, Disposition
from gateway.cli.policy.sources import (
    ConfigOption,
    JournalOption,
    JsonOption,
    ListsOption,
    PoliciesOption,
    configuration,
    folder,
    reader,
)
from gateway.cli.shipped import here, shipped_policies
from gateway.cli.shown import moment, visible
from gateway.config import Config
from gateway.journal import Entry
from gateway.policy import explain as explaining
from gateway.policy.explain import Explanation, Told
from gateway.policy.loader import Policy
from gateway.policy.nearest import Change
from gateway.policy.outcome import Word
from gateway.policy.replay import Hearing, Kind, hearings
from gateway.policy.scene import PASSES, Scene
from gateway.policy.vocabulary import RECIPIENT_FACTS, SIZE

_SHOWN = {
    Word.FIRED: "FIRED",
    Word.OBSERVED: "observed",
    Word.FALSE: "no",
    Word.OTHERS: "not for",
    Word.EXEMPTED: "exempted",
    Word.ACCEPTED: "accepted",
    Word.IGNORED: "left out",
    Word.WAITED: "WAITS",
    Word.BROKEN: "BROKEN",
    Word.UNKNOWN: "unknown",
    Word.DOUBTFUL: "doubtful",
    Word.UNREACHED: "not asked",
}
_WHY = {
    Word.FIRED: "{}",
    Word.OBSERVED: "would: {}",
    Word.OTHERS: "it is about other recipients",
    Word.EXEMPTED: "switched off by {}",
    Word.ACCEPTED: "'{}' had ended the policy",
    Word.IGNORED: "the check {} failed, and the rule is left out (on_error: ignore)",
    Word.WAITED: "the check {} failed, and the rule cannot be decided without it (on_error: defer)",
    Word.BROKEN: "{}",
    Word.UNKNOWN: "nobody gathered {}",
    Word.DOUBTFUL: "it would act, if '{}' did not keep it from that, which could not be decided",
    Word.UNREACHED: "{}",
}
_VALUE = 100  # characters of a value in the table
_CHANGES = 5


def explain(
    what: Annotated[str, typer.Argument(metavar="ID | MESSAGE", help="An id of the journal, or a mail as a file.")],
    client: Annotated[str, typer.Option(metavar="IP", help="Of a file: the client's address.")] = "",
    helo: Annotated[str, typer.Option(metavar="NAME", help="Of a file: what it said after EHLO.")] = "",
    mail_from: Annotated[str, typer.Option(metavar="ADDR", help="Of a file: the envelope's sender.")] = "",
    rcpt: Annotated[str, typer.Option(metavar="ADDR", help="The recipient, where there are several.")] = "",
    smtputf8: Annotated[bool, typer.Option("--smtputf8", help="Of a file: the sender asked for SMTPUTF8.")] = False,
    dns: Annotated[Path | None, typer.Option(metavar="ZONE.json", help="Of a file: ask this instead of DNS.")] = None,
    config: ConfigOption = None,
    policies: PoliciesOption = None,
    lists: ListsOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a verdict: every rule with its place, the facts it named, what became of it; and what would change it.

    A mail of the journal is judged again from its recorded facts, under the policies as they are now (or --policies).
    Exit status: 0 explained, 1 there is no such mail, 2 a bad call.

    \b
    gatepost policy explain 1HBQ7TWK3F9R -c gatepost.yaml
    gatepost policy explain mail.eml --client 192.0.2.7 --mail-from a@example.net --policies policies/
    """
    config = here(config, journal, policies)
    settings = configuration(config, as_json) if config is not None else None
    policy = _policy(settings, policies, lists, as_json)
    if client or what == "-" or Path(what).is_file():
        if not client:
            raise typer.BadParameter("--client is missing: whose mail is it?")
        case = (Path(what), client, helo, mail_from, rcpt or ANYBODY, smtputf8)
        _message(policy, settings, case, dns, as_json)
        return
    entry = _entry(settings, journal, what)
    hearing, others = _hearing(entry, rcpt)
    found = explaining.explain(policy, hearing.scene)
    if as_json:
        print(json.dumps({"id": entry.id, "recorded": hearing.then.shown(), **plain(policy, found, hearing.scene)}))
        return
    print(f"{moment(entry.time)} {visible(entry.id)}  {visible(entry.client)}  <{visible(entry.sender)}>")
    print(f"to <{visible(hearing.scene.recipient)}>" + (f", and (--rcpt) {visible(others)}" if others else ""))
    print(f"recorded: {hearing.then.shown()} (policy {entry.revision or 'unknown'})")
    if entry.revision != policy.revision:
        print(f"the policy has changed since then: what follows is revision {policy.revision}")
    _print(policy, found)


def _policy(settings: Config | None, policies: Path | None, lists: Path | None, as_json: bool) -> Policy:
    if policies is not None:
        return folder(policies, lists, as_json)
    if settings is not None:
        return folder(settings.policies, settings.lists, as_json, named=False)
    return folder(shipped_policies(), None, as_json)


def _entry(settings: Config | None, journal: Path | None, identity: str) -> Entry:
    with_reader = reader(settings, journal)
    try:
        entry = with_reader.get(identity.strip().upper())
    finally:
        with_reader.close()
    if entry is None:
        typer.echo(f"gatepost: the journal has no mail with the id {visible(identity)}, nor is it a file", err=True)
        raise typer.Exit(1)
    return entry


def _hearing(entry: Entry, rcpt: str) -> tuple[Hearing, str]:
    found = list(hearings(entry))
    chosen = [one for one in found if not rcpt or one.scene.recipient.lower() == rcpt.lower()]
    if not chosen:
        why = f"was not asked about {visible(rcpt)}" if found else "was not asked: the frame decided, not a rule"
        typer.echo(f"gatepost: of {visible(entry.id)} the policy {why}", err=True)
        if not found:
            typer.echo(f"{visible(entry.action)} at {visible(entry.stage)}: {visible(entry.reply)}", err=True)
        raise typer.Exit(1)
    best = next((one for one in chosen if one.then.rule == entry.rule), chosen[0])
    return best, ", ".join(dict.fromkeys(f"<{one.scene.recipient}>" for one in found if one is not best))


def _message(
    policy: Policy,
    settings: Config | None,
    case: tuple[Path, str, str, str, str, bool],
    dns: Path | None,
    as_json: bool,
) -> None:
    path, client, helo, mail_from, rcpt, smtputf8 = case
    try:
        given, findings = asyncio.run(
            examined(path, policy, settings, dns, Case(None, client, helo, mail_from, rcpt, smtputf8))
        )
    except ValueError as why:
        raise typer.BadParameter(str(why)) from None
    spoken = findings.disposition
    if spoken is not None and not spoken.rule and spoken.code >= 400:
        _before_policy(spoken, as_json)
        return
    domain = rcpt.rpartition("@")[2].lower()
    size = given.message.size if given.message is not None else 0
    own: dict[str, Value] = {
        "rcpt.address": rcpt, "rcpt.domain": domain, "rcpt.known": "yes", "rcpt.count": 1, SIZE: size,
    }  # fmt: skip
    facts = {name: value for name, value in findings.values.items() if name not in RECIPIENT_FACTS and name != SIZE}
    scene = Scene(facts, own, size, frozenset(findings.failed), otherwise=PASSES)
    found = explaining.explain(policy, scene)
    if as_json:
        print(json.dumps(plain(policy, found, scene)))
        return
    _print(policy, found)


def _before_policy(spoken: Disposition, as_json: bool) -> None:
    """What the edge refuses no rule has seen."""
    if as_json:
        told = {"verdict": {"action": spoken.action, "rule": None, "reply": spoken.reply}, "walk": [], "changes": []}
        print(json.dumps(told))
        return
    print(f"{spoken.action} before any policy, at {spoken.stage.name}: {visible(spoken.reply)}")


def _print(policy: Policy, found: Explanation) -> None:
    stage, width = None, max([len(one.rule.id) for one in found.walk], default=0)
    for one in found.walk:
        if one.stage is not stage:
            stage = one.stage
            print(f"\n{stage.name}")
        why = _WHY.get(one.word, "").format(one.why)
        print(
            f"  {_SHOWN[one.word]:9} {one.rule.id:{width}}  {one.rule.position}" + (f"  {visible(why)}" if why else "")
        )
        if one.word not in {Word.UNREACHED, Word.OTHERS, Word.ACCEPTED}:
            facts = [f"{name}={_short(value)}" for name, value in one.facts.items()]
            facts += [f"{name}=(unknown)" for name in one.unknown]
            print("            " + visible("  ".join(facts)) if facts else "", end="\n" if facts else "")
    verdict, ending = found.run.verdict, found.ending
    print(f"\nverdict: {visible(ending.shown())}" + (f" at {found.run.stage.name}" if ending.rule else ""))
    if ending.reply:
        print(f"reply:   {visible(ending.reply)}")
    if verdict is not None and verdict.because:
        print(f"because: {visible(verdict.because)}")
    for name, value in ending.tags:
        print(f"tag:     {visible(name)}: {visible(value)}")
    if found.changes:
        print("nearest: " + _change(found.changes[0]))
        for other in found.changes[1:_CHANGES]:
            print("   also: " + _change(other))
    elif not found.run.blocked:
        print("nearest: none found; no other value that was tried of a single fact changes it")


def _change(change: Change) -> str:
    ending = change.ending
    end = ending.shown()
    if ending.kind is Kind.UNKNOWN:
        end = f"goes on; then '{ending.rule}' needs what nobody gathered ({', '.join(ending.unknown)})"
    return visible(f"{change.fact} {_short(change.value)} instead of {_short(change.was)}: {end}")


def _short(value: Value | None) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE else text[:_VALUE] + "..."


def plain(policy: Policy, found: Explanation, scene: Scene) -> dict[str, object]:
    """For programs."""
    verdict = found.run.verdict
    return {
        "revision": policy.revision,
        "recipient": scene.recipient,
        "verdict": {
            "action": found.ending.action,
            "outcome": found.ending.kind.value,
            "rule": found.ending.rule or None,
            "stage": found.run.stage.name.lower(),
            "reply": found.ending.reply,
            "because": verdict.because if verdict else "",
            "tags": [list(tag) for tag in found.ending.tags],
            "unknown": list(found.ending.unknown),
        },
        "walk": [_told(one) for one in found.walk],
        "nearest": _changed(found.changes[0]) if found.changes else None,
        "changes": [_changed(change) for change in found.changes],
        "facts": scene.values,
        "failed": sorted(scene.failed),
    }


def _told(one: Told) -> dict[str, object]:
    position = one.rule.position
    return {
        "rule": one.rule.id,
        "file": position.file,
        "line": position.line,
        "stage": one.stage.name.lower(),
        "outcome": one.word.value,
        "fired": one.word in {Word.FIRED, Word.OBSERVED},
        "why": _WHY.get(one.word, "").format(one.why),
        "facts": dict(one.facts),
        "unknown": list(one.unknown),
    }


def _changed(change: Change) -> dict[str, object]:
    return {
        "fact": change.fact,
        "was": change.was,
        "value": change.value,
        "outcome": change.ending.kind.value,
        "action": change.ending.action,
        "rule": change.ending.rule or None,
    }
