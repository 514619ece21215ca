"""The Redis store: the same tests as SQLite's where both must agree, two gateways on one Redis, and Redis away."""

import asyncio
import contextlib
import signal
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import config, metrics
from gateway.cli.testca import TestCa
from gateway.clock import ManualClock
from gateway.config.state import parse_url
from gateway.mail.terms import Unavailable
from gateway.state import store as face
from gateway.state.redis import RedisStore
from gateway.state.store import TRUSTED_AFTER, Greylisted, PolicyRow, RecipientRow, Store, ask
from tests.support.redis import RedisServer, redis_server
from tests.unit.state.test_limit import against_the_law
from tests.unit.state.test_limit import (
    test_a_clock_set_back_and_a_rule_made_tighter_lock_nobody_out as test_limit_clock,
)
from tests.unit.state.test_limit import test_a_key_may_be_anything as test_limit_key
from tests.unit.state.test_limit import test_a_refused_attempt_counts_nothing as test_limit_refused
from tests.unit.state.test_limit import test_as_many_as_the_rate_at_once_and_then_an_even_pace as test_limit_pace
from tests.unit.state.test_limit import test_clocks_that_differ_a_little_loosen_nothing as test_limit_skew
from tests.unit.state.test_limit import test_keys_do_not_know_each_other as test_limit_keys
from tests.unit.state.test_limit import test_one_in_a_while as test_limit_one
from tests.unit.state.test_limit import test_purge_removes_what_is_free_again as test_limit_purge
from tests.unit.state.test_sqlite import (
    KEEP,
    NOW,
    WAIT,
    against_the_model,
    attempt,
    steps,
    test_a_clock_set_back_does_not_make_anybody_wait_longer,
    test_a_retry_after_the_window_starts_anew,
    test_a_window_shorter_than_the_wait_still_lets_somebody_pass,
    test_an_identity_that_passed_enough_is_exempt_until_unused_for_keep,
    test_forget_takes_the_exemption,
    test_list_release_forget,
    test_many_recipients_are_forgotten_in_slices,
    test_policies,
    test_purge_removes_what_expired,
    test_recipients,
    test_recipients_are_listed_and_forgotten,
    test_senders,
    test_the_life_of_a_triplet,
    test_the_same_triplet_five_times_earns_no_exemption,
)

__all__ = [
    "test_a_clock_set_back_does_not_make_anybody_wait_longer",
    "test_a_retry_after_the_window_starts_anew",
    "test_a_window_shorter_than_the_wait_still_lets_somebody_pass",
    "test_an_identity_that_passed_enough_is_exempt_until_unused_for_keep",
    "test_forget_takes_the_exemption",
    "test_limit_clock",
    "test_limit_key",
    "test_limit_keys",
    "test_limit_one",
    "test_limit_pace",
    "test_limit_purge",
    "test_limit_refused",
    "test_limit_skew",
    "test_list_release_forget",
    "test_many_recipients_are_forgotten_in_slices",
    "test_policies",
    "test_purge_removes_what_expired",
    "test_recipients",
    "test_recipients_are_listed_and_forgotten",
    "test_senders",
    "test_the_life_of_a_triplet",
    "test_the_same_triplet_five_times_earns_no_exemption",
]

Open = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def where(url: str, **files: Path) -> config.Redis:
    made = config.Redis.model_construct(redis=parse_url(url), **files)
    made._password = made.redis.password
    return made


@contextlib.contextmanager
def opened(url: str, **keywords: int) -> Iterator[RedisStore]:
    store = RedisStore(where(url), ManualClock(NOW), **keywords)
    with contextlib.closing(store):
        yield store


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    with contextlib.closing(client.Redis(port=shared.port)) as raw:
        raw.flushall()
    return shared


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    with opened(server.url) as made:
        yield made


@settings(max_examples=60, deadline=None)
@given(taken=steps)
def test_it_is_the_model(shared: RedisServer, taken: list[tuple[float, int]]) -> None:
    with opened(shared.url) as store, contextlib.closing(client.Redis(port=shared.port)) as raw:
        raw.flushall()
        against_the_model(store, taken)


@settings(max_examples=40, deadline=None)
@given(rate=st.integers(1, 5), pauses=st.lists(st.sampled_from([0.0, 0.1, 3.0, 10.0, 60.0, 200.0]), max_size=60))
def test_the_law_of_rates(shared: RedisServer, rate: int, pauses: list[float]) -> None:
    with opened(shared.url) as store, contextlib.closing(client.Redis(port=shared.port)) as raw:
        raw.flushall()
        against_the_law(store, rate, pauses)


