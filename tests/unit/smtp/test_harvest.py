"""Guessed recipients: what a miss costs, by network and time."""

from gateway.mail.reply import Reply
from gateway.smtp.harvest import DECAY_SECONDS, FREE_MISSES, LONGEST_SECONDS, MOST_MISSES, Harvest

UNKNOWN = Reply(550, "5.1.1", ("No such user",))
OK = Reply(250, "2.1.5", ("OK",))


def misses(harvest: Harvest, count: int, ip: str = "192.0.2.7", now: float = 0.0) -> list[float | None]:
    return [harvest.heard(ip, UNKNOWN, now) for _ in range(count)]


def test_a_few_are_free_then_each_waits_twice_as_long_then_the_end() -> None:
    harvest = Harvest()
    held = misses(harvest, MOST_MISSES + 1)
    assert held[:FREE_MISSES] == [0.0] * FREE_MISSES
    assert held[FREE_MISSES : FREE_MISSES + 4] == [0.25, 0.5, 1.0, 2.0]
    assert held[MOST_MISSES - 1] == LONGEST_SECONDS
    assert held[MOST_MISSES] is None


def test_another_connection_of_the_network_goes_on_where_the_last_one_ended() -> None:
    harvest = Harvest()
    misses(harvest, MOST_MISSES)
    assert misses(harvest, 1, "192.0.2.200") == [None]
    assert misses(harvest, 1, "198.51.100.7") == [0.0]


def test_time_and_hits_forgive() -> None:
    harvest = Harvest()
    misses(harvest, MOST_MISSES)
    assert misses(harvest, 1, now=DECAY_SECONDS * MOST_MISSES) == [0.0]
    misses(harvest, FREE_MISSES, now=DECAY_SECONDS * MOST_MISSES)
    for _ in range(3):
        assert harvest.heard("192.0.2.7", OK, DECAY_SECONDS * MOST_MISSES) == 0.0
    assert misses(harvest, 1, now=DECAY_SECONDS * MOST_MISSES) == [0.0]


def test_only_unknown_recipients_count() -> None:
    harvest = Harvest()
    for reply in (
        OK,
        Reply(550, "5.7.1", ("Policy",)),
        Reply(451, "4.1.1", ("Later",)),
        Reply(552, "5.2.2", ("Full",)),
    ):
        assert [harvest.heard("192.0.2.7", reply, 0.0) for _ in range(50)] == [0.0] * 50


def test_the_memory_is_bounded() -> None:
    harvest = Harvest()
    for number in range(11_000):
        harvest.heard(f"10.{number >> 8}.{number & 255}.1", UNKNOWN, 0.0)
    assert len(harvest._levels) == 10_000
