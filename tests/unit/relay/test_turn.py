"""How long one host may take: the table."""

import pytest

from gateway.relay.turn import Turn

START = 1000.0


@pytest.mark.parametrize(
    ("left", "others", "line", "opening", "first", "step"),
    [
        # Of two minutes, with nobody else to ask: whatever is left; only what is surely dead is given up.
        (120, 0, 120, 30, 20, None),
        (120, 1, 20, 30, 20, 20),
        (120, 2, 20, 30, 20, 20),
        (120, 3, 15, 24, 15, 15),
        (120, 9, 6, 120 / 11, 6, 6),  # ten hosts at most: five seconds for a reply are still allowed
        (30, 0, 30, 15, 15, None),  # a question about a recipient
        (30, 1, 7.5, 10, 7.5, 7.5),
        (1, 1, 0.25, 1 / 3, 0.25, 0.25),
        (0, 0, 0, 0, 0, None),
        (-1, 1, 0, 0, 0, 0),  # too late is now, not in the past
    ],
)
def test_a_turn(left: float, others: int, line: float, opening: float, first: float, step: float | None) -> None:
    turn = Turn(START + left, others)
    assert turn.line(START) == pytest.approx(START + line)
    assert turn.opening(START) == pytest.approx(START + opening)
    assert turn.first(START) == pytest.approx(START + first)
    found = turn.step(START)
    assert found == (None if step is None else pytest.approx(START + step))


@pytest.mark.parametrize("others", range(1, 10))
def test_a_host_silent_from_any_step_leaves_the_next_more_than_half(others: int) -> None:
    for left in (0.5, 5.0, 30.0, 120.0, 300.0):
        turn = Turn(START + left, others)
        for silent in (turn.line(START), turn.opening(START), turn.first(START), turn.step(START)):
            assert silent is not None
            assert turn.deadline - silent >= left / 2
        # A kept connection that is silent, and the new one as well.
        again = turn.opening(turn.first(START))
        assert turn.deadline - again >= left / 2


@pytest.mark.parametrize(("left", "seconds"), [(120, 5), (10, 5), (4, 2), (0, 0)])
def test_the_reply_to_rset_is_not_waited_for_to_the_end(left: float, seconds: float) -> None:
    assert Turn(START + left).reset(START) == START + seconds
