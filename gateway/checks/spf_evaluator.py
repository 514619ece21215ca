"""SPF evaluated: `check_host()` of RFC 7208 section 4, over our resolver, never blocking and never raising.

Own code instead of pyspf (which stays the oracle of the differential test): DNS is awaited without a bridge, parsed
records are remembered, and every bound is ours. Limits (section 4.6.4): 10 terms that ask DNS, 2 terms that find
nothing ("void" counts terms, as the RFC has it: an `mx` whose four hosts have no AAAA is one), 10 MX names, 10 reverse
names; its 20 seconds are the check's deadline. Ours on top: 2,000 addresses looked at, since one answer may carry
thousands.

DNS trouble is temperror, except where the RFC says no match: inside `ptr` and `%{p}` (5.5, 7.3), and for an
explanation (6.2). Names that DNS cannot have (empty or overlong labels, non-ASCII local parts, RFC 8616 section 4)
match nothing and cost no question.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton
from typing import Literal, overload

from gateway.checks.spf_record import Directive, Macros, Malformed, Record, is_spf, macros, parse
from gateway.dns.answer import Mx, NameType
from gateway.dns.names import address_of, canonical, reverse_name
from gateway.dns.resolver import Resolver
from gateway.mail.address import to_ascii
from gateway.mail.reply import printable
from gateway.mail.terms import Result, Unavailable

MAX_LOOKUPS = 10
MAX_VOIDS = 2
MAX_NAMES = 10
MAX_ADDRESSES = 2000
EXPLANATION_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """What SPF says: the result, the domain's explanation of a fail ("" without one), and why (for the journal)."""

    result: Result
    explanation: str = ""
    why: str = ""
    mechanism: str = ""  # the kind of the directive that matched


class _PermError(Exception):
    """Ends the evaluation: the record is wrong or asks too much."""


@dataclass(frozen=True, slots=True)
class _Match:
    """Where an evaluation ended: the result, why, and the `exp=` of the record that ended it."""

    result: Result
    why: str
    exp: Macros | None = None
    domain: str = ""
    mechanism: str = ""


async def evaluate(
    resolver: Resolver, ip: str, helo: str, local: str, domain: str, *, receiver: str = "unknown", now: float = 0.0
) -> Verdict:
    """Whether `ip` may send as `local@domain`, both as they came. Raises `ValueError` only when `ip` is no address."""
    evaluation = _Evaluation(resolver, ip, helo, local, judged_domain(domain), receiver, now)
    try:
        return await evaluation.verdict()
    except _PermError as why:
        return Verdict(Result.PERMERROR, why=printable(str(why)))
    except Unavailable as why:
        return Verdict(Result.TEMPERROR, why=printable(str(why)))


def judged_domain(domain: str) -> str:
    """The domain as check_host() takes it, or "" where section 4.3 gives `none`.

    That is: not fully qualified, an address literal, an empty or overlong label, no A-label form. The case stays, for
    macros show it.
    """
    if not domain.isascii():
        try:
            domain = to_ascii(domain)
        except ValueError:
            return ""
    name = domain.removesuffix(".")
    return name if "." in name and not name.startswith("[") and canonical(name) else ""


