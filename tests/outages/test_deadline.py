"""One deadline for all hosts, in virtual time: whatever they do, the client has its answer before it is over, one host
without a fault is enough, and a slow one is alive."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient
from gateway.mail.message import Message
from gateway.relay.client import Answer, Connection
from gateway.relay.fate import Broken, Busy, InDoubt, Step, about_us
from gateway.relay.outgoing import Outgoing
from tests.outages.rig import quiet
from tests.outages.virtual import CLOSES, LEAVES, NEVER, STEPS, Host, Town, run

SMALL = Message.from_octets(b"Subject: x\r\n\r\nx\r\n")
LARGE = Message.from_octets(b"Subject: x\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 12_000)
FEATURES = [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")]


@dataclass
class Told:
    """What became of one mail, and how long its client waited."""

    fate: str
    seconds: float


async def deliver(town: Town, seconds: float, message: Message, recipients: int = 1) -> Told:
    ours = tuple(Recipient(Mailbox(f"u{n}", "example.com")) for n in range(recipients))
    mail = Outgoing(Envelope(Mailbox("a", "example.org")), ours, b"", message)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def talk(connection: Connection) -> Answer:
        answer = await connection.transact(mail)
        if about_us(answer.response) and answer.step is not Step.DOT:  # as `delivery` does
            raise Busy("", answer.response)
        return answer

    try:
        answer = await town.hosts.converse(began + seconds, talk)
        fate = "delivered" if answer.delivered else "refused"
    except InDoubt:
        fate = "unknown"
    except Broken:
        fate = "refused"
    return Told(fate, loop.time() - began)


def hosts(most: int) -> st.SearchStrategy[list[Host]]:
    behaviour = st.sampled_from([0.0, 0.0, 0.0, 1.0, 5.0, 12.0, 19.0, 40.0, NEVER, CLOSES, LEAVES])
    steps = st.fixed_dictionaries(dict.fromkeys(STEPS, behaviour))
    prompt = st.just(dict[str, float]())
    return st.lists(st.builds(Host, st.one_of(steps, prompt), st.sampled_from(FEATURES)), min_size=1, max_size=most)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=hosts(4),
    seconds=st.sampled_from([0.5, 10.0, 30.0, 120.0]),
    large=st.booleans(),
    mails=st.lists(st.sampled_from([0.0, 0.1, 3.0, 25.0]), min_size=1, max_size=5),
    warm=st.booleans(),
)
def test_whatever_the_hosts_do(
    monkeypatch: pytest.MonkeyPatch, made: list[Host], seconds: float, large: bool, mails: list[float], warm: bool
) -> None:
    """`mails` are pauses before each of them; `warm`: the faults begin when a connection is kept already."""

    async def test() -> None:
        town = Town(*made)
        monkeypatch.setattr(Connection, "open", town.opener())
        faults = [host.steps for host in made]
        if warm:
            for host in made:
                host.steps = {}
            assert (await deliver(town, seconds, SMALL)).fate == "delivered"
            for host, steps in zip(made, faults, strict=True):
                host.steps = steps
        before = sum(host.dots for host in made)
        tasks = []
        for pause in mails:
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(deliver(town, seconds, LARGE if large else SMALL)))
        told = await asyncio.gather(*tasks)
        assert all(one.seconds <= seconds + 0.001 for one in told), told
        # Nothing twice: a mail that was answered came to one host once, one that was refused to none.
        fates = [one.fate for one in told]
        refused = sum(host.no for host in made)  # a 421 to the dot is an answer: nobody else is asked
        assert sum(host.dots for host in made) - before - refused == fates.count("delivered") + fates.count("unknown")
        assert sum(host.yes for host in made) - warm >= fates.count("delivered")
        if any(host.prompt for host in made):
            assert fates.count("refused") == refused, (made, told)
        for pool in town.hosts._pools.values():
            assert (pool.busy, pool._promised, len(pool._waiters), len(pool._restless)) == (0, 0, 0, 0)
        await town.close()

    with quiet():
        run(test())


@pytest.mark.parametrize("others", range(4))
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("recipients", [1, 8])
def test_a_slow_host_is_alive(
    monkeypatch: pytest.MonkeyPatch, others: int, features: tuple[str, ...], recipients: int
) -> None:
    """Five seconds for each reply, as of a busy server: it keeps its mail, and is not put aside."""
    slow = Host(dict.fromkeys(STEPS, 5.0), features)

    async def test() -> None:
        town = Town(slow, *(Host() for _ in range(others)))
        monkeypatch.setattr(Connection, "open", town.opener())
        for number in range(1, 4):
            assert (await deliver(town, 120.0, SMALL, recipients)).fate == "delivered"
            assert slow.yes == number
        await town.close()

    with quiet():
        run(test())


@pytest.mark.parametrize("step", STEPS[:5])
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("warm", [False, True])
def test_how_long_a_silent_host_costs_the_first_mail(
    monkeypatch: pytest.MonkeyPatch, step: str, features: tuple[str, ...], warm: bool
) -> None:
    """A part of two minutes, and the mails after it nothing; twenty that were under way are one failure."""
    silent, good = Host({}, features), Host({}, features)

    async def test() -> None:
        town = Town(silent, good, connections=20)
        monkeypatch.setattr(Connection, "open", town.opener())
        if warm:
            assert (await deliver(town, 120.0, LARGE)).fate == "delivered"
        silent.steps = {step: NEVER}
        if warm and step == "open":
            silent.steps = {"mail": NEVER, "open": NEVER}  # the host stands still: kept connections and new ones
        told = await asyncio.gather(*(deliver(town, 120.0, LARGE) for _ in range(20)))
        if (step, "CHUNKING" in features) != ("data", True):  # there is no DATA with CHUNKING
            assert good.yes == 20
            assert 19 < max(one.seconds for one in told) < 51
        assert {one.fate for one in told} == {"delivered"}
        assert (await deliver(town, 120.0, LARGE)).seconds < 0.1
        if silent.yes <= warm:
            await asyncio.sleep(31)  # its pause is over, and not twenty times doubled
            connections = silent.connections
            await deliver(town, 120.0, LARGE)
            assert silent.connections > connections
        await town.close()

    with quiet():
        run(test())
