"""A short storm of `make chaos`, and the parts that judge it."""

from pathlib import Path

import pytest

from tests.chaos.run import Report, _judge, chaos
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


@pytest.mark.parametrize(
    ("mails", "in_doubt", "fault"),
    [
        ((1, 2), {}, ""),
        ((1,), {}, "LOST: 1 mails that were answered 250: [2]"),
        ((1, 2, 2), {}, "mail 2 came 2 times, 0 open outcomes explain less"),
        ((1, 2, 2), {2: 1}, ""),
        ((1, 2, 2, 2), {2: 1}, "mail 2 came 3 times, 1 open outcomes explain less"),
    ],
)
def test_the_judge_is_strict(mails: tuple[int, ...], in_doubt: dict[int, int], fault: str) -> None:
    report, told = Report(2), Outcomes()
    told.answered |= {1, 2}
    told.in_doubt.update(in_doubt)
    box = Mailbox(*(mail(number) for number in mails))
    _judge(report, [1, 2], [], told, [box], "", [])  # type: ignore[list-item]
    assert report.faults == ([fault] if fault else [])


def test_the_judge_looks_at_octets_and_refusals() -> None:
    report, told = Report(1), Outcomes()
    told.note(1, 550, "5.7.1 no", past_dot=True)
    _judge(report, [1], [1], told, [Mailbox(mail(1).replace(b"chaos", b"Chaos"))], "x status=bounced", [])  # type: ignore[list-item]
    assert [fault.split(" ")[0] for fault in report.faults] == ["refused", "bounced:", "mail"]
