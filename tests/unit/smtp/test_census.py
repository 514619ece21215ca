"""Counts over several workers, a dead one's row, and networks."""

import os
from collections.abc import Iterator

import pytest

from gateway.smtp.census import Census, canonical, network, octets


@pytest.fixture
def table() -> Iterator[int]:
    descriptor = os.memfd_create("census")
    yield descriptor
    os.close(descriptor)


def test_workers_see_each_others_connections(table: int) -> None:
    one, two = Census(table, 0, 2), Census(table, 1, 2)
    one.take("192.0.2.1")
    two.take("192.0.2.200")
    two.take("2001:db8::1")
    assert one.total() == two.total() == 3
    assert one.from_network("192.0.2.77") == two.from_network("192.0.2.77") == 2
    assert one.from_network("2001:db8::ffff") == 1
    assert one.from_network("198.51.100.1") == 0
    two.release("192.0.2.200")
    assert (one.total(), one.from_network("192.0.2.1")) == (2, 1)


def test_a_dead_workers_row_is_zeroed_by_its_successor(table: int) -> None:
    one, two = Census(table, 0, 2), Census(table, 1, 2)
    one.take("192.0.2.1")
    two.take("192.0.2.1")
    Census(table, 1, 2)
    assert (one.total(), one.from_network("192.0.2.1")) == (1, 1)


def test_the_supervisor_may_zero_any_row(table: int) -> None:
    os.ftruncate(table, octets(2))
    one, two = Census(table, 0, 2), Census(table, 1, 2)
    one.take("192.0.2.1")
    two.take("192.0.2.1")
    os.pwrite(table, bytes(octets(1)), 0)
    assert (two.total(), two.from_network("192.0.2.1")) == (1, 1)
    successor = Census(table, 0, 2)  # the key survives in the other row
    assert successor.from_network("192.0.2.1") == 1


def test_a_release_too_many_is_no_negative_count() -> None:
    census = Census.alone()
    census.release("192.0.2.1")
    assert (census.total(), census.from_network("192.0.2.1")) == (0, 0)


def test_many_networks_keep_apart() -> None:
    census = Census.alone()
    for number in range(2000):
        census.take(f"10.{number // 256}.{number % 256}.1")
    assert census.total() == 2000
    assert max(census.from_network(f"10.{number // 256}.{number % 256}.9") for number in range(2000)) <= 4


def test_keys_differ_between_starts() -> None:
    assert len({Census.alone()._cells("192.0.2.1") for _ in range(8)}) > 1


@pytest.mark.parametrize("row", [-1, 2])
def test_rows_must_exist(table: int, row: int) -> None:
    with pytest.raises(ValueError, match="no row"):
        Census(table, row, 2)


def test_networks() -> None:
    assert network("192.0.2.77") == "192.0.2.0/24"
    assert network("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("::1") == "::/64"


def test_addresses_in_one_form() -> None:
    assert canonical("::ffff:192.0.2.7") == "192.0.2.7"
    assert canonical("192.0.2.7") == "192.0.2.7"
    assert canonical("fe80::1%eth0") == "fe80::1"
    assert canonical("2001:db8::1") == "2001:db8::1"


def test_memory_of_all_workers(table: int) -> None:
    one, two = Census(table, 0, 2), Census(table, 1, 2)
    one.hold(1, "192.0.2.1")
    assert two.held() == 1024  # what is published is rounded, what is counted is not
    assert one.held() == 1
    one.hold(1023, "192.0.2.1")
    assert two.held() == 1024
    two.hold(5000, "192.0.2.1")
    assert one.held() == 1024 + 5120
    one.hold(-1024, "192.0.2.1")
    two.hold(-5000, "192.0.2.1")
    assert one.held() == 0


def test_memory_of_a_network(table: int) -> None:
    one, two = Census(table, 0, 2), Census(table, 1, 2)
    one.hold(1500, "192.0.2.1")
    one.hold(100, "192.0.2.200")
    two.hold(3000, "192.0.2.7")
    one.hold(700, "2001:db8::1")
    assert (one.held_by("192.0.2.9"), two.held_by("192.0.2.9")) == (1600 + 3072, 2048 + 3000)
    assert (one.held_by("2001:db8::2"), two.held_by("2001:db8::2")) == (700, 1024)
    assert one.held_by("198.51.100.1") == 0
    one.hold(-1600, "192.0.2.1")
    two.hold(-3000, "192.0.2.1")
    one.hold(-700, "2001:db8::1")
    assert not any(census.held_by(ip) for census in (one, two) for ip in ("192.0.2.1", "2001:db8::1"))
    assert not one._holders


def test_connections_and_memory_are_counted_apart(table: int) -> None:
    census = Census(table, 0, 1)
    for number in range(200):
        census.hold(2048, f"192.0.{number}.1")
    assert census.from_network("192.0.2.1") == census.total() == 0
    census.take("192.0.2.1")
    assert (census.from_network("192.0.2.1"), census.held_by("192.0.2.1")) == (1, 2048)
