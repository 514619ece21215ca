"""Messages on the wire, with dnspython as the oracle: what it writes we read, what we write it reads."""

import contextlib
import struct

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.answer import Record, Resource
from gateway.dns.wire import Broken, NotOurs, query, question, read
from tests.support.work import lines

ASKED = question("example.com", "TXT")


def response(*answers: tuple[str, str, str], rcode: int = 0, authority: str = "", flags: int = 0) -> bytes:
    """A response to `ASKED` as dnspython writes it."""
    message = dns.message.make_response(dns.message.from_wire(query(7, ASKED, edns=True)), recursion_available=True)
    message.flags |= flags
    message.set_rcode(dns.rcode.Rcode(rcode))
    for owner, rdtype, text in answers:
        message.answer.append(dns.rrset.from_text(owner, 300, "IN", rdtype, text))
    if authority:
        message.authority.append(dns.rrset.from_text("example.com.", 900, "IN", "SOA", authority))
    return message.to_wire(max_size=65535)


@pytest.mark.parametrize("edns", [True, False])
def test_our_question_as_another_reads_it(edns: bool) -> None:
    message = dns.message.from_wire(query(4711, ASKED, edns=edns))
    assert message.id == 4711
    assert message.question[0].to_text() == "example.com. IN TXT"
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert message.edns == (0 if edns else -1)
    assert not edns or message.payload == 1232


@pytest.mark.parametrize(
    ("rdtype", "text", "value"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:db8:0::1", "2001:db8::1"),
        ("TXT", '"v=spf1" " -all"', b"v=spf1 -all"),
        ("SPF", '"v=spf1 -all"', b"v=spf1 -all"),
        ("MX", "10 MX.Example.com.", (10, "mx.example.com")),
        ("MX", "0 .", (0, "")),
        ("TLSA", "3 1 0 abcdef", (3, 1, 0, b"\xab\xcd\xef")),
        ("PTR", "Host.example.com.", "host.example.com"),
        ("NS", "ns.example.net.", "ns.example.net"),
        ("CNAME", "other.example.", "other.example"),
        ("CNAME", "a\\.b.example.", ""),
    ],
)
def test_values(rdtype: str, text: str, value: Record) -> None:
    reading = read(response(("Example.COM.", rdtype, text)), 7, ASKED)
    assert reading.rcode == 0
    assert reading.response.records == (Resource("example.com", rdtype, 300.0, value),)


@pytest.mark.parametrize(
    ("rdtype", "text"),
    [("PTR", "a\\.b.example."), ("PTR", "nul\\000.example."), ("PTR", "\\252.example."), ("HINFO", '"a" "b"')],
)
def test_records_that_are_left_out(rdtype: str, text: str) -> None:
    assert read(response(("example.com.", rdtype, text)), 7, ASKED).response.records == ()


def test_the_soa_tells_how_long_nothing_lives() -> None:
    soa = "ns.example.com. root.example.com. 1 2 3 4 60"
    reading = read(response(rcode=3, authority=soa), 7, ASKED)
    assert reading.response.nxdomain
    assert reading.response.negative_ttl == 60.0
    assert read(response(authority=soa), 7, ASKED).response.negative_ttl == 60.0


def test_flags() -> None:
    assert read(response(("example.com.", "A", "192.0.2.1"), flags=0x20), 7, ASKED).response.authenticated
    assert read(response(flags=0x200), 7, ASKED).truncated
    assert read(response(rcode=2), 7, ASKED).rcode == 2
    octets = bytearray(response())
    assert not read(bytes(octets), 7, ASKED).lame
    octets[3] &= 0x7F  # neither recursive nor an authority, and nothing to tell: a referral
    assert read(bytes(octets), 7, ASKED).lame


def test_whose_response_it_is() -> None:
    good = response(("example.com.", "A", "192.0.2.1"))
    with pytest.raises(NotOurs):
        read(good, 8, ASKED)
    with pytest.raises(NotOurs):
        read(good, 7, question("example.org", "TXT"))
    with pytest.raises(NotOurs):
        read(good, 7, question("example.com", "A"))
    with pytest.raises(NotOurs):
        read(good, 7, ASKED.replace(b"example", b"exAmple"))
    with pytest.raises(NotOurs):
        read(query(7, ASKED, edns=True), 7, ASKED)  # our own question, reflected
    with pytest.raises(NotOurs):
        read(good[:20], 7, ASKED)


