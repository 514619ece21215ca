"""What may stand behind a path in MAIL and RCPT: each parameter once, its value by its own grammar.

DSN parameters are checked and kept as they came: the relay hands them to a backend that offers DSN. Values are judged
decoded, so that no `+0D+0A` slips through to whoever decodes them next.

RFC 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461 sections 4 and 5 (DSN), 6533 section 3 (ORCPT=utf-8).
Called by `grammar`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from gateway.mail.envelope import Envelope
from gateway.mail.reply import Reply, SyntaxRefused

# What the lines may be longer than 512 octets once EHLO offered the extensions: SIZE 26, BODY 17, SMTPUTF8 10;
# ENVID with 100 characters 107, RET 9; ORCPT with 500 characters 507, NOTIFY 29; each with its space.
MAIL_EXTRA = 26 + 17 + 10 + 107 + 9
RCPT_EXTRA = 507 + 29

_ENVID_LIMIT, _ORCPT_LIMIT = 100, 500
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_HEX = re.compile(rb"\+([0-9A-F]{2})")
#: Twenty digits are allowed (RFC 1870 section 3), and more than 63 bits are kept nowhere; such a message fits nowhere.
_SIZE = 2**63 - 1
_NOTIFY = frozenset({b"SUCCESS", b"FAILURE", b"DELAY"})
_ADDRESS_TYPES = frozenset({b"rfc822", b"utf-8"})


def of_mail(envelope: Envelope, octets: bytes, *, esmtp: bool) -> Envelope:
    """The envelope with the parameters of MAIL."""
    for keyword, value in _each(octets, esmtp):
        match keyword:
            case b"SIZE":
                if value is None or not value.isdigit() or len(value) > 20:
                    raise _bad("SIZE=octets")
                envelope = replace(envelope, declared_size=min(int(value), _SIZE))
            case b"BODY":
                if value is None or value.upper() not in {b"7BIT", b"8BITMIME"}:
                    raise _bad("BODY is 7BIT or 8BITMIME")
                envelope = replace(envelope, body=value.decode("ascii").upper())
            case b"SMTPUTF8":
                if value is not None:
                    raise _bad("SMTPUTF8 has no value")
                envelope = replace(envelope, smtputf8=True)
            case b"RET" | b"ENVID":
                kept = (keyword.decode("ascii"), _OF_MAIL[keyword](value or b""))
                envelope = replace(envelope, parameters=(*envelope.parameters, kept))
            case _:
                raise _unknown()
    return envelope


def of_rcpt(octets: bytes, *, esmtp: bool, smtputf8: bool = False) -> tuple[tuple[str, str], ...]:
    """The parameters of RCPT, checked. `smtputf8`: MAIL asked for it."""
    kept: list[tuple[str, str]] = []
    for keyword, value in _each(octets, esmtp):
        match keyword:
            case b"NOTIFY":
                kept.append(("NOTIFY", _notify(value or b"")))
            case b"ORCPT":
                kept.append(("ORCPT", _orcpt(value or b"", smtputf8)))
            case _:
                raise _unknown()
    return tuple(kept)


def xtext(value: bytes) -> str:
    """The text that `value` encodes (RFC 3461 section 4). `ValueError` when it is no xtext, or hides no ASCII."""
    if not _XTEXT.fullmatch(value):
        raise ValueError("no xtext")
    return _HEX.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), value).decode("ascii")


def _each(octets: bytes, esmtp: bool) -> Iterator[tuple[bytes, bytes | None]]:
    given: set[bytes] = set()
    for parameter in filter(None, octets.split(b" ")):
        keyword, equals, value = parameter.partition(b"=")
        keyword = keyword.upper()
        if not esmtp:
            raise _unknown()
        if keyword in given:
            raise _bad("A parameter is given twice")
        given.add(keyword)
        yield keyword, value if equals else None


def _ret(value: bytes) -> str:
    if value.upper() not in {b"FULL", b"HDRS"}:
        raise _bad("RET is FULL or HDRS")
    return value.decode("ascii")


def _envid(value: bytes) -> str:
    if len(value) > _ENVID_LIMIT or not _plain(value):
        raise _bad("ENVID is xtext of at most 100 characters")
    return value.decode("ascii")


def _notify(value: bytes) -> str:
    words = value.upper().split(b",")
    if words != [b"NEVER"] and (len(set(words)) < len(words) or not _NOTIFY.issuperset(words)):
        raise _bad("NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY")
    return value.decode("ascii")


def _orcpt(value: bytes, smtputf8: bool) -> str:
    kind, semicolon, address = value.partition(b";")
    if smtputf8 and kind.lower() == b"utf-8":  # as it is (RFC 6533 section 3: utf-8-addr-unitext)
        address = _beyond_ascii(address)
    if len(value) > _ORCPT_LIMIT or not semicolon or kind.lower() not in _ADDRESS_TYPES or not _plain(address):
        raise _bad("ORCPT is rfc822;xtext or utf-8;xtext")
    return value.decode("utf-8")


def _beyond_ascii(address: bytes) -> bytes:
    """The address with a question mark for each character that ASCII has not; as it was, if some are none to print."""
    try:
        text = address.decode("utf-8")
    except UnicodeDecodeError:
        return address
    return text.encode("ascii", "replace") if text.isprintable() else address


def _plain(value: bytes) -> bool:
    """True for xtext that hides printable ASCII and spaces alone."""
    try:
        return all(" " <= character <= "~" for character in xtext(value))
    except ValueError:
        return False


_OF_MAIL: dict[bytes, Callable[[bytes], str]] = {b"RET": _ret, b"ENVID": _envid}


def _unknown() -> SyntaxRefused:
    return SyntaxRefused(Reply(555, "5.5.4", ("Unknown parameter",)))


def _bad(why: str) -> SyntaxRefused:
    return SyntaxRefused(Reply(501, "5.5.4", (why,)))
