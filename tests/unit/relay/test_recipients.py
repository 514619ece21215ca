"""Does the backend know the recipient: asked, remembered, shared, and never guessed."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import config, metrics
from gateway.clock import ManualClock
from gateway.config.state import parse_url
from gateway.mail.address import Mailbox
from gateway.mail.terms import Unavailable
from gateway.relay.delivery import Answered, Known, Relay
from gateway.state.redis import RedisStore
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Limited, Store
from tests.outages.backend import CLOSE, GOOD, HANG, Action, Backend
from tests.outages.rig import Rig, run, transaction
from tests.support.redis import redis_server

ON = "{positive: 24h, negative: 30m}"
U = Mailbox("u", "example.com")


async def known(relay: Relay, mailbox: Mailbox = U) -> Known:
    return await relay.known("main", transaction(), mailbox)


@pytest.mark.parametrize("features", [("PIPELINING",), ()])
def test_a_yes_is_remembered(tmp_path: Path, features: tuple[str, ...]) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=features)
        relay = rig.relay(backend.port, verify=ON)
        assert await known(relay) == Known(Answered.YES)
        dialogue = ["EHLO mx.example.com", "MAIL FROM:<>", "RCPT TO:<u@example.com>", "RSET"]
        assert backend.lines() == dialogue
        assert await known(relay) == Known(Answered.YES)
        assert backend.lines() == dialogue
        rig.clock.advance(86_401)
        assert await known(relay) == Known(Answered.YES)
        assert len(backend.lines()) > len(dialogue)

    run(tmp_path, test)


def test_a_no_is_remembered_for_a_shorter_time(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"rcpt": b"550 5.1.1 nobody of that name\r\n"})
        relay = rig.relay(backend.port, verify=ON)
        for _ in range(2):
            found = await known(relay)
            assert found.answer == "no"
            assert found.reply is not None
            assert (found.reply.code, found.reply.status) == (550, "5.1.1")
        assert sum(line.startswith("RCPT") for line in backend.lines()) == 1
        rig.clock.advance(1801)
        await known(relay)
        assert sum(line.startswith("RCPT") for line in backend.lines()) == 2

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("script", "answer", "code", "status"),
    [
        ({"rcpt": b"251 will forward\r\n"}, "yes", None, None),
        ({"rcpt": b"450 4.2.0 greylisted\r\n"}, "unknown", 450, "4.2.0"),
        ({"rcpt": b"421 4.3.2 bye\r\n"}, "unknown", 451, "4.3.2"),
        ({"rcpt": b"530 5.7.0 authenticate\r\n"}, "unknown", 451, "4.7.0"),
        ({"rcpt": b"552 5.2.2 full\r\n"}, "no", 552, "5.2.2"),
        ({"rcpt": b"550 5.7.1 not from you\r\n"}, "no", 550, "5.7.1"),
        ({"rcpt": b"354 what\r\n"}, "unknown", 451, "4.3.0"),
        ({"rcpt": CLOSE}, "unknown", 451, "4.4.2"),
        ({"mail": b"451 4.3.0 later\r\n"}, "unknown", 451, "4.3.0"),
        ({"mail": b"550 5.7.1 no null senders\r\n"}, "unknown", None, None),
        ({"banner": CLOSE}, "unknown", 451, "4.4.1"),
        ({"banner": HANG}, "unknown", 451, "4.4.1"),
        ({"ehlo": b"250 backend.example\r\n"}, "unknown", 451, "4.7.5"),
        ({"rset": b"500 what\r\n"}, "yes", None, None),  # said after the answer, which stands
    ],
)
@pytest.mark.parametrize("features", [("PIPELINING",), ()])
def test_what_is_not_remembered(
    tmp_path: Path,
    script: dict[str, Action],
    answer: str,
    code: int | None,
    status: str | None,
    features: tuple[str, ...],
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(script, features=features)
        relay = rig.relay(backend.port, verify=ON, seconds=0.6 if HANG in script.values() else 10.0)
        found = await known(relay)
        assert found.answer == answer
        assert (found.reply.code if found.reply else None) == code
        assert (found.reply.status if found.reply else None) == status
        if answer != "yes":
            assert rig.store.known == {}

    run(tmp_path, test)


def test_verification_off_asks_nobody(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        assert await known(rig.relay(backend.port)) == Known(Answered.UNKNOWN)
        assert backend.connections == 0

    run(tmp_path, test)


def test_many_who_ask_at_once_share_one_question(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        backend = await rig.backend({"rcpt": (gate, GOOD)})
        relay = rig.relay(backend.port, verify=ON)
        askers = [asyncio.create_task(known(relay)) for _ in range(20)]
        await backend.event("rcpt").wait()
        askers[0].cancel()  # whoever came first may go away
        gate.set()
        results = await asyncio.gather(*askers, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [Known(Answered.YES)] * 19
        assert sum(line.startswith("RCPT") for line in backend.lines()) == 1

    run(tmp_path, test)


def test_a_store_that_is_away_costs_a_question(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.store.away = True
        backend = await rig.backend({"rcpt no@example.com": b"550 5.1.1 no\r\n"})
        relay = rig.relay(backend.port, verify=ON)
        for _ in range(2):
            assert (await known(relay)).answer == "yes"
            assert (await known(relay, Mailbox("no", "example.com"))).answer == "no"
        assert backend.connections == 1

    run(tmp_path, test)


@pytest.mark.parametrize(("features", "answer"), [(("SMTPUTF8", "PIPELINING"), "yes"), (("PIPELINING",), "no")])
def test_utf8_addresses(tmp_path: Path, features: tuple[str, ...], answer: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=features)
        found = await known(rig.relay(backend.port, verify=ON), Mailbox("ü", "example.com"))
        assert found.answer == answer
        if answer == "no":
            assert found.reply is not None
            assert found.reply.status == "5.6.7"
            assert rig.store.known == {}
        else:
            assert backend.lines()[1:3] == ["MAIL FROM:<> SMTPUTF8", "RCPT TO:<ü@example.com>"]

    run(tmp_path, test)


@pytest.mark.parametrize("verify", [ON, "off"])
@pytest.mark.parametrize("up", [True, False])
def test_the_host_that_takes_utf8_is_asked(tmp_path: Path, verify: str, up: bool) -> None:
    """One that is down may take it: no refusal for good."""

    async def test(rig: Rig) -> None:
        first, second = await rig.backend(features=("PIPELINING",)), await rig.backend(up=up)
        relay = rig.relay(first.port, second.port, verify=verify)
        for mailbox in (U, Mailbox("ü", "example.com")):
            found = await relay.known("main", transaction(sender="ü@example.org", smtputf8=True), mailbox)
            if up:
                assert found.reply is None
            else:
                assert found.reply is not None
                assert (found.answer, found.reply.code, found.reply.status) == ("unknown", 451, "4.4.1")
        if verify == ON:
            found = await known(relay, Mailbox("ü", "example.com"))
            assert found.answer == ("yes" if up else "unknown")

    run(tmp_path, test)


@pytest.mark.parametrize("verify", [ON, "off"])
def test_an_internationalised_mail_is_no_surprise_after_the_message(tmp_path: Path, verify: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=("PIPELINING",))
        relay = rig.relay(backend.port, verify=verify)
        if verify == ON:
            assert await known(relay) == Known(Answered.YES)  # remembered from here on
        found = await relay.known("main", transaction(sender="ü@example.org", smtputf8=True), U)
        assert found.reply is not None
        assert (found.reply.code, found.reply.status) == (553, "5.6.7")
        offering = rig.relay((await rig.backend(features=("SMTPUTF8",))).port, verify=verify)
        found = await offering.known("main", transaction(sender="ü@example.org", smtputf8=True), U)
        assert found.reply is None

    run(tmp_path, test)


def test_an_internationalised_mail_and_a_backend_that_is_away(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        found = await rig.relay(1, verify="off").known("main", transaction(smtputf8=True), U)
        assert found.reply is not None
        assert found.reply.code == 451

    run(tmp_path, test)


def test_local_parts_differ_by_case(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"rcpt U@example.com": b"550 5.1.1 no\r\n"})
        relay = rig.relay(backend.port, verify=ON)
        assert (await known(relay, Mailbox("u", "example.com"))).answer == "yes"
        assert (await known(relay, Mailbox("U", "example.com"))).answer == "no"

    run(tmp_path, test)


def test_a_dead_kept_connection_is_replaced(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({}, {})
        relay = rig.relay(backend.port, verify=ON)
        assert (await known(relay)).answer == "yes"
        backend.scripts[0]["mail"] = b"421 4.4.2 too long idle\r\n"  # type: ignore[index]
        assert (await known(relay, Mailbox("v", "example.com"))).answer == "yes"
        assert backend.connections == 2

    run(tmp_path, test)


def test_close_ends_a_question(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"rcpt": HANG})
        relay = rig.relay(backend.port, verify=ON)
        asker = asyncio.create_task(known(relay))
        await backend.event("rcpt").wait()
        await relay.close()
        found = await asker  # an answer, not a cancellation that would end the client's session
        assert found.answer == "unknown"
        assert found.reply is not None
        assert found.reply.code == 451

    run(tmp_path, test)


def rcpts(backend: Backend) -> list[str]:
    return [line for line in backend.lines() if line.startswith("RCPT")]


def test_an_answer_in_use_is_asked_for_again_before_it_ends(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port, verify=ON)
        await known(relay)
        rig.clock.advance(0.7 * 86_400)
        await known(relay)
        assert len(rcpts(backend)) == 1
        rig.clock.advance(0.2 * 86_400)
        for _ in range(3):  # nobody waits for it, and one question is enough
            assert await known(relay) == Known(Answered.YES)
        await flown(relay)
        assert len(rcpts(backend)) == 2
        rig.clock.advance(0.7 * 86_400)  # the first answer has ended, the second lives
        assert await known(relay) == Known(Answered.YES)
        assert len(rcpts(backend)) == 2

    run(tmp_path, test)


@contextlib.contextmanager
def shared_stores(directory: Path, kind: str, clock: ManualClock) -> Iterator[list[Store]]:
    """Two stores that share their rows, as two workers or two gateways do."""
    with contextlib.ExitStack() as stack:
        if kind == "redis":
            server = stack.enter_context(redis_server(directory / "redis"))
            where = config.Redis.model_construct(redis=parse_url(server.url))
            where._password = ""
            stores: list[Store] = [RedisStore(where, clock) for _ in range(2)]
        else:
            stores = [SqliteStore(directory / "shared.db", clock) for _ in range(2)]
        for store in stores:
            stack.callback(store.close)
        yield stores


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_one_of_all_who_share_the_store_asks_again(tmp_path: Path, kind: str) -> None:
    async def test(rig: Rig) -> None:
        with shared_stores(tmp_path, kind, rig.clock) as stores:
            backend = await rig.backend({})
            relays = []
            for store in stores:
                rig.store = store  # type: ignore[assignment]
                relays.append(rig.relay(backend.port, verify=ON))
            await known(relays[0])
            rig.clock.advance(0.9 * 86_400)
            for _ in range(3):  # the second never learnt the answer itself
                assert await asyncio.gather(*map(known, relays)) == [Known(Answered.YES)] * 2
            for relay in relays:
                await flown(relay)
            assert len(rcpts(backend)) == 2
            backend.scripts[0]["rcpt"] = b"451 4.3.0 later\r\n"
            rig.clock.advance(0.9 * 86_400)
            for moment, asked in ((0, 3), (59, 3), (2, 4)):  # one that failed is tried again in a while
                rig.clock.advance(moment)
                for relay in relays:
                    assert await known(relay) == Known(Answered.YES)
                    await flown(relay)
                assert len(rcpts(backend)) == asked

    run(tmp_path, test)


def test_asking_again_where_the_store_has_just_gone(tmp_path: Path) -> None:
    """Nobody can be told of it then: each worker asks for itself, and the mail does not wait."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port, verify=ON)
        await known(relay)
        rig.clock.advance(0.9 * 86_400)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rig.store, "limit", away)
            assert await known(relay) == Known(Answered.YES)
            await flown(relay)
        assert len(rcpts(backend)) == 2

    run(tmp_path, test)


