"""Any TXT record is a DMARC record or none; the walk over such records always ends with a result."""

import asyncio

from gateway.checks.dkim import DkimFact, Signature
from gateway.checks.dmarc import judge
from gateway.checks.dmarc_record import Word, parse
from gateway.checks.spf import SpfFact
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.terms import Result

LIMIT_MS = 50
SEEDS = [
    b"v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=r; rua=mailto:a@example.org!10m; fo=1:d:s; pct=50",
    b"v=DMARC1;p=none;psd=y;t=y",
    b"V = DMARC1 ; P = Reject ;",
    b"v=DMARC1; rua=mailto:a@example.org,https://example.org/x",
]
TOKENS = [
    b";",
    b"=",
    b" ",
    b"v=DMARC1",
    b"p=",
    b"sp=",
    b"np=reject",
    b"psd=n",
    b"t=y",
    b"rua=",
    b"pct=",
    b"!",
    b",",
    b"\x80",
]
_SPF = SpfFact(Result.PASS, "mail.example.org")
_DKIM = DkimFact(
    Result.PASS, (Signature(Result.PASS, "b.example.org", "s"), Signature(Result.FAIL, "a.example.org", "s"))
)


def one(data: bytes) -> None:
    record = parse(data)
    if record is not None:
        applied = record.applied()
        for at_author in (True, False):
            for exists in (True, False):
                if applied is not None:
                    word = applied.wanted(at_author=at_author, exists=exists)
                    assert word in {Word.NONE, Word.QUARANTINE, Word.REJECT}
                    assert applied.sampled(word, 99) in {Word.NONE, Word.QUARANTINE, Word.REJECT}
    text = data.decode("latin-1").replace("\\", "").replace('"', "")
    pieces = " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200)) or '""'
    for zone in ({"_dmarc.a.example.org": pieces}, {"_dmarc.example.org": pieces, "_dmarc.org": pieces}):
        resolver = Resolver(Zone({name: {"TXT": [value]} for name, value in zone.items()}), ManualClock())
        for method in ("treewalk", "suffixes"):
            fact = asyncio.run(judge(resolver, ["a.example.org"], _SPF, _DKIM, method))
            assert fact.result in {Result.PASS, Result.FAIL, Result.NONE}
            assert fact.policy in {"", "none", "quarantine", "reject"}
