"""A short storm of `make chaos`, and the parts that judge it."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.judge import UNHEARD, UNKNOWN, judge
from tests.chaos.report import Report
from tests.chaos.run import chaos
from tests.chaos.senders import Outcomes, mail
from tests.chaos.tap import Watch

RECORD = b"\x16\x03\x01\x00\x04abcd"
DATA = b"\x17\x03\x03\x00\x02xy"


@pytest.mark.timeout(180)
def test_a_short_storm(tmp_path: Path) -> None:
    report = chaos(tmp_path, 150, 10, 7, threads=4, patience=60)
    assert report.faults == []
    assert sum(report.blows.values()) == 10
    assert report.copies >= 150
    assert report.secured > 0
    assert sum(report.explained.values()) == report.duplicates


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("octets", "wrong"),
    [
        (b"EHLO mx.example.com\r\nSTARTTLS\r\n" + RECORD + DATA + DATA, False),
        (b"EHLO mx.example.com\r\nQUIT\r\n", False),
        (b"EHLO mx.example.com\r\nMAIL FROM:<a@b>\r\n", True),
        (b"EHLO mx.example.com\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n", True),
        (b"EHLO mx.example.com\r\nSTARTTLS\r\n" + RECORD + b"MAIL FROM:<a@b>\r\n", True),
        (b"x" * 400, True),
    ],
)
def test_the_tap_sees_every_octet(octets: bytes, wrong: bool, size: int) -> None:
    watch = Watch()
    found = [watch.see(octets[at : at + size]) for at in range(0, len(octets), size)]
    assert any(found) == wrong
    assert watch.secured == (octets.endswith(DATA) and not wrong)


class Mailbox:
    """As much of a Postfix as the judge asks for."""

    def __init__(self, *mails: bytes) -> None:
        self._mails = mails

    def mails(self, _: str) -> list[bytes]:
        return [b"Received: from x by y id Q%d\r\n" % index + octets for index, octets in enumerate(self._mails)]


DELIVERED, OPEN = "delivered", "unknown"


@pytest.mark.parametrize(
    ("mails", "fates", "unheard", "explained", "fault"),
    [
        ((1, 2), {}, {}, {}, ""),
        ((1,), {}, {}, {}, "LOST: 1 mails that were answered 250: [2]"),
        ((1, 2, 2), {2: (OPEN, DELIVERED)}, {}, {UNKNOWN: 1}, ""),
        ((1, 2, 2, 2), {2: (OPEN, DELIVERED, OPEN)}, {}, {UNKNOWN: 2}, ""),
        ((1, 2, 2), {2: (DELIVERED, DELIVERED)}, {2: 1}, {UNHEARD: 1}, ""),
        ((1, 2, 2), {2: (DELIVERED, DELIVERED)}, {}, {}, "mail 2 came 2 times: the journals say {'delivered': 2}"),
        ((1, 2, 2, 2), {2: (OPEN, DELIVERED, DELIVERED)}, {2: 1}, {UNKNOWN: 1, UNHEARD: 1}, ""),
        ((1, 2, 2, 2), {2: (OPEN, DELIVERED, DELIVERED)}, {}, {UNKNOWN: 1}, "mail 2 came 3 times: the journals say"),
        # A sender that heard nothing is no excuse: the journal must know of each copy.
        ((1, 2, 2), {2: (DELIVERED,)}, {2: 9}, {UNKNOWN: 0}, "mail 2 came 2 times, the journals know of 1"),
        ((1, 2, 2), {2: (DELIVERED, "refused")}, {2: 9}, {UNKNOWN: 0}, "mail 2 came 2 times, the journals know of 2"),
    ],
)
def test_the_judge_is_strict(
    mails: tuple[int, ...],
    fates: dict[int, tuple[str, ...]],
    unheard: dict[int, int],
    explained: dict[str, int],
    fault: str,
) -> None:
    report, told = Report(2), Outcomes()
    told.answered |= {1, 2}
    told.unheard.update(unheard)
    box = Mailbox(*(mail(number) for number in mails))
    known = {1: Counter([DELIVERED]), 2: Counter([DELIVERED])} | {n: Counter(words) for n, words in fates.items()}
    judge(report, [1, 2], [], told, [box], "", known)  # type: ignore[list-item]
    assert report.explained == Counter(explained)
    if fault:
        assert report.faults[0].startswith(fault)
    else:
        assert report.faults == []


def test_what_the_sending_postfix_says_of_its_dot_counts() -> None:
    log = """\
x postfix/qmgr[1]: AB12: from=<n000001@sender.example>, size=1, nrcpt=1 (queue active)
x postfix/smtp[2]: AB12: conversation with 127.0.0.1[127.0.0.1]:25 timed out while sending end of data -- message may
x postfix/smtp[2]: CD34: lost connection with 127.0.0.1 while sending end of data -- message may be sent more than once
"""
    report = Report(1)
    known = {1: Counter({DELIVERED: 2})}
    judge(report, [1], [1], Outcomes(), [Mailbox(mail(1), mail(1))], log, known)  # type: ignore[list-item]
    assert (report.faults, report.explained[UNHEARD]) == ([], 1)


def test_the_judge_looks_at_octets_and_refusals() -> None:
    report, told = Report(1), Outcomes()
    told.note(1, 550, "5.7.1 no", past_dot=True)
    box = Mailbox(mail(1).replace(b"chaos", b"Chaos"))
    judge(report, [1], [1], told, [box], "x status=bounced", {1: Counter([DELIVERED])})  # type: ignore[list-item]
    assert [fault.split(" ")[0] for fault in report.faults] == ["refused", "bounced:", "mail"]
