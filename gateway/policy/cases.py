"""Tests of policies, as they stand beside the rules: `name`, `given`, `expect`.

`given` names facts (flat and dotted), lists (`lists.partners: [example.org]`) and how the greylist answers
(`greylist: passed` or `waiting`; else it waits only where the test expects it to); every other fact is that of
`CLEAN`, a clean mail from a known good sender. What goes together is derived: giving `mail.address` gives
`mail.domain`, `from.address` gives `from.domain` and its organisational domain. Names, types and words are checked
at load, with positions. Run by `tests`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from gateway.checks.check import Value
from gateway.policy.lists import Entry, NamedList, entry
from gateway.policy.rules import Action
from gateway.policy.vocabulary import ATTACHMENT, FACTS, Known
from gateway.yamlfile import Data, Fault, Loc, Position, Problem, nearest
from gateway.yamlfile.units import parse_size

if TYPE_CHECKING:
    from gateway.policy.reading import Reader

#: The facts of a mail that nobody minds: what a test does not give.
CLEAN: dict[str, Value] = {
    "client.ip": "192.0.2.10",
    "client.network": "192.0.2.0/24",
    "client.name": "mail.example.net",
    "client.iprev": "pass",
    "client.tls": True,
    "client.early_talker": False,
    "client.certificate": "none",
    "client.certificate_names": [],
    "client.certificate_fingerprint": "",
    "dnsbl.score": 0,
    "dnsbl.zones": [],
    "helo.name": "mail.example.net",
    "helo.kind": "fqdn",
    "mail.address": "sender@example.net",
    "mail.domain": "example.net",
    "mail.is_null": False,
    "spf.result": "pass",
    "spf.domain": "example.net",
    "message.size": 10_000,
    "rcpt.address": "user@example.com",
    "rcpt.domain": "example.com",
    "rcpt.known": "yes",
    "rcpt.count": 1,
    "from.valid": True,
    "from.address": "sender@example.net",
    "from.domain": "example.net",
    "from.org_domain": "example.net",
    "from.name": "A Sender",
    "from.is_local": False,
    "from.known_days": 365,
    "message.subject": "Hello",
    "message.list_id": "",
    "message.hops": 2,
    "message.attachments": [],
    "dkim.result": "pass",
    "dkim.domains": ["example.net"],
    "dmarc.result": "pass",
    "dmarc.policy": "none",
    "dmarc.domain": "example.net",
    "arc.result": "none",
    "arc.sealer": "",
    "arc.trusted": False,
}

#: What a test may expect; "none": no rule was final. "observe": the rule would have acted.
OUTCOMES = ("none", *(action.value for action in Action), "observe")
GREYLIST = ("waiting", "passed")
#: How a limit answers in a test.
LIMIT = ("passed", "over")


@dataclass(frozen=True, slots=True)
class Case:
    """One test, ready to run."""

    name: str
    position: Position
    given: Mapping[str, Value] = field(default_factory=dict)
    lists: Mapping[str, NamedList] = field(default_factory=dict)
    greylist: str = ""  # how it answers; "": as the test means it, see `settled`
    limit: str = "passed"
    action: str = ""
    rule: str = ""
    reply: str = ""
    stage: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    rule_position: Position | None = None

    @property
    def facts(self) -> dict[str, Value]:
        """All facts of the mail."""
        return {**CLEAN, **_derived(self.given), **self.given}

    def settled(self, actions: Mapping[str, str]) -> "Case":
        """With the greylist's answer where the test did not give one: it makes a mail wait in the tests that expect
        it to, and is no matter in all others. `actions` are the rules' by their ids."""
        waits = self.action == "greylist" or (self.action != "none" and actions.get(self.rule) == "greylist")
        return replace(self, greylist=self.greylist or ("waiting" if waits else "passed"))

    def unknown_rule(self, ids: Collection[str]) -> Problem:
        """The finding that `expect` names no rule."""
        return Problem(self.rule_position or self.position, f"unknown rule '{self.rule}'", nearest(self.rule, ids))