def test_two_gateways_share_greylist_rates_and_recipients(server: RedisServer) -> None:
    with opened(server.url) as one, opened(server.url) as other:
        assert not attempt(one, 0).passed
        assert attempt(other, 100) == Greylisted(False, WAIT - 100)
        assert attempt(other, WAIT).passed
        assert attempt(one, WAIT + 1).passed
        one.remember_recipient("main", "b@y.example", False, NOW + 10)
        assert other.recipient("main", "b@y.example", NOW) == RecipientRow("main", "b@y.example", False, NOW + 10)
        other.forget_recipient("main", "b@y.example")
        assert one.recipient("main", "b@y.example", NOW) is None
        assert [each.limit("k", now=NOW, rate=2, per=60.0).allowed for each in (one, other, one)] == [True, True, False]
        for number in range(TRUSTED_AFTER):
            attempt(one, 0, sender=f"{number}@x.example")
            attempt(other, WAIT, sender=f"{number}@x.example")
        assert attempt(one, WAIT, sender="never seen").passed


def test_many_at_once_lose_no_attempt(server: RedisServer) -> None:
    results: list[Greylisted] = []
    allowed: list[bool] = []

    def work() -> None:
        with opened(server.url) as mine:
            for number in range(60):
                results.append(attempt(mine, 0, sender=str(number % 3)))
                allowed.append(mine.limit("k", now=NOW, rate=50, per=3600.0).allowed)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 240
    assert not any(result.passed for result in results)
    assert sum(allowed) == 50
    with opened(server.url) as store:
        assert [row.attempts for row in store.greylist_list(NOW)] == [80, 80, 80]


def keys_and_rows(server: RedisServer) -> dict[str, int]:
    """How many members each key holds; those of identities summed."""
    found: dict[str, int] = {}
    with contextlib.closing(client.Redis(port=server.port, decode_responses=True)) as raw:
        for key in raw.scan_iter():
            size = raw.hlen(key) if raw.type(key) == "hash" else raw.zcard(key)
            name = "trusted" if ":trusted:" in key else key.removeprefix("gatepost:")
            found[name] = found.get(name, 0) + size
    return found


def test_a_flood_is_bounded_and_spares_those_that_passed(server: RedisServer) -> None:
    with opened(server.url, rows=100) as store:
        attempt(store, 0)
        attempt(store, WAIT)
        for _ in range(10):
            store.limit("limited", now=NOW, rate=10, per=60.0)
        for number in range(500):
            attempt(store, WAIT, sender=f"flood-{number}")
            store.limit(f"flood-{number}", now=NOW, rate=10, per=60.0)
            store.remember_recipient("main", f"{number}@y.example", number % 2 == 0, NOW + number)
        assert keys_and_rows(server) == {
            "greylist": 101, "waiting": 100, "passed": 1, "trusted": 1, "rate": 100, "known": 100, "unknown": 100,
        }  # fmt: skip
        assert attempt(store, WAIT + 1).passed
        assert not store.limit("limited", now=NOW, rate=10, per=60.0).allowed


def test_those_that_passed_are_bounded_with_all_that_hangs_on_them(server: RedisServer) -> None:
    with opened(server.url, rows=20) as store:
        for number in range(60):
            for at in (0, WAIT):
                attempt(store, at + number, identity=f"i{number}")
        assert keys_and_rows(server) == {"greylist": 20, "passed": 20, "trusted": 20}
        assert store.purge(NOW + 2 * KEEP) == 20
        assert keys_and_rows(server) == {}


