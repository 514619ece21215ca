"""What strangers can have us log: first lines at once, then counts, and never more lines than were promised."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import metrics
from gateway.smtp.troubles import KINDS, MINUTE, Troubles

Logs = list[Any]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as captured:
        yield captured


def test_the_first_is_told_at_once_and_the_rest_of_its_network_counted(logs: Logs) -> None:
    clock = Clock()
    troubles = Troubles(clock)
    for last in range(100):
        troubles.tell("TLS handshake failed", f"192.0.2.{last}", why="no")
    troubles.tell("TLS handshake failed", "2001:db8::1", why="no")
    troubles.tell("PROXY header refused", "192.0.2.1", warn=True)
    assert [(line["log_level"], line["event"], line["client"]) for line in logs] == [
        ("info", "TLS handshake failed", "192.0.2.0"),
        ("info", "TLS handshake failed", "2001:db8::1"),
        ("warning", "PROXY header refused", "192.0.2.1"),
    ]
    del logs[:]
    clock.time += MINUTE - 1
    troubles.look()
    assert not logs
    clock.time += 1
    troubles.look()
    assert logs == [
        {"log_level": "info", "event": "TLS handshake failed", "network": "192.0.2.0/24", "more": 99, "seconds": 60}
    ]
    troubles.tell("TLS handshake failed", "192.0.2.7", why="again")  # a new minute
    assert logs[-1]["client"] == "192.0.2.7"


def test_a_minute_begins_with_its_first_line(logs: Logs) -> None:
    clock = Clock()
    troubles = Troubles(clock)
    clock.time += 10 * MINUTE
    troubles.tell("TLS handshake failed", "192.0.2.1")
    troubles.tell("TLS handshake failed", "192.0.2.1")
    assert len(logs) == 1


def test_many_networks_share_a_line(logs: Logs) -> None:
    clock = Clock()
    troubles = Troubles(clock)
    for index in range(5000):
        for _ in range(2):
            troubles.tell("TLS handshake failed", f"10.{index // 256}.{index % 256}.1")
    clock.time += MINUTE
    troubles.look()
    assert len(logs) == 2 * KINDS + 1
    assert logs[-1]["network"] == "others"
    assert logs[-1]["more"] == 2 * (5000 - KINDS)


def test_a_flood_of_one_event_does_not_hide_the_first_of_another(logs: Logs) -> None:
    clock = Clock()
    troubles = Troubles(clock)
    for _ in range(2):  # in each minute
        for index in range(2 * KINDS):
            troubles.tell("TLS handshake failed", f"10.1.{index}.1")
        troubles.tell("recipients are guessed", "192.0.2.1", warn=True)
        assert (logs[-1]["event"], logs[-1]["client"]) == ("recipients are guessed", "192.0.2.1")
        troubles.tell("recipients are guessed", "198.51.100.1", warn=True)
        assert logs[-1]["client"] == "192.0.2.1"
        clock.time += MINUTE
        troubles.look()
        assert {line["event"]: line["more"] for line in logs if line.get("network") == "others"} == {
            "TLS handshake failed": KINDS,
            "recipients are guessed": 1,
        }


def test_what_is_counted_is_told_at_the_end_and_about_what(logs: Logs) -> None:
    troubles = Troubles(Clock())
    for about in ("a", "b", "b"):
        troubles.tell("client certificate", "192.0.2.1", about=about)
    assert len(logs) == 2
    troubles.look(ends=True)
    assert (logs[2]["more"], logs[2]["about"]) == (1, "b")
    troubles.look(ends=True)
    assert len(logs) == 3


def test_the_metric_counts_all(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    heard: list[str] = []
    monkeypatch.setattr(metrics, "trouble", heard.append)
    troubles = Troubles(Clock())
    for _ in range(7):
        troubles.tell("TLS handshake failed", "192.0.2.1")
    assert heard == ["TLS handshake failed"] * 7