def _derived(given: Mapping[str, Value]) -> dict[str, Value]:
    """What follows from what was given."""
    found: dict[str, Value] = {}

    def default(name: str, value: Value) -> None:
        if name not in given:
            found[name] = value

    if given.get("mail.is_null") is True or given.get("mail.address") == "":
        default("mail.is_null", True)
        default("mail.address", "")
        default("mail.domain", "")
    for group in ("mail", "rcpt", "from"):
        address = given.get(f"{group}.address")
        if isinstance(address, str) and address:
            default(f"{group}.domain", address.rpartition("@")[2].lower())
    domain = given.get("mail.domain", found.get("mail.domain"))
    if isinstance(domain, str) and domain:
        default("spf.domain", domain)
    domain = given.get("from.domain", found.get("from.domain"))
    if domain is not None:
        default("from.org_domain", domain)
        default("dmarc.domain", given.get("from.org_domain", domain))
    if given.get("from.valid") is False:
        for name in ("from.address", "from.domain", "from.org_domain", "from.name", "dmarc.domain"):
            default(name, "")
        default("from.known_days", -1)
        default("dmarc.result", "none")
    ip = given.get("client.ip")
    if isinstance(ip, str):
        length = 64 if ":" in ip else 24
        default("client.network", str(ip_network(f"{ip}/{length}", strict=False)))
    if given.get("client.iprev", "pass") != "pass":
        default("client.name", "")
    if given.get("dkim.result", "pass") != "pass":
        default("dkim.domains", [])
    return found


def read_case(reader: "Reader", named: Mapping[str, NamedList], rule: str) -> Case:
    """The test; `rule` is the one it stands under, which it means unless it names another."""
    reader.keys(("name", "given", "expect"), ("expect",), "a test")
    position = reader.document.position(reader.loc)
    name = reader.text("name", f"test in line {position.line}")
    given, other, greylist = _given(reader, named)
    asked = reader.data.get("given", {})
    expect = reader.data.get("expect", {})
    if not isinstance(expect, dict):
        reader.error(("expect",), "'expect' is a mapping", "as in {action: reject, rule: my-rule}")
        return Case(name, position)
    _expect_keys(reader, expect)
    action = expect.get("action")
    if action not in OUTCOMES:
        hint = nearest(str(action), OUTCOMES) or f"one of: {', '.join(OUTCOMES)}"
        what = f"'action' cannot be '{action}'" if "action" in expect else "'expect' needs 'action'"
        reader.error(("expect", "action") if "action" in expect else ("expect",), what, hint)
    if action == "none" and "rule" in expect:
        reader.error(("expect", "rule"), "'none' says that no rule was final, so it names none", "leave 'rule' out")
    tags = expect.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        reader.error(("expect", "tags"), "'tags' are names and values", "as in {X-Suspect: spf=fail}")
        tags = {}
    meant = expect.get("rule", "" if action in {"none", "accept"} else rule)
    rule_position = reader.document.position((*reader.loc, "expect", "rule"))
    return Case(
        name=name,
        position=position,
        given=given,
        lists=other,
        greylist=greylist,
        limit="over" if isinstance(asked, dict) and asked.get("limit") == "over" else "passed",
        action=str(action),
        rule=str(meant),
        reply=str(expect.get("reply", "")),
        stage=str(expect.get("stage", "")),
        tags={key: str(value) for key, value in tags.items()},
        rule_position=rule_position,
    )


def _expect_keys(reader: "Reader", expect: Mapping[str, Data]) -> None:
    known = ("action", "rule", "reply", "stage", "tags")
    for key, value in expect.items():
        if key not in known:
            hint = nearest(key, known) or f"keys: {', '.join(known)}"
            reader.error(("expect", key), f"unknown key '{key}' in expect", hint, key=True)
        elif key != "tags" and not isinstance(value, str | int):
            reader.error(("expect", key), f"'{key}' must be a text")
    stages = ("connect", "helo", "mail", "rcpt", "data")
    if "stage" in expect and expect["stage"] not in stages:
        reader.error(("expect", "stage"), f"'stage' cannot be '{expect['stage']}'", f"one of: {', '.join(stages)}")


