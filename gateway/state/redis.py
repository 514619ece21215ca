"""The store of several gateways: one Redis. The only file that imports its client.

Every operation is one Lua script, which Redis runs alone, so the greylist's step is atomic over all gateways. Times
are the gateways' own and travel in the arguments: the clocks must agree to a few seconds, as everywhere in mail.

Sockets wait a quarter of a second for a connection and for an answer. A connection that has died while idle is
replaced once without a word; then, and on any other error, it is `Unavailable`, and for a moment every call fails at
once (`breaker`); what Redis refuses (no memory, a replica) is that call's failure alone. Calls are made by threads of
the store (`ask`), at most four at a time. A Redis that comes back empty, or that evicts, costs senders one retry. TLS
is verified, name and chain; there is no way to switch that off.

Not for Redis Cluster: the keys belong together.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from ssl import TLSVersion
from typing import Any, cast

import orjson
from redis import ConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from gateway import config
from gateway.clock import Clock
from gateway.state import scripts
from gateway.state.breaker import Breaker
from gateway.state.store import (
    LIMIT_SKEW,
    POLICIES,
    TRUSTED_AFTER,
    Greylisted,
    GreylistKey,
    GreylistRow,
    Limited,
    PolicyRow,
    RecipientRow,
    bounded,
)

_SECONDS = 0.25
_THREADS = 4
#: Rows that one script may remove: a millisecond.
_SLICE = 2000
#: Seconds by which a lifetime must grow to be worth a write.
_RENEWAL = 3600.0
_SCAN = 1000
#: What means something in a pattern of Redis.
_GLOB = re.compile(r"[][*?\\^]")
_EITHER = re.compile(r"[A-Za-z]")

Value = bytes | int | None


class RedisStore:
    """A `Store` in a Redis; one object a process. Making it asks nothing: mail flows while Redis is away."""

    def __init__(self, where: config.Redis, clock: Clock, *, rows: int = 200_000, seconds: float = _SECONDS) -> None:
        self.threads: Executor | None = ThreadPoolExecutor(_THREADS, thread_name_prefix="redis")
        self._rows = rows
        self._breaker = Breaker(where.redis.place, clock)
        self._redis = Redis(connection_pool=_pool(where, seconds))
        self._scripts = {name: self._redis.register_script(text) for name, text in scripts.ALL.items()}

    # The greylist

    def greylist(self, key: GreylistKey, *, now: float, wait: float, window: float, keep: float) -> Greylisted:
        window = window if window > wait else 2 * wait  # else no retry could ever be in time
        numbers = (now, wait, window, keep, self._rows, TRUSTED_AFTER, _RENEWAL)
        passed, wait_left = self._run("greylist", [key.identity, _member(key), *numbers])
        return Greylisted(passed == b"1", float(wait_left))

    def greylist_list(self, now: float, *, match: str = "", limit: int = 1000) -> list[GreylistRow]:
        found: list[GreylistRow] = []
        for identity, since, expires in self._exempt():
            row = GreylistRow(identity, "*", "*", "exempt", since, since, expires, 0)
            if expires > now and _matches(row, match):
                found.append(row)
        found.sort(key=lambda row: -row.first_seen)
        triplets = [row for row in self._triplets() if row.expires > now and _matches(row, match)]
        return (found + sorted(triplets, key=lambda row: -row.last_seen))[:limit]

    def greylist_release(self, match: str, *, now: float, keep: float) -> int:
        rows = (
            row for row in self._triplets() if row.state == "waiting" and row.expires > now and _matches(row, match)
        )
        return sum(int(self._run("release", [row.identity, _member(_key(row)), now, keep])[0]) for row in rows)

    def greylist_forget(self, match: str) -> int:
        gone = 0
        for row in self._triplets():
            if _matches(row, match):
                gone += int(self._run("forget", [row.identity, _member(_key(row))])[0])
        for identity in {match.lower(), *(kind + match.lower() for kind in ("spf:", "name:", "net:"))}:
            gone += int(self._run("pardon", [identity])[0])
        return gone

    # Rates

    def limit(self, key: str, *, now: float, rate: int, per: float) -> Limited:
        allowed, wait_left = self._run("limit", [bounded(key), now, per / rate, per, self._rows, LIMIT_SKEW])
        return Limited(allowed == b"1", float(wait_left))

    # The recipients that backends know

    def recipient(self, backend: str, address: str, now: float) -> RecipientRow | None:
        known, until = self._run("recipient", [_pair(backend, address), now])
        return RecipientRow(backend, address, known == b"yes", float(until)) if known else None

    def remember_recipient(self, backend: str, address: str, known: bool, until: float) -> None:
        self._run("remember", [_pair(backend, address), "yes" if known else "no", until, self._rows])

    def forget_recipient(self, backend: str, address: str) -> None:
        self._run("remember", [_pair(backend, address), "forget", 0, self._rows])

    def recipient_list(
        self, now: float, *, backend: str = "", match: str = "", limit: int = 1000, offset: int = 0
    ) -> list[RecipientRow]:
        found = sorted(self._recipients(now, backend, match))
        return [RecipientRow(*row) for row in found[offset : offset + limit]]

    def recipient_forget(self, now: float, *, backend: str = "", match: str = "") -> int:
        pairs = (_pair(whose, address) for whose, address, *_ in self._recipients(now, backend, match))
        gone = 0
        while some := [*itertools.islice(pairs, _SCAN)]:
            gone += int(self._run("omit", [*some])[0])
        return gone

    def _recipients(self, now: float, backend: str, match: str) -> Iterator[tuple[str, str, bool, float]]:
        """Backend, address, whether it is known, until when. Redis sieves; the last word is ours."""
        pattern = f"{_GLOB.sub(_escaped, backend) or '*'} *{_EITHER.sub(_either_case, _GLOB.sub(_escaped, match))}"
        spelt = _lower(match)
        for key, known in ((scripts.KNOWN, True), (scripts.UNKNOWN, False)):
            for pair, until in self._scanned(key, functools.partial(self._redis.zscan, match=pattern)):
                whose, _, address = pair.decode(errors="replace").partition(" ")
                matches = spelt in ("", _lower(address), address.rpartition("@")[2]) and backend in ("", whose)
                if until > now and matches:
                    yield whose, address, known, until

    # MTA-STS policies

    def policy(self, domain: str, now: float) -> PolicyRow | None:
        known, text, until = self._run("policy", [domain, now])
        return PolicyRow(known.decode(), text.decode(), float(until)) if until else None

    def remember_policy(self, domain: str, row: PolicyRow) -> None:
        self._run("remember_policy", [domain, f"{row.id} {row.text}", row.until, POLICIES])

    # Senders that we had mail from

    def sender(self, key: str, now: float) -> float | None:
        since = self._run("sender", [key, now])[0]
        return float(since) if since else None

    def remember_sender(self, key: str, *, now: float, keep: float) -> None:
        self._run("remember_sender", [key, now, keep, self._rows])

    # Bounds

    def purge(self, now: float) -> int:
        return int(self._run("purge", [now, _SLICE])[0])

    def close(self) -> None:
        if self.threads is not None:
            self.threads.shutdown(wait=False, cancel_futures=True)
        self._redis.close()

    # The wire

    def _run(self, name: str, arguments: list[str | bytes | float]) -> list[bytes]:
        """One script; its answer is a list of texts."""
        texts = [_text(each) for each in arguments]
        return cast("list[bytes]", self._asked(name, lambda: self._scripts[name](keys=scripts.KEYS, args=texts)))

    def _asked(self, call: str, ask: Callable[[], object]) -> object:
        self._breaker.enter(call)
        try:
            answer = ask()
        except ResponseError as refusal:
            if isinstance(refusal, ReadOnlyError):  # a failover: the name leads to another one by now
                self._redis.connection_pool.disconnect(inuse_connections=False)
            raise self._breaker.refused(call, refusal) from refusal
        except (RedisError, OSError, UnicodeError) as error:  # UnicodeError: what the client makes of some host names
            raise self._breaker.failed(call, error) from error
        self._breaker.worked(call)
        return answer

    def _triplets(self) -> Iterator[GreylistRow]:
        for member, row in self._scanned(scripts.GREYLIST, self._redis.hscan):
            try:
                identity, sender, recipient = orjson.loads(member)
                first, last, expires, attempts, passes = (float(each) for each in row.split())
            except ValueError:  # not ours: the scripts take it for absent, too
                continue
            state = "passed" if passes else "waiting"
            yield GreylistRow(identity, sender, recipient, state, first, last, expires, int(attempts))

    def _exempt(self) -> Iterator[tuple[str, float, float]]:
        for identity, row in self._scanned(scripts.EXEMPT, self._redis.hscan):
            with suppress(ValueError):
                since, expires = (float(each) for each in row.split())
                yield identity.decode(), since, expires

    def _scanned(self, key: str, scan: Callable[..., Any]) -> Iterator[tuple[bytes, Any]]:
        """Every field of a hash, every member of a sorted set, once: a slice at a time, not to hold Redis up."""
        cursor, seen = 0, set[bytes]()
        while True:
            cursor, rows = cast("Any", self._asked("scan", functools.partial(scan, key, cursor, count=_SCAN)))
            for name, value in rows.items() if isinstance(rows, dict) else rows:
                if name not in seen:
                    seen.add(name)
                    yield name, value
            if not cursor:
                return


def _pool(where: config.Redis, seconds: float) -> ConnectionPool:
    url = where.redis
    tls: dict[str, Any] = {}  # as the client's own keywords are typed
    if url.tls:
        tls = {"connection_class": SSLConnection, "ssl_min_version": TLSVersion.TLSv1_2}
        tls |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_data": where.authorities or None}
    return ConnectionPool(
        host=url.host,
        port=url.port,
        db=url.database,
        username=url.user or None,
        password=where.password or None,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        # Its own habit is ten seconds of retries. Once, and only where the connection had died: what hangs, hangs.
        retry=Retry(NoBackoff(), 1, supported_errors=(Lost,)),
        **tls,
    )


def _text(value: str | bytes | float) -> str | bytes:
    return repr(value) if isinstance(value, int | float) else value


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _either_case(found: re.Match[str]) -> str:
    return f"[{found[0].lower()}{found[0].upper()}]"


def _lower(text: str) -> str:
    """As SQLite's NOCASE: ASCII alone."""
    return _EITHER.sub(lambda found: found[0].lower(), text)


def _member(key: GreylistKey) -> bytes:
    return orjson.dumps([key.identity, key.sender, key.recipient])


def _key(row: GreylistRow) -> GreylistKey:
    return GreylistKey(row.identity, row.sender, row.recipient)


def _pair(backend: str, address: str) -> str:
    return f"{backend} {bounded(address)}"


def _matches(row: GreylistRow, match: str) -> bool:
    """As SQLite's `_MATCH` does: the identity with or without its kind, an address, or a domain."""
    word = match.lower()
    return not word or word in (
        row.identity,
        row.identity.partition(":")[2],
        row.sender,
        row.recipient,
        row.sender.rpartition("@")[2],
        row.recipient.rpartition("@")[2],
    )