def test_a_redis_that_was_replaced_by_an_empty_one_is_met_without_a_word(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, opened(server.url) as store:
        attempt(store, 0)
        server.kill()
        server.start()
        assert attempt(store, WAIT) == Greylisted(False, WAIT)  # the connection had died, and the script was unknown


def test_away_from_the_start_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(metrics, "state_error", counted.append)
    with redis_server(tmp_path) as server:
        server.kill()
        clock = ManualClock(NOW)
        with contextlib.closing(RedisStore(where(server.url), clock)) as store, capture_logs() as logs:
            with pytest.raises(Unavailable, match=r"redis://127\.0\.0\.1:.*refused"):
                attempt(store, 0)
            with pytest.raises(Unavailable, match="failed a moment ago"):
                attempt(store, 0)
            server.start()
            clock.advance(1)
            assert not attempt(store, 0).passed
    assert [line["event"].partition(",")[0] for line in logs] == ["state unavailable", "state works again"]
    assert counted == ["greylist", "greylist"]


@pytest.mark.parametrize("known", [False, True], ids=["at connect", "at a known connection"])
def test_a_redis_that_hangs_costs_one_bounded_wait_and_then_none(tmp_path: Path, known: bool) -> None:
    with redis_server(tmp_path) as server:
        clock = ManualClock(NOW)
        with contextlib.closing(RedisStore(where(server.url), clock)) as store:
            if known:
                attempt(store, 0)
            server.signal(signal.SIGSTOP)
            with pytest.raises(Unavailable, match=r"(?i)time"):
                attempt(store, 0)
            with pytest.raises(Unavailable, match="failed a moment ago"):
                attempt(store, 0)
            server.signal(signal.SIGCONT)
            clock.advance(1)
            assert not attempt(store, 0).passed


def test_the_event_loop_goes_on_while_redis_hangs(tmp_path: Path) -> None:
    async def main(store: RedisStore) -> int:
        turns = 0
        asked = asyncio.ensure_future(ask(store, store.recipient, "main", "b@y.example", NOW))
        while not asked.done():
            await asyncio.sleep(0)
            turns += 1
        with pytest.raises(Unavailable):
            asked.result()
        return turns

    with redis_server(tmp_path) as server, opened(server.url) as store:
        server.signal(signal.SIGSTOP)
        assert asyncio.run(main(store)) > 100


def test_whatever_hangs_the_asker_does_not(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer blocks a thread in the C library: no socket's deadline applies."""
    monkeypatch.setattr(face, "PATIENCE", 0.05)
    let_go = threading.Event()

    def hang() -> None:
        let_go.wait(20)

    async def main(store: Store) -> None:
        with pytest.raises(Unavailable, match="did not answer in"):
            await ask(store, hang)

    with opened(server.url) as store:
        asyncio.run(main(store))
        let_go.set()


def test_a_password_is_needed_and_never_told(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "sesame") as server:
        with opened(server.url.replace("//", "//:sesame@")) as store:
            assert not attempt(store, 0).passed
        for wrong in (server.url, server.url.replace("//", "//:opensays@")):
            with opened(wrong) as store:
                with pytest.raises(Unavailable) as why:
                    attempt(store, 0)
                assert "opensays" not in str(why.value)


def test_a_user_of_redis_needs_no_more_rights_than_the_manual_says(tmp_path: Path) -> None:
    rights = "gate on >sesame ~gatepost:* +@read +@write +@scripting +@connection"
    with (
        redis_server(tmp_path, "--user", "default", "off", "--user", *rights.split()) as server,
        opened(server.url.replace("//", "//gate:sesame@")) as store,
    ):
        attempt(store, 0)
        assert attempt(store, WAIT).passed
        assert store.limit("k", now=NOW, rate=1, per=60.0).allowed
        store.remember_recipient("main", "b@y.example", True, NOW + 9)
        assert store.recipient("main", "b@y.example", NOW) is not None
        assert len(store.recipient_list(NOW)) == 1
        assert len(store.greylist_list(NOW)) == 1
        assert store.greylist_forget("net:192.0.2.0/24") == 1
        assert store.purge(NOW + KEEP) == 2


def test_tls_is_verified(tmp_path: Path) -> None:
    ours, other = TestCa(tmp_path), TestCa(tmp_path, "other")
    leaf = ours.issue("localhost")
    with redis_server(tmp_path / "redis", tls=leaf) as secure:
        for host, authority, works in (
            ("localhost", ours, True),
            ("127.0.0.1", ours, False),  # the certificate is for another name
            ("localhost", other, False),
            ("localhost", None, False),  # the system does not know our authority
        ):
            at = where(f"rediss://{host}:{secure.port}/0")
            at._authorities = authority.file.read_text() if authority else ""
            with contextlib.closing(RedisStore(at, ManualClock(NOW))) as store:
                if works:
                    assert store.limit(host, now=NOW, rate=1, per=60.0).allowed
                else:
                    with pytest.raises(Unavailable, match=r"(?i)certificate"):
                        store.limit(host, now=NOW, rate=1, per=60.0)


def touched(store: Store) -> dict[str, str]:
    """What each call of the dialogue came to: "" or why not."""
    calls: dict[str, Callable[[], object]] = {
        "greylist": lambda: attempt(store, 0),
        "limit": lambda: store.limit("k", now=NOW, rate=9, per=60.0),
        "recipient": lambda: store.recipient("main", "b@y.example", NOW),
        "remember": lambda: store.remember_recipient("main", "b@y.example", True, NOW + 9),
        "policy": lambda: store.policy("y.example", NOW),
        "remember_policy": lambda: store.remember_policy("y.example", PolicyRow("1", "t", NOW + 9)),
        "sender": lambda: store.sender("k", NOW),
        "remember_sender": lambda: store.remember_sender("k", now=NOW, keep=9.0),
        "purge": lambda: store.purge(NOW),
        "greylist_list": lambda: store.greylist_list(NOW),
        "recipient_list": lambda: store.recipient_list(NOW),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
        except Unavailable as why:
            found[name] = str(why)
        else:
            found[name] = ""
    return found


def test_a_key_of_another_kind_spoils_what_needs_it_and_no_more(server: RedisServer, store: RedisStore) -> None:
    with contextlib.closing(client.Redis(port=server.port)) as raw, capture_logs() as logs:
        raw.set("gatepost:rate", "not ours")
        for _ in range(3):
            found = touched(store)
            assert {name for name, why in found.items() if why} == {"limit", "purge"}
            assert "WRONGTYPE" in found["limit"]
        raw.delete("gatepost:rate")
        assert not any(touched(store).values())
    told = [(line["event"].partition(",")[0], line["call"]) for line in logs]
    assert sorted(told) == [(e, c) for e in ("state unavailable", "state works again") for c in ("limit", "purge")]


def test_entries_that_cannot_be_read_are_none(server: RedisServer, store: RedisStore) -> None:
    broken = b"\xff"
    with contextlib.closing(client.Redis(port=server.port)) as raw:
        for junk in (b"junk", b"1 2", b"a b c d e", broken, b"", b"nan nan nan nan nan"):
            raw.hset("gatepost:greylist", '["net:192.0.2.0/24","a@x.example","b@y.example"]', junk)
            raw.hset("gatepost:greylist", "no json", junk)
            raw.hset("gatepost:exempt", "net:192.0.2.0/24", junk)
            raw.hset("gatepost:exempt", broken, junk)
            for key, member in (("policy", "y.example"), ("sender", "k")):
                raw.hset(f"gatepost:{key}", member, junk)
                raw.zadd(f"gatepost:{key}-until", {member: NOW + 99})
            for key in ("waiting", "passed", "known", "unknown", "rate", "exempt-until"):
                raw.zadd(f"gatepost:{key}", {broken: NOW + 99, "no json": NOW - 9})
            assert not any(touched(store).values()), junk
            assert not attempt(store, 0).passed, junk
            raw.flushall()


def test_without_memory_what_is_there_can_be_read(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, opened(server.url) as store:
        assert not any(touched(store).values())
        with contextlib.closing(client.Redis(port=server.port)) as raw:
            raw.config_set("maxmemory", "1mb")
            found = touched(store)
            assert "maxmemory" in found["greylist"]
            assert "maxmemory" in found["limit"]
            assert not found["recipient"]
            raw.config_set("maxmemory", "0")
            assert not any(touched(store).values())


def test_rows_whose_index_was_evicted_do_not_stay_for_ever(server: RedisServer, store: RedisStore) -> None:
    for number in range(3000):
        attempt(store, 0, sender=f"{number}@x.example")
    store.remember_sender("k", now=NOW, keep=9.0)
    with contextlib.closing(client.Redis(port=server.port)) as raw:
        raw.delete("gatepost:waiting", "gatepost:sender-until")
        attempt(store, 0, sender="new@x.example")
        for _ in range(5):
            store.purge(NOW)
        assert (raw.hlen("gatepost:greylist"), raw.hlen("gatepost:sender")) == (1, 0)
    assert attempt(store, WAIT, sender="new@x.example").passed


def test_a_failover_behind_one_name_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old primary lives on as a replica and keeps our connections: only a new one leads to the new primary."""
    with redis_server(tmp_path / "a") as old, redis_server(tmp_path / "b") as new:
        ports = {"state.example": old.port}
        known = socket.getaddrinfo

        def resolved(host: str, port: int, *rest: Any, **more: Any) -> Any:
            named = host in ports
            return known("127.0.0.1" if named else host, ports[host] if named else port, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        with opened("redis://state.example:6379/0") as store, contextlib.closing(client.Redis(port=old.port)) as raw:
            attempt(store, 0)
            raw.replicaof("127.0.0.1", new.port)  # type: ignore[no-untyped-call]
            ports["state.example"] = new.port
            with pytest.raises(Unavailable, match="read only replica"):
                attempt(store, 0)
            assert not attempt(store, 0).passed
        with opened(new.url) as store:
            assert len(store.greylist_list(NOW)) == 1


@pytest.mark.parametrize(
    ("answer", "stops"),
    [
        (b"-LOADING Redis is loading the dataset in memory", True),  # it will be back: nobody asks for a moment
        (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", False),
        (b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", False),
        (b"-BUSY Redis is busy running a script.", False),
        (b"garbage", True),
        (b"", True),
        (b"$-2", True),
        (b"*-9", True),
        (b":99999999999999999999999", True),
    ],
)
def test_whatever_it_answers_it_is_unavailable(answer: bytes, stops: bool) -> None:
    class Speaks(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                self.wfile.write(answer + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Speaks) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with opened(f"redis://127.0.0.1:{server.server_address[1]}/0") as store:
            with pytest.raises(Unavailable):
                store.recipient("main", "b@y.example", NOW)
            with pytest.raises(Unavailable) as again:
                store.recipient("main", "b@y.example", NOW)
            assert ("a moment ago" in str(again.value)) is stops
        server.shutdown()
