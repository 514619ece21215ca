"""`gatepost check --batch`: one JSON object a line in, one out, in order (DESIGN appendix A).

Offline: DNS is what the line says, `now` is the only clock (absent: 14 November 2023). An impossible line gets
`{"id": ..., "error": ...}` and the next one is read; nothing that stands in a line can end the run.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from gateway.checks.suffixes import organizational_domain
from gateway.cli.examine import Case, Examiner, Findings
from gateway.clock import ManualClock
from gateway.dns.answer import Tlsa
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone, value_of
from gateway.mail.message import Message
from gateway.mail.terms import Result
from gateway.relay import dane

#: For lines without `now`.
_NOW = 1_700_000_000.0
_LATEST = 253_402_300_799.0  # the last second that a date can say
_ERROR_LENGTH = 300

Object = Mapping[str, object]


class Impossible(ValueError):  # noqa: N818 - what the line is
    """The line cannot be judged; the text says why."""


async def run(examiner: Examiner, lines: Iterable[bytes], out: BinaryIO) -> int:
    """Answers every line; the number of lines that were impossible."""
    errors = 0
    for line in lines:
        if not line.strip():
            continue
        answer = await answered(examiner, line)
        errors += "error" in answer
        out.write(json.dumps(answer, ensure_ascii=True).encode("ascii") + b"\n")
        out.flush()
    return errors


async def answered(examiner: Examiner, line: bytes) -> dict[str, object]:
    """The answer to one line, whatever it is."""
    identity: object = None
    try:
        case = json.loads(line)
        if not isinstance(case, dict):
            raise Impossible("a line is a JSON object")
        identity = case.get("id")
        return {"id": identity, **await _answer(examiner, case)}
    except asyncio.CancelledError:
        raise
    except Impossible as why:
        error = str(why)
    except RecursionError:
        error = "nested too deeply"
    except ValueError as why:
        error = f"impossible: {why}"
    except Exception as why:
        error = f"internal error: {type(why).__name__}: {why}"
    return {"id": identity, "error": error.encode("ascii", "backslashreplace").decode("ascii")[:_ERROR_LENGTH]}


async def _answer(examiner: Examiner, case: Object) -> dict[str, object]:
    if "domain" in case:
        return {"org_domain": organizational_domain(_text(case, "domain"))}
    now = _number(case, "now", _NOW)
    if "dane" in case:
        return {"dane": {"result": "match" if _dane(_object(case, "dane"), now) else "mismatch"}}
    clock = ManualClock(now)
    zone = Zone(_object(case, "dns"))  # type: ignore[arg-type] # the zone judges what it is given
    resolver = Resolver(zone, clock)
    options = _object(case, "options")
    message = _message(case)
    given = Case(message, _text(case, "ip"), _text(case, "helo"), _text(case, "mail_from"))
    if message is None and not given.ip:
        raise Impossible("neither ip nor message_b64")
    terms = examiner.terms
    if options:
        sha1, bits = options.get("dkim_allow_sha1") is True, int(_number(options, "dkim_min_rsa_bits", 1024))
        terms = replace(terms, allow_sha1=sha1, min_rsa_bits=bits)
    findings = await examiner.examine(given, resolver, clock, terms)
    return report(findings, with_spf=bool(given.ip), with_message=message is not None)


def report(findings: Findings, *, with_spf: bool, with_message: bool) -> dict[str, object]:
    """The findings in the form of appendix A."""
    found: dict[str, object] = {}
    if with_spf:
        found["spf"] = {"result": str(findings.spf.result), "explanation": findings.spf.explanation}
    if not with_message:
        return found
    found["dkim"] = [{"result": str(s.result), "d": s.domain, "s": s.selector} for s in findings.dkim.signatures]
    arc = findings.arc.result
    # The words of RFC 8617 section 4.4 are three: a chain that cannot be verified has not passed.
    found["arc"] = {"result": str(arc if arc in {Result.NONE, Result.PASS} else Result.FAIL)}
    dmarc = findings.dmarc
    found["dmarc"] = {
        "result": str(dmarc.result),
        "policy": dmarc.policy or "none",
        "record_domain": dmarc.domain or None,
    }
    if findings.disposition is not None:
        spoken = findings.disposition
        found["disposition"] = {"action": spoken.action, "code": spoken.code, "rule": spoken.rule or None}
    return found


def _message(case: Object) -> Message | None:
    if case.get("message_b64") is None:
        return None
    try:
        return Message.from_octets(base64.b64decode(_text(case, "message_b64"), validate=True))
    except (binascii.Error, ValueError):
        raise Impossible("message_b64 is not base64") from None


def _text(case: Object, key: str) -> str:
    value = case.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Impossible(f"{key} must be a string")
    return value


def _object(case: Object, key: str) -> Object:
    value = case.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Impossible(f"{key} must be an object")
    return value


def _number(case: Object, key: str, default: float) -> float:
    value = case.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise Impossible(f"{key} must be a number of seconds or bits")
    return float(value)


def _dane(case: Object, now: float) -> bool:
    host = _text(case, "host")
    records: list[Tlsa] = []
    for record in _list(case, "tlsa"):
        if not isinstance(record, str):
            raise Impossible("tlsa must be a list of strings")
        value = value_of("TLSA", record)
        if isinstance(value, tuple) and len(value) == 4:
            records.append(value)
    chain = [_certificate(certificate) for certificate in _list(case, "chain")]
    return dane.matches(host, records, chain, now)


def _list(case: Object, key: str) -> Sequence[object]:
    value = case.get(key, [])
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise Impossible(f"{key} must be a list")
    return value


def _certificate(value: object) -> bytes:
    """The octets of one certificate: base64 of its DER, with or without the lines of PEM."""
    if not isinstance(value, str):
        raise Impossible("chain must be a list of strings")
    lines = [line for line in value.splitlines() if not line.startswith("-----")]
    try:
        return base64.b64decode("".join("".join(lines).split()), validate=True)
    except (binascii.Error, ValueError):
        raise Impossible("chain must hold base64") from None
