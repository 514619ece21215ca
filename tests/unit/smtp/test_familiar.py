"""Who is no stranger: by network, for a day, within bounds."""

from gateway.smtp.familiar import KEEP_SECONDS, MOST, Familiar


def test_a_network_is_known_for_a_while() -> None:
    familiar = Familiar()
    assert not familiar.knows("192.0.2.7", 0)
    familiar.met("192.0.2.7", 0)
    assert familiar.knows("192.0.2.200", KEEP_SECONDS - 1)
    assert not familiar.knows("192.0.3.7", 1)
    assert not familiar.knows("192.0.2.7", KEEP_SECONDS)
    familiar.met("2001:db8::1", 0)
    assert familiar.knows("2001:db8::2", 1)


def test_who_was_met_longest_ago_is_forgotten_first() -> None:
    familiar = Familiar()
    familiar.met("192.0.2.7", 0)
    for number in range(MOST - 1):
        familiar.met(f"10.{number >> 8}.{number & 255}.1", 1)
    familiar.met("192.0.2.7", 2)
    familiar.met("198.51.100.1", 3)
    assert familiar.knows("192.0.2.7", 4)
    assert not familiar.knows("10.0.0.1", 4)
