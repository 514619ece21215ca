"""When memory is given back: once for a crowd, after most of it has left."""

from gateway.smtp.ebb import CROWD, Ebb


def looks(ebb: Ebb, connections: int) -> bool:
    """Connections come or go until there are so many; then a look."""
    while ebb._inside < connections:
        ebb.came()
    while ebb._inside > connections:
        ebb.went()
    return ebb.look()


def test_a_crowd_comes_and_goes() -> None:
    ebb = Ebb()
    assert [looks(ebb, number) for number in (0, CROWD, CROWD * 2, CROWD, CROWD // 2 + 1)] == [False] * 5
    assert looks(ebb, CROWD // 2)
    assert not looks(ebb, 0), "what is left is no crowd"
    assert not looks(ebb, CROWD - 1)
    assert not looks(ebb, 0)
    assert not looks(ebb, CROWD)
    assert looks(ebb, 0)


def test_a_crowd_between_two_looks() -> None:
    ebb = Ebb()
    for _ in range(CROWD):
        ebb.came()
    for _ in range(CROWD):
        ebb.went()
    assert ebb.look()


def test_a_c_library_without_it() -> None:
    ebb = Ebb()
    ebb._trim = None
    looks(ebb, CROWD)
    assert looks(ebb, 0)
