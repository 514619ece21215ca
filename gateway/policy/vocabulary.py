"""The closed vocabulary of policies: every fact a rule may name, its type, and from which stage on it is known.

One table; DESIGN section 4 in code. `check` names the check that gives the fact ("" for what the pipeline itself
knows: recipients and sizes). `words` closes the set of values of a fact that is a result word, so that a misspelt
"passs" is refused at load instead of never matching; `form` says how a text is written, so that "Example.COM" is
refused where only lower-case names can stand. Called by `expression`, `rules`, `tests` and the pipeline.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.checks.check import OnError
from gateway.mail.terms import Result, Stage

_RESULTS = frozenset(word.value for word in Result)


class Form(StrEnum):
    """How the text of a fact is written."""

    FREE = "free"
    DOMAIN = "domain"  # A-labels, lower case, no final dot
    ADDRESS = "address"  # the domain part as above
    IP = "ip"


@dataclass(frozen=True, slots=True)
class Known:
    """One fact: its CEL type, its first stage, the check it comes from, its closed set of words, its form."""

    type: str
    stage: Stage
    check: str = ""
    words: frozenset[str] = frozenset()
    form: Form = Form.FREE


def _table() -> dict[str, Known]:
    connect, helo, mail, rcpt, data = Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA
    domain, address = Form.DOMAIN, Form.ADDRESS
    return {
        "client.ip": Known("string", connect, "client", form=Form.IP),
        "client.network": Known("string", connect, "client"),
        "client.name": Known("string", connect, "iprev", form=domain),
        "client.iprev": Known("string", connect, "iprev", _RESULTS),
        "client.tls": Known("bool", connect, "client"),
        "client.early_talker": Known("bool", connect, "client"),
        "client.certificate": Known("string", connect, "client", frozenset({"none", "pass", "fail"})),
        "client.certificate_names": Known("list<string>", connect, "client", form=domain),
        "client.certificate_fingerprint": Known("string", connect, "client"),
        "dnsbl.score": Known("int", connect, "dnsbl"),
        "dnsbl.zones": Known("list<string>", connect, "dnsbl", form=domain),
        "helo.name": Known("string", helo, "helo"),
        "helo.kind": Known("string", helo, "helo", frozenset({"fqdn", "literal", "invalid"})),
        "mail.address": Known("string", mail, "mail", form=address),
        "mail.domain": Known("string", mail, "mail", form=domain),
        "mail.is_null": Known("bool", mail, "mail"),
        "spf.result": Known("string", mail, "spf", _RESULTS),
        "spf.domain": Known("string", mail, "spf", form=domain),
        # The declared SIZE is known at MAIL, but what is said of it is said for a recipient.
        "message.size": Known("int", rcpt),
        "rcpt.address": Known("string", rcpt, form=address),
        "rcpt.domain": Known("string", rcpt, form=domain),
        "rcpt.known": Known("string", rcpt, words=frozenset({"yes", "no", "unknown"})),
        "rcpt.count": Known("int", rcpt),
        "from.valid": Known("bool", data, "author"),
        "from.address": Known("string", data, "author", form=address),
        "from.domain": Known("string", data, "author", form=domain),
        "from.org_domain": Known("string", data, "organization", form=domain),
        "from.name": Known("string", data, "author"),
        "from.is_local": Known("bool", data, "author"),
        "from.known_days": Known("int", data, "history"),
        "message.subject": Known("string", data, "content"),
        "message.list_id": Known("string", data, "content"),
        "message.hops": Known("int", data, "content"),
        "message.attachments": Known("list<attachment>", data, "attachments"),
        "dkim.result": Known("string", data, "dkim", _RESULTS),
        "dkim.domains": Known("list<string>", data, "dkim", form=domain),
        "dmarc.result": Known("string", data, "dmarc", _RESULTS),
        # "" where no policy was found.
        "dmarc.policy": Known("string", data, "dmarc", frozenset({"", "none", "quarantine", "reject"})),
        "dmarc.domain": Known("string", data, "dmarc", form=domain),
        "arc.result": Known("string", data, "arc", _RESULTS),
        "arc.sealer": Known("string", data, "arc", form=domain),
        "arc.trusted": Known("bool", data, "arc"),
    }


FACTS = _table()

#: What a file is, from what it holds or what it is called, the more dangerous of the two.
KINDS = frozenset(
    {"executable", "script", "macro", "encrypted", "unreadable", "archive", "document", "image", "text", "other"}
)

#: The fields of one of `message.attachments`.
ATTACHMENT = {
    "name": Known("string", Stage.DATA, "attachments"),
    "type": Known("string", Stage.DATA, "attachments"),
    "kind": Known("string", Stage.DATA, "attachments", KINDS),
    "size": Known("int", Stage.DATA, "attachments"),
}

#: Facts that differ between the recipients of one mail; at DATA only `for:` tells them apart.
RECIPIENT_FACTS = frozenset(name for name in FACTS if name.startswith("rcpt."))

#: The declared size at RCPT, the counted size at DATA: rules that name it run at both.
SIZE = "message.size"

#: Powers of 1000, in expressions as in YAML.
UNITS = {"KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}

#: What a failed check means where a rule cannot be decided without it: authentication defers, a reverse name that
#: nobody could look up is an absent one (many clients have none, and nothing is refused for it), reputation is a hint.
ON_ERROR = dict.fromkeys({known.check for known in FACTS.values()} - {""}, OnError.DEFER)
ON_ERROR |= dict.fromkeys(("iprev", "dnsbl", "history"), OnError.IGNORE)


def checks_of(names: Iterable[str]) -> frozenset[str]:
    """The names of the checks that give these facts."""
    return frozenset(FACTS[name].check for name in names if name in FACTS) - {""}
