"""The DNS tree walk: which DMARC records stand above a name, and to whose organization it belongs.

RFC 9989 section 4.10. At most eight questions, whatever the name: of a long one the labels between the whole and the
last seven are skipped. Names that are not cached are asked for together. NXDOMAIN and NODATA are "no record"; any DNS
trouble ends what can be known (`trouble`), it is never taken for "no record". Two records at a name count as none.
Called by `checks/organization`.
"""

import asyncio
from dataclasses import dataclass

from gateway.checks import dmarc_record
from gateway.checks.dmarc_record import Record
from gateway.dns.answer import Answer
from gateway.dns.answer import Record as DnsRecord
from gateway.dns.resolver import Resolver
from gateway.mail.terms import Unavailable

_LABELS = 8


@dataclass(frozen=True, slots=True)
class Walk:
    """What was found on the way up from `start`, longest name first; `trouble` when the DNS failed before the end."""

    start: str
    found: tuple[tuple[str, Record], ...] = ()
    trouble: bool = False

    @property
    def organization(self) -> str:
        """The Organizational Domain (section 4.10.2); "" when DNS trouble hides it."""
        for name, record in self.found:
            if record.psd == "n":
                return name
            if record.psd == "y" and name != self.start:
                return ".".join(self.start.split(".")[-(name.count(".") + 2) :])
            if record.psd == "y":
                return name  # the walk ended at its start: a suffix that sends mail is its own organization
        if self.trouble:
            return ""
        return self.found[-1][0] if self.found else self.start


def names(domain: str) -> list[str]:
    """The names that are asked for, in their order."""
    labels = domain.split(".")
    if domain.startswith("[") or not all(labels):
        return []  # an address literal has no name in the DNS
    count = len(labels)
    asked = [domain]
    while count > 1:
        count = min(count - 1, _LABELS - 1)
        asked.append(".".join(labels[-count:]))
    return asked


async def walk(resolver: Resolver, domain: str) -> Walk:
    """Walks up from `domain` (lower-case A-labels)."""
    asked = names(domain)
    answers = await _answers(resolver, [f"_dmarc.{name}" for name in asked])
    found: list[tuple[str, Record]] = []
    for name, answer in zip(asked, answers, strict=True):
        if answer is None:
            return Walk(domain, tuple(found), trouble=True)
        records = [r for r in (dmarc_record.parse(o) for o in answer.records if isinstance(o, bytes)) if r is not None]
        if len(records) == 1:
            found.append((name, records[0]))
            if records[0].psd != "u":
                break
    return Walk(domain, tuple(found))


async def same_organization(resolver: Resolver, domain: str, other: str, organization: str) -> bool | None:
    """True when `domain` is `other` or belongs to the same organization; None when DNS trouble hides it.

    `organization` is that of `other`, "" when unknown. A name that is neither it nor below it cannot belong to it, so
    it is not walked: strangers' signatures cost no questions.
    """
    if domain == other:
        return True
    if not organization:
        return None
    if domain != organization and not domain.endswith("." + organization):
        return False
    found = (await walk(resolver, domain)).organization
    return found == organization if found else None


async def _answers(resolver: Resolver, asked: list[str]) -> list[Answer[DnsRecord] | None]:
    """The TXT answers of all names, None where the DNS failed; those not cached at the same time."""
    known: dict[str, Answer[DnsRecord] | None] = {}
    missing: list[str] = []
    for name in asked:
        try:
            answer = resolver.cached(name, "TXT")
        except Unavailable:
            known[name] = None
            continue
        if answer is None:
            missing.append(name)
        else:
            known[name] = answer

    async def ask(name: str) -> None:
        try:
            answer = await resolver.query(name, "TXT")
            known[name] = Answer(tuple(answer.records), answer.nxdomain, answer.authenticated)
        except Unavailable:
            known[name] = None

    if len(missing) == 1:
        await ask(missing[0])
    elif missing:
        async with asyncio.TaskGroup() as group:
            for name in missing:
                group.create_task(ask(name))
    return [known[name] for name in asked]
