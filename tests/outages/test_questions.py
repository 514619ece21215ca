"""Questions about recipients, with the edge in the loop: what the client hears at RCPT when the backend fails at each
step, alone and with a sound host behind it. Never a guess; and a host's silence is no 451 while another one answers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.outages.front import Client, Front
from tests.outages.rig import Rig, run
from tests.outages.table import EXCLUDED, FAULTS, OPENING, SILENT, Case, expected, script
from tests.outages.test_table import quick

STEPS = (*OPENING, "mail", "rcpt u0", "rset")
CASES = [
    Case(step, fault, "pipelining", second)
    for step in STEPS
    for fault in FAULTS
    if (step, fault) not in EXCLUDED and (step, fault) != ("connect", "hang")  # which is the banner's, here
    for second in (False, True)
]


@dataclass
class Heard:
    """The reply to RCPT, and what the first host's pool holds then."""

    reply: str
    busy: int


def wanted(case: Case) -> tuple[str, ...]:
    """How the reply to RCPT may begin."""
    if case.step == "rset":  # said after the answer, which stands; but a reset throws away what was not read yet
        lost = ("451 4.4.2 ",) if case.fault == "reset" and not case.second else ()
        return ("250 2.1.5 ", *lost)
    if case.step == "rcpt u0" and case.fault in {"4xx", "5xx"}:
        return ("450 4.2.0 " if case.fault == "4xx" else "550 5.7.1 ",)
    if case.step == "mail" and case.fault == "5xx":  # of the null reverse-path: it says nothing of the recipient
        return ("250 2.1.5 ",)
    if case.step == "mail" and case.fault == "4xx":
        return ("450 4.2.0 ",)
    alone = expected(Case(case.step, case.fault, case.offer))
    return ("250 2.1.5 ",) if case.second else (f"{alone.code} {alone.status} ",)


@pytest.fixture(scope="module")
def heard_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Heard]:
    """What became of a case; quick and slow ones are asked in a gateway each."""
    found: dict[Case, Heard] = {}

    def ask(some: list[Case], seconds: float) -> None:
        async def test(rig: Rig) -> None:
            backends = []
            for number, case in enumerate(some):
                faulty = script(case, f"c{number}.example.com")
                if case.step == "rset":
                    del faulty["mail"]
                backends.append([await rig.backend(faulty, up=case.fault != "refuse")])
                if case.second:
                    backends[-1].append(await rig.backend())
            ports = [[backend.port for backend in group] for group in backends]
            front = Front(rig, ports, seconds, verify="{positive: 24h, negative: 30m}")
            await front.start()

            async def one(number: int, case: Case) -> None:
                client = await Client.connected(front.port)
                await client.envelope()
                reply = await client.say(f"RCPT TO:<u0@c{number}.example.com>")
                found[case] = Heard(reply, sum(pool.busy for pool in front.pools(number)))
                await client.close()

            await asyncio.gather(*(one(number, case) for number, case in enumerate(some)))
            await front.stop()

        with quick():
            run(tmp_path_factory.mktemp("questions"), test)

    def of(case: Case) -> Heard:
        if case not in found:
            slow = case.fault in SILENT
            ask([one for one in CASES if (one.fault in SILENT) is slow], 2.5 if slow else 60.0)
        return found[case]

    return of


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault(case: Case, heard_of: Callable[[Case], Heard]) -> None:
    heard = heard_of(case)
    assert heard.reply.startswith(wanted(case)), heard.reply
    assert heard.busy == 0