def message(answers: int, tail: bytes) -> bytes:
    return struct.pack("!HHHHHH", 7, 0x8180, 1, answers, 0, 0) + ASKED + tail


A_RECORD = struct.pack("!HHIH", 1, 1, 300, 4) + b"\xc0\0\2\1"


@pytest.mark.parametrize(
    ("what", "answers", "tail"),
    [
        ("nothing where a record is due", 1, b""),
        ("a pointer to itself", 1, b"\xc0\x1d" + A_RECORD),
        ("a pointer forwards", 1, b"\xc0\x40" + A_RECORD),
        ("a pointer into the header", 1, b"\xc0\x02" + A_RECORD),
        ("half a pointer", 1, b"\xc0"),
        ("a label of a kind nobody defined", 1, b"\x80abc" + A_RECORD),
        ("a name over 253", 1, (b"\x3f" + b"a" * 63) * 4 + b"\0" + A_RECORD),
        ("data longer than the message", 1, b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 400) + b"\0\0\0\0"),
        ("a thousand and one", 1001, (b"\xc0\x0c" + A_RECORD) * 1001),
        ("pointers without end", 2, b"\0" + struct.pack("!HHIH", 10, 1, 0, 6000) + b"\xc0\x0c" * 3000 + b"\xd0\0"),
    ],
)
def test_broken_messages(what: str, answers: int, tail: bytes) -> None:
    with pytest.raises(Broken):
        read(message(answers, tail), 7, ASKED)


@pytest.mark.parametrize(
    "rdata",
    [
        struct.pack("!HHIH", 1, 1, 300, 3) + b"abc",
        struct.pack("!HHIH", 28, 1, 300, 3) + b"abc",
        struct.pack("!HHIH", 16, 1, 300, 3) + b"\x09ab",
        struct.pack("!HHIH", 16, 1, 300, 0),
        struct.pack("!HHIH", 52, 1, 300, 3) + b"abc",
        struct.pack("!HHIH", 15, 1, 300, 4) + b"\0\1\0x",
        struct.pack("!HHIH", 1, 3, 300, 4) + b"abcd",
    ],
)
def test_values_that_are_none_are_left_out(rdata: bytes) -> None:
    assert read(message(2, b"\xc0\x0c" + rdata + b"\xc0\x0c" + A_RECORD), 7, ASKED).response.records == (
        Resource("example.com", "A", 300.0, "192.0.2.1"),
    )


@given(st.binary(max_size=300), st.integers(0, 5))
def test_any_octets_are_read_or_refused(tail: bytes, answers: int) -> None:
    with contextlib.suppress(Broken):
        read(message(answers, tail), 7, ASKED)


@given(st.data())
def test_a_flipped_octet_reads_as_dnspython_reads_it_or_is_refused(data: st.DataObject) -> None:
    octets = bytearray(
        response(
            ("example.com.", "CNAME", "www.example.com."),
            ("www.example.com.", "MX", "10 mx.example.com."),
            ("www.example.com.", "TXT", '"some" "text"'),
        )
    )
    at = data.draw(st.integers(12 + len(ASKED), len(octets) - 12))
    octets[at] = data.draw(st.integers(0, 255))
    try:
        ours = {(r.name, r.rdtype, r.value) for r in read(bytes(octets), 7, ASKED).response.records}
        theirs = dns.message.from_wire(bytes(octets), ignore_trailing=True, one_rr_per_rrset=True)
    except (Broken, dns.exception.DNSException):
        return
    # dnspython escapes what is special in zone files
    names = {rrset.name.to_text().lower().rstrip(".").replace("\\", "") for rrset in theirs.answer}
    assert {name.replace("\\", "") for name, _, _ in ours} <= names


def test_a_hostile_response_costs_little() -> None:
    deep = b"".join(b"\1" + bytes((97 + i % 26,)) for i in range(120))
    records = [deep + b"\0" + A_RECORD] * 110  # no compression: every name read anew
    octets = message(len(records), b"".join(records))
    read(octets, 7, ASKED)
    assert lines(lambda: read(octets, 7, ASKED)) < 400_000
