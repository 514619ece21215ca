"""Any SPF record parses to directives or to an error, and evaluates to a word of RFC 7208 within its limits."""

import asyncio

from gateway.checks.spf_evaluator import evaluate
from gateway.checks.spf_record import is_spf, parse
from gateway.clock import ManualClock
from gateway.dns.answer import Response
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.terms import Result

LIMIT_MS = 50
_WORDS = {Result.NONE, Result.NEUTRAL, Result.PASS, Result.FAIL, Result.SOFTFAIL, Result.TEMPERROR, Result.PERMERROR}
SEEDS = [
    b"v=spf1 a mx ip4:192.0.2.0/24 ip6:2001:db8::/32 include:b.example ~all",
    b"v=spf1 exists:%{i}._spf.%{d2} -all exp=e.example",
    b"v=spf1 redirect=b.example",
    b"v=spf1 ptr:example a:%{d}/24//64 ?all x-y=%{s}%%%_%-",
]
TOKENS = [
    *(b" ", b":", b"/", b"//", b"%{", b"}", b"%{d}", b"%{p}", b"%{l1r-}", b"=", b"-all", b"include:", b"a:", b"mx"),
    *(b"exists:", b"redirect=", b"exp=", b"ip4:", b"ip6:", b"/33", b".", b"ptr", b"a.example", b"\x80"),
]


class _Fed:
    """A zone where a.example publishes what is fed, and everything else leads back to it."""

    def __init__(self, data: bytes) -> None:
        self.asked = 0
        text = data.decode("latin-1").replace("\\", "").replace('"', "")
        pieces = " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
        mx = {"A": ["192.0.2.9"], "MX": ["10 a.example."]}
        zone = {name: {"TXT": [pieces or '""'], **mx} for name in ("a.example", "b.example", "e.example")}
        self._zone = Zone({**zone, "1.2.0.192.in-addr.arpa": {"PTR": ["a.example."]}})

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        self.asked += 1
        return await self._zone.ask(name, rdtype, timeout)


def one(data: bytes) -> None:
    record = parse(data)
    assert not (record.error and record.directives)
    assert isinstance(is_spf(data), bool)
    fed = _Fed(data)
    verdict = asyncio.run(evaluate(Resolver(fed, ManualClock()), "192.0.2.1", "h.example", "a", "a.example"))
    assert verdict.result in _WORDS
    assert (verdict.explanation + verdict.why).isprintable()
    assert fed.asked <= 1 + 10 * 12 + 1, "ten terms, each with ten names, and an explanation"