_Given = tuple[dict[str, Value], dict[str, NamedList], str]


def _given(reader: "Reader", named: Mapping[str, NamedList]) -> _Given:
    facts: dict[str, Value] = {}
    other: dict[str, NamedList] = {}
    greylist = ""
    given = reader.data.get("given", {})
    if not isinstance(given, dict):
        reader.error(("given",), "'given' is a mapping of facts", "as in {spf.result: fail}")
        return facts, other, greylist
    for name, value in given.items():
        loc: Loc = ("given", name)
        if name == "limit":
            if value not in LIMIT:
                reader.error(loc, f"'limit' cannot be '{value}'", f"one of: {', '.join(LIMIT)}")
        elif name == "greylist":
            greylist = str(value)
            if value not in GREYLIST:
                reader.error(loc, f"'greylist' cannot be '{value}'", f"one of: {', '.join(GREYLIST)}")
        elif name.startswith("lists."):
            key = name.removeprefix("lists.").replace("-", "_")
            if key not in named:
                reader.error(loc, f"unknown list '{name}'", nearest(key, named), key=True)
            else:
                other[key] = NamedList(key, _entries(reader, value, loc))
        elif name not in FACTS:
            reader.error(loc, f"unknown fact '{name}'", nearest(name, FACTS), key=True)
        else:
            found = _value(reader, name, FACTS[name], value, loc)
            if found is not None:
                facts[name] = found
    return facts, other, greylist


def _value(reader: "Reader", name: str, known: Known, value: Data, loc: Loc) -> Value | None:
    match known.type:
        case "bool" if isinstance(value, bool):
            return value
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "int" if isinstance(value, str):
            try:
                return parse_size(value)
            except Fault:
                pass
        case "string" if isinstance(value, str):
            if known.words and value not in known.words:
                words = ", ".join(sorted(known.words - {""}))
                reader.error(loc, f"{name} is never '{value}'", nearest(value, known.words) or f"one of: {words}")
            return value
        case "list<string>" if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return [str(item) for item in value]
        case "list<attachment>" if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [
                _attachment(reader, item, (*loc, index)) for index, item in enumerate(value) if isinstance(item, dict)
            ]
    kinds = {"string": "a text", "bool": "true or false", "int": "a number", "list<string>": "a list of texts"}
    kinds["list<attachment>"] = "a list of attachments, as in [{name: a.exe, kind: executable}]"
    hint = f"write '{value}'" if known.type == "string" and isinstance(value, int | float) else ""
    reader.error(loc, f"{name} is {kinds[known.type]}", hint)
    return None


def _attachment(reader: "Reader", given: Mapping[str, Data], loc: Loc) -> dict[str, str | int]:
    found: dict[str, str | int] = {"name": "", "type": "application/octet-stream", "kind": "other", "size": 1_000}
    for key, value in given.items():
        if key not in ATTACHMENT:
            hint = nearest(key, ATTACHMENT) or f"fields: {', '.join(ATTACHMENT)}"
            reader.error((*loc, key), f"an attachment has no '{key}'", hint, key=True)
            continue
        read = _value(reader, f"the {key} of an attachment", ATTACHMENT[key], value, (*loc, key))
        if isinstance(read, str | int):
            found[key] = read
    return found


def _entries(reader: "Reader", value: Data, loc: Loc) -> list[Entry]:
    if not isinstance(value, list):
        reader.error(loc, "a list is written [entry, entry]")
        return []
    found: list[Entry] = []
    for index, item in enumerate(value):
        try:
            found.append(entry(str(item)))
        except ValueError as why:
            what, _, hint = str(why).partition(": ")
            reader.error((*loc, index), what, hint)
    return found
