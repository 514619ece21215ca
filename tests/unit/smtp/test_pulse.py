"""When a worker is busy, and when at ease again: beats by table."""

from gateway.smtp.pulse import EASE_BEATS, LONGEST_SECONDS, Pulse


def test_one_late_beat_is_nothing_two_are_busy() -> None:
    pulse = Pulse()
    assert not pulse.beat(0.5, 0.0)
    assert not pulse.beat(0.01, 0.1)
    assert not pulse.beat(0.5, 0.2)
    assert pulse.beat(0.5, 0.3)
    assert pulse.busy


def test_a_very_late_one_is_busy_at_once() -> None:
    pulse = Pulse()
    assert pulse.beat(1.5, 0.0)
    assert pulse.busy


def test_at_ease_after_a_row_of_beats_in_time() -> None:
    pulse = Pulse()
    pulse.beat(1.5, 0.0)
    for beat in range(EASE_BEATS - 1):
        assert not pulse.beat(0.0, 0.1 * beat)
    assert not pulse.beat(0.1, 0.5)  # neither late nor in time: the row begins anew
    for beat in range(EASE_BEATS - 1):
        assert not pulse.beat(0.0, 0.6 + 0.1 * beat)
    assert pulse.beat(0.0, 1.2)
    assert not pulse.busy


def test_never_shut_for_long() -> None:
    pulse = Pulse()
    pulse.beat(1.5, 0.0)
    assert not pulse.beat(1.5, LONGEST_SECONDS)
    assert pulse.beat(1.5, LONGEST_SECONDS + 1)
    assert not pulse.busy
