"""When memory is given back: once for a crowd, after most of it has left."""

from gateway.smtp.ebb import CROWD, Ebb


def test_a_crowd_comes_and_goes() -> None:
    ebb = Ebb()
    assert [ebb.seen(number) for number in (0, CROWD, CROWD * 2, CROWD, CROWD // 2 + 1)] == [False] * 5
    assert ebb.seen(CROWD // 2)
    assert not ebb.seen(0), "what is left is no crowd"
    assert not ebb.seen(CROWD - 1)
    assert not ebb.seen(0)
    assert not ebb.seen(CROWD)
    assert ebb.seen(0)


def test_a_c_library_without_it() -> None:
    ebb = Ebb()
    ebb._trim = None
    ebb.seen(CROWD)
    assert ebb.seen(0)