class _Evaluation:
    """One check_host() with all its includes: the inputs, and how much of each limit is used."""

    def __init__(
        self, resolver: Resolver, ip: str, helo: str, local: str, domain: str, receiver: str, now: float
    ) -> None:
        address = address_of(ip)  # a mapped address is an IPv4 client, however the socket saw it (section 5)
        self._resolver = resolver
        self._address = address
        self._ip = int(address)
        self._v4 = address.version == 4
        self._helo, self._local, self._domain = helo, local or "postmaster", domain
        self._receiver, self._now = receiver, now
        self._lookups = self._voids = self._looked_at = 0
        self._void = False  # the term being evaluated asked for something that is not there
        self._names: list[str] | None = None  # the client's validated reverse names, once known
        self._nameless = False  # it has no reverse name at all

    async def verdict(self) -> Verdict:
        match = await self._check(self._domain)
        explanation = await self._explanation(match) if match.result is Result.FAIL else ""
        return Verdict(match.result, explanation, printable(match.why), match.mechanism)

    async def _check(self, domain: str) -> _Match:
        """The result for one domain (section 4), `none` without a record; the includes come back here."""
        record = await self._record(domain)
        if record is None:
            return _Match(Result.NONE, f"{domain} has no SPF record" if domain else "no domain to judge")
        if record.error:
            raise _PermError(f"{domain}: {record.error}")
        for directive in record.directives:
            if await self._matches(directive, domain):
                return _Match(directive.result, f"{directive.kind} of {domain}", record.exp, domain, directive.kind)
        if record.redirect is None or self._never_matches(record.redirect):
            return _Match(Result.NEUTRAL, f"nothing of {domain} matches")
        return await self._other(record.redirect, domain)

    async def _record(self, domain: str) -> Record | None:
        if not domain:
            return None
        found = [r for r in (await self._resolver.query(domain, "TXT")).records if is_spf(r)]
        if len(found) > 1:
            return Record(error="more than one SPF record")
        return parse(found[0]) if found else None

    async def _other(self, spec: Macros, domain: str) -> _Match:
        """The result of the record that include or redirect names; none there is permerror (sections 5.2, 6.1)."""
        self._count()
        target = await self._target(spec, domain)
        match = await self._check(judged_domain(target))
        if match.result is Result.NONE:
            raise _PermError(f"{domain} refers to {target}, which has no SPF record")
        return match

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _PermError(f"more than {MAX_LOOKUPS} terms that ask DNS")

    def _never_matches(self, spec: Macros | None) -> bool:
        """True for a term that names a local part which is not ASCII (RFC 8616 section 4)."""
        return spec is not None and not self._local.isascii() and not spec.letters.isdisjoint("sl")

    async def _matches(self, directive: Directive, domain: str) -> bool:
        if self._never_matches(directive.spec):
            return False
        match directive.kind:
            case "ip4":
                return self._v4 and self._ip >> directive.shift4 == directive.network
            case "ip6":
                return not self._v4 and self._ip >> directive.shift6 == directive.network
            case "all":
                return True
            case "include":
                assert directive.spec is not None
                return (await self._other(directive.spec, domain)).result is Result.PASS
        self._count()
        target = await self._target(directive.spec, domain)
        self._void = False
        if await self._asks(directive, target):
            return True
        self._voids += self._void
        if self._voids > MAX_VOIDS:
            raise _PermError(f"more than {MAX_VOIDS} terms that find nothing in DNS")
        return False

    async def _asks(self, directive: Directive, target: str) -> bool:
        """True when a mechanism that needs DNS matches."""
        match directive.kind:
            case "a":
                return await self._holds(target, directive)
            case "mx":
                hosts = await self._query(target, "MX")
                if len(hosts) > MAX_NAMES:
                    raise _PermError(f"{target} has more than {MAX_NAMES} MX records")
                for _, host in sorted(hosts):
                    if await self._holds(host, directive):
                        return True
                return False
            case "exists":
                return bool(await self._query(target, "A"))
            case _:
                names = await self._validated()
                self._void = self._nameless
                return any(_under(name, target) for name in names)

    async def _holds(self, name: str, directive: Directive) -> bool:
        """True when the client is among the addresses of `name`, as closely as the directive wants."""
        addresses = await self._addresses(name)
        self._looked_at += len(addresses)
        if self._looked_at > MAX_ADDRESSES:
            raise _PermError(f"more than {MAX_ADDRESSES} addresses to look at")
        family, shift = (AF_INET, directive.shift4) if self._v4 else (AF_INET6, directive.shift6)
        wanted = self._ip >> shift
        return any(int.from_bytes(inet_pton(family, a)) >> shift == wanted for a in addresses)

    async def _addresses(self, name: str) -> tuple[str, ...]:
        return await self._query(name, "A" if self._v4 else "AAAA")

    @overload
    async def _query(self, name: str, rdtype: NameType) -> tuple[str, ...]: ...
    @overload
    async def _query(self, name: str, rdtype: Literal["MX"]) -> tuple[Mx, ...]: ...
    async def _query(self, name: str, rdtype: NameType | Literal["MX"]) -> tuple[str | Mx, ...]:
        """The records of a name that DNS can have; notes when there are none."""
        if canonical(name) is None:
            return ()
        records = (await self._resolver.query(name, rdtype)).records
        self._void = self._void or not records
        return records

    async def _validated(self) -> list[str]:
        """The client's reverse names that lead back to it (section 5.5), of ten; DNS trouble leaves names out.

        The client owns these names: nothing in them may end in permerror, or who would get `fail` escapes it.
        """
        if self._names is None:
            self._names = []
            try:
                names = await self._query(reverse_name(str(self._address)), "PTR")
                self._nameless = not names
            except Unavailable:
                names = ()
            for name in names[:MAX_NAMES]:
                with suppress(Unavailable):
                    if str(self._address) in await self._addresses(name):
                        self._names.append(name)
        return self._names

    async def _target(self, spec: Macros | None, domain: str) -> str:
        if spec is None:
            return domain
        return spec.domain(await self._values(spec, domain))

    async def _explanation(self, match: _Match) -> str:
        """What the domain says about its fail (section 6.2): printable, bounded, "" on any trouble."""
        if match.exp is None or self._never_matches(match.exp):
            return ""
        try:
            records = await self._resolver.txt(await self._target(match.exp, match.domain))
            if len(records) != 1:
                return ""
            text = macros(records[0][: 4 * EXPLANATION_LIMIT].decode("ascii"), explanation=True)
            expanded = text.text(await self._values(text, match.domain), 4 * EXPLANATION_LIMIT)
        except (Unavailable, Malformed, UnicodeDecodeError, _PermError):
            return ""
        # Sender and HELO may bring anything into it: no character that is not printable leaves this function.
        return printable(expanded, EXPLANATION_LIMIT)

    async def _values(self, spec: Macros, domain: str) -> Callable[[str], str]:
        """What the macro letters stand for (section 7.2) in a string of `domain`; `p` costs questions."""
        validated = await self._p(domain) if "p" in spec.letters else ""

        def value(letter: str) -> str:
            match letter:
                case "s":
                    return f"{self._local}@{self._domain}"
                case "l":
                    return self._local
                case "o":
                    return self._domain
                case "d":
                    return domain
                case "i":
                    return str(self._address) if self._v4 else ".".join(f"{self._ip:032X}")
                case "p":
                    return validated
                case "v":
                    return "in-addr" if self._v4 else "ip6"
                case "h":
                    return self._helo
                case "c":
                    return str(self._address)
                case "r":
                    return self._receiver
                case _:
                    return str(int(self._now))

        return value

    async def _p(self, domain: str) -> str:
        """The validated name that tells most: the domain itself, one below it, any; "unknown" without."""
        names = await self._validated()
        below = [name for name in names if _under(name, domain)]
        return min(below, key=len) if below else next(iter(names), "unknown")


def _under(name: str, domain: str) -> bool:
    domain = domain.lower()
    return name == domain or name.endswith("." + domain)