def away(*_: object, **__: object) -> Limited:
    raise Unavailable("away")


@pytest.mark.parametrize(("said", "then"), [(b"550 5.1.1 left us\r\n", "no"), (b"451 4.3.0 later\r\n", "yes")])
def test_what_asking_again_brings(tmp_path: Path, said: bytes, then: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({})
        relay = rig.relay(backend.port, verify=ON)
        await known(relay)
        backend.scripts[0]["rcpt"] = said  # type: ignore[index]
        rig.clock.advance(0.9 * 86_400)
        assert (await known(relay)).answer == "yes"
        await flown(relay)
        assert (await known(relay)).answer == then  # a backend in trouble takes nothing back

    run(tmp_path, test)


async def flown(relay: Relay) -> None:
    """Waits for the questions and probes under way."""
    asked = relay._recipients["main"]
    await asyncio.gather(*asked._flights.values(), *asked._probes.values())


class Choosy(dict[str, Action]):
    """Knows u0 to u99 and nobody else."""

    def __contains__(self, step: object) -> bool:
        return str(step).startswith("rcpt ")

    def get(self, step: str, default: Action = GOOD) -> Action:  # type: ignore[override]
        return default if not step.startswith("rcpt ") or step[5] == "u" else b"550 5.1.1 no\r\n"


@pytest.mark.parametrize("everybody", [True, False])
def test_a_backend_that_takes_everybody_is_found_out(tmp_path: Path, everybody: bool) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({} if everybody else Choosy())
        relay = rig.relay(backend.port, verify=ON, share=1)
        with structlog.testing.capture_logs() as lines:
            for number in range(70):
                await known(relay, Mailbox(f"u{number}", "example.com"))
            await flown(relay)
        probes = [line for line in rcpts(backend) if "gatepost-probe-" in line]
        assert len(probes) == 1
        probed = rig.store.recipient("main", "@example.com", rig.clock.now())
        assert probed is not None
        assert probed.known is everybody
        warned = [line for line in lines if line["event"] == "backend accepts every recipient"]
        assert len(warned) == everybody
        rig.clock.advance(86_401)  # tomorrow is another day
        for number in range(25):
            await known(relay, Mailbox(f"u{number}", "example.com"))
        await flown(relay)
        assert len([line for line in rcpts(backend) if "gatepost-probe-" in line]) == 2

    run(tmp_path, test)


def test_the_metric_tells_of_every_domain_and_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr(metrics, "backend_takes_everybody", lambda _, takes: told.append(takes))

    async def test(rig: Rig) -> None:
        backend = await rig.backend({})
        rig.store.remember_recipient("main", "@a.example.net", False, rig.clock.now() + 86_400)  # another worker did
        for _ in range(2):
            relay = rig.relay(backend.port, verify=ON, share=1)
            for domain in ("example.com", "a.example.net"):
                for number in range(20):
                    await known(relay, Mailbox(f"u{number}", domain))
                await flown(relay)
            rig.store.known = {key: row for key, row in rig.store.known.items() if key[1].startswith("@")}
        assert len([line for line in rcpts(backend) if "gatepost-probe-" in line]) == 1
        assert told == [True] * 4

    run(tmp_path, test)


def test_a_backend_that_says_no_needs_no_probe(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(Choosy())
        relay = rig.relay(backend.port, verify=ON, share=1)
        for number in range(60):
            await known(relay, Mailbox(f"u{number}" if number % 15 else f"x{number}", "example.com"))
        await flown(relay)
        assert not any("gatepost-probe-" in line for line in rcpts(backend))

    run(tmp_path, test)


@pytest.mark.parametrize("said", [b"451 4.3.0 later\r\n", CLOSE])
def test_a_probe_that_fails_says_nothing(tmp_path: Path, said: Action) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(Moody(said))
        relay = rig.relay(backend.port, verify=ON, share=1)
        for number in range(20):
            await known(relay, Mailbox(f"u{number}", "example.com"))
        await flown(relay)
        assert rig.store.recipient("main", "@example.com", rig.clock.now()) is None

    run(tmp_path, test)


class Moody(Choosy):
    def __init__(self, said: Action) -> None:
        super().__init__()
        self._said = said

    def get(self, step: str, default: Action = GOOD) -> Action:  # type: ignore[override]
        return default if not step.startswith("rcpt ") or step[5] == "u" else self._said
