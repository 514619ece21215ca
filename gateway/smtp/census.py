"""What clients take of us, over all workers: connections, in all and from each network, and memory for their mail.

Each worker has a row that it alone writes and all read, so no lock is needed, and a worker that dies leaves only its
own row wrong: the supervisor zeroes it, and its successor does so again on joining. A row holds the worker's total,
the memory of its messages, and for connections and for memory two small tables of counters each. A network (/24 or
/64) counts in one cell of both, by a hash with a key that is new at every start, and its number is the lesser of the
two sums: a stranger cannot choose addresses that fill another's cells, and chance collisions need to happen twice.

The supervisor makes the memory (a memfd of `octets(workers)`) and hands it to all workers. Called by `server`.
The bounds are soft by one connection, or one piece of a message, a worker: two may count at the same instant.
"""

import fcntl
import functools
import hashlib
import ipaddress
import mmap
import os
import secrets

_KEY = 16  # octets; every row begins with the same key, so that it outlives any row's zeroing
_CELLS = 8192  # counters a table
_TOTAL = _KEY // 4  # where a row's counters begin, in words of 32 bit
_MEMORY = _TOTAL + 1  # in units of 1 KiB, rounded up: 4 TiB a worker
_FIRST_CELL = _MEMORY + 1
_MEMORY_CELLS = 2 * _CELLS  # from a network's cell for connections to the one for memory
_REMEMBERED = 4096  # addresses whose cells are at hand
_WIDTH = _FIRST_CELL + 4 * _CELLS  # words of a row


def octets(workers: int) -> int:
    """The size of the table for so many workers; each has an equal part of it, in order."""
    return 4 * _WIDTH * workers


class Census:
    """The table as worker `row` of `rows` sees it."""

    def __init__(self, descriptor: int, row: int, rows: int) -> None:
        """Joins the table behind `descriptor` (a memfd, which stays the caller's) and zeroes the worker's row."""
        if not 0 <= row < rows:
            raise ValueError(f"there is no row {row} of {rows}")
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_size < octets(rows):
                os.ftruncate(descriptor, octets(rows))
            keys = (os.pread(descriptor, _KEY, octets(other)) for other in range(rows))
            self._key = next(filter(any, keys), None) or secrets.token_bytes(_KEY)
            os.pwrite(descriptor, self._key + bytes(octets(1) - _KEY), octets(row))
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        # A client's cells are asked for some eight times a mail.
        self._cells = functools.lru_cache(maxsize=_REMEMBERED)(self._hashed)
        self._counters = memoryview(mmap.mmap(descriptor, octets(rows))).cast("I")
        self._mine = row * _WIDTH
        self._rows = range(0, rows * _WIDTH, _WIDTH)
        self._others = [row for row in self._rows if row != self._mine]
        self._octets = 0  # of this worker's messages, exactly
        self._holders: dict[str, int] = {}  # the same by network, of those that have any

    @classmethod
    def alone(cls) -> "Census":
        """A table for a process that has no colleagues."""
        descriptor = os.memfd_create("census")
        try:
            return cls(descriptor, 0, 1)
        finally:
            os.close(descriptor)

    def take(self, ip: str) -> None:
        """Counts a connection from `ip`."""
        self._add(ip, 1)

    def release(self, ip: str) -> None:
        """A connection that was counted has ended."""
        self._add(ip, -1)

    def total(self) -> int:
        """All connections of all workers."""
        return sum(self._counters[row + _TOTAL] for row in self._rows)

    def from_network(self, ip: str) -> int:
        """Connections from the network of `ip`, over all workers; by a rare collision more than there are."""
        first, second = self._cells(ip)
        counters, rows = self._counters, self._rows
        return min(sum(counters[row + first] for row in rows), sum(counters[row + second] for row in rows))

    def hold(self, octets: int, ip: str) -> None:
        """Counts octets of a client's messages that this worker keeps from now on; below zero it gave them back."""
        self._octets += octets
        self._counters[self._mine + _MEMORY] = _kibibytes(self._octets)
        name = network(ip)
        before = self._holders.get(name, 0)
        now = self._holders[name] = before + octets
        if not now:
            del self._holders[name]
        if step := _kibibytes(now) - _kibibytes(before):
            for cell in self._cells(ip):
                self._counters[self._mine + _MEMORY_CELLS + cell] += step

    def held(self) -> int:
        """Octets of messages that all workers keep, to the next KiB of each other worker."""
        return self._octets + 1024 * sum(self._counters[row + _MEMORY] for row in self._others)

    def held_by(self, ip: str) -> int:
        """The same of the network of `ip` alone; by a rare collision more than there are."""
        counters, others = self._counters, self._others
        first, second = (sum(counters[row + _MEMORY_CELLS + cell] for row in others) for cell in self._cells(ip))
        return self._holders.get(network(ip), 0) + 1024 * min(first, second)

    def _add(self, ip: str, step: int) -> None:
        for cell in (_TOTAL, *self._cells(ip)):
            at = self._mine + cell
            self._counters[at] = max(0, self._counters[at] + step)

    def _hashed(self, ip: str) -> tuple[int, int]:
        digest = hashlib.blake2b(network(ip).encode("ascii"), digest_size=8, key=self._key).digest()
        value = int.from_bytes(digest, "big")
        return _FIRST_CELL + value % _CELLS, _FIRST_CELL + _CELLS + (value >> 32) % _CELLS


def _kibibytes(octets: int) -> int:
    return -(-octets // 1024)


def network(ip: str) -> str:
    """The /24 or /64 that counts as one client: "192.0.2.0/24", "2001:db8::/64"."""
    if ":" not in ip:
        return f"{ip.rpartition('.')[0]}.0/24"
    prefix = int(ipaddress.IPv6Address(ip.partition("%")[0])) >> 64 << 64
    return f"{ipaddress.IPv6Address(prefix)}/64"


def canonical(ip: str) -> str:
    """IPv4 in IPv6 as IPv4 (a dual-stack listener must not change who the client is); no zone index."""
    return ip.removeprefix("::ffff:") if "." in ip else ip.partition("%")[0]
