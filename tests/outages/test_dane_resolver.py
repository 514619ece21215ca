"""DANE behind a real validating resolver: unbound validates signed zones, and its AD bit is what counts.

RFC 7672 sections 2.1.1 (bogus is no downgrade), 2.2 (insecure is no DANE), 2.2.2 (aliases). `test_tls` has the same
and much more over a zone that says of itself what is secure.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.dns.stub import Stub
from gateway.mail.terms import Unavailable
from tests.outages.rig import Rig, run
from tests.outages.test_tls import Chain, delivered, refused, tlsa
from tests.support import certificates
from tests.support.unbound import Forgery, Served, replaced, unbound, unsigned

SIGNED, PLAIN = "signed.example", "plain.example"
HERE = {"A": ["127.0.0.1"]}


@dataclass(frozen=True)
class World:
    """What DNS says of the backend, beside the usual. `{port}` in owners is the backend's; `{tlsa}` the right record,
    `{other}` one of another key."""

    host: str = f"mail.{SIGNED}"
    fits: bool = False
    records: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    plain: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    forgery: tuple[str, str, str] = ("", "", "")  # owner, type, and what it says instead; "" is an unsigned one
    lifetime: int = 86_400
    mx: bool = False


TLSA = {"_{port}._tcp.mail": {"TLSA": ["{tlsa}"]}}
WORLDS = {
    "secure": World(fits=True, records=TLSA),
    "secure MX": World(SIGNED, fits=True, records={**TLSA, "@": {"MX": [f"10 mail.{SIGNED}."]}}, mx=True),
    "wildcard TLSA": World(fits=True, records={"*._tcp.mail": {"TLSA": ["{tlsa}"]}}),
    "mismatch": World(records={"_{port}._tcp.mail": {"TLSA": ["{other}"]}}),
    "no TLSA": World(),
    "insecure zone": World(f"mail.{PLAIN}", plain={**TLSA, "mail": HERE}),
    "insecure MX": World(PLAIN, records=TLSA, plain={"@": {"MX": [f"10 mail.{SIGNED}."]}}, mx=True),
    "forged TLSA": World(records=TLSA, forgery=("_{port}._tcp.mail", "TLSA", "{other}")),
    "forged address": World(records=TLSA, forgery=("mail", "A", "127.0.0.2")),
    "stripped signature": World(records=TLSA, forgery=("_{port}._tcp.mail", "TLSA", "")),
    "signatures that ended": World(records=TLSA, lifetime=-3 * 86_400),
    "alias": World(f"alias.{SIGNED}", fits=True, records={**TLSA, "alias": {"CNAME": ["mail"]}}),
    "alias into the insecure": World(
        f"alias.{SIGNED}", records={"alias": {"CNAME": [f"mail.{PLAIN}."]}}, plain={**TLSA, "mail": HERE}
    ),
    "alias into the insecure, with TLSA of its own": World(
        f"alias.{SIGNED}",
        fits=True,
        records={"alias": {"CNAME": [f"mail.{PLAIN}."]}, "_{port}._tcp.alias": {"TLSA": ["{tlsa}"]}},
        plain={"mail": HERE},
    ),
    "alias out of the insecure": World(f"alias.{PLAIN}", records=TLSA, plain={"alias": {"CNAME": [f"mail.{SIGNED}."]}}),
}


def zones(world: World, port: int, right: str) -> list[Served]:
    words = {"port": str(port), "tlsa": right, "other": tlsa(3, 1, 1, certificates.make("other.example"))}

    def filled(records: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
        return {
            owner.format(**words): {kind: [value.format(**words) for value in values] for kind, values in types.items()}
            for owner, types in records.items()
        }

    forgery: Forgery | None = None
    owner, kind, value = (part.format(**words) for part in world.forgery)
    if owner:
        forgery = replaced(owner, kind, value) if value else unsigned(owner, kind)
    signed = Served(SIGNED, filled({"mail": HERE, **world.records}), lifetime=world.lifetime, forgery=forgery)
    return [signed, Served(PLAIN, filled(world.plain), signed=False)]


@pytest.mark.parametrize("name", WORLDS)
def test_dane_behind_a_validating_resolver(tmp_path: Path, name: str) -> None:
    world = WORLDS[name]

    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        chain = Chain(rig, backend, world.host)
        served = zones(world, backend.port, tlsa(3, 1, 1, chain.leaf))
        with contextlib.ExitStack() as stack:
            resolver = await asyncio.to_thread(stack.enter_context, unbound(tmp_path / "unbound", *served))
            where = f'"{world.host}:{backend.port}"'
            how: dict[str, Any] = {"mx": where} if world.mx else {"hosts": [where.strip('"')]}
            how |= {"tls": "{verify: dane}", "resolver": resolver.server}
            if world.fits:
                await delivered(rig, backend, **how)
            else:
                await refused(rig, backend, **how)
                assert bool(backend.connections) is (name == "mismatch")  # else nobody was spoken to at all
            if world.forgery[0] or world.lifetime < 0:  # it is the resolver that refuses
                owner, kind = world.forgery[0].format(port=backend.port) or "mail", world.forgery[1] or "A"
                with pytest.raises(Unavailable, match="SERVFAIL"):
                    await Stub([resolver.server]).ask(f"{owner}.{SIGNED}", kind, 5.0)

    run(tmp_path, test)


def test_what_the_resolver_says(tmp_path: Path) -> None:
    """AD for what is signed, denials too; none for what is not; SERVFAIL for what contradicts its signature."""
    records = {"mail": HERE, "forged": HERE}
    signed = Served(SIGNED, records, forgery=replaced("forged", "A", "127.0.0.2"))

    async def test(server: str) -> None:
        stub = Stub([server])
        for owner, kind, authenticated, there in (
            (f"mail.{SIGNED}", "A", True, True),
            (f"mail.{SIGNED}", "TLSA", True, False),
            (f"nobody.{SIGNED}", "A", True, False),
            (f"mail.{PLAIN}", "A", False, True),
            (f"nobody.{PLAIN}", "A", False, False),
            ("elsewhere.invalid", "A", False, False),
            ("elsewhere.example", "A", False, False),
        ):
            answer = await stub.ask(owner, kind, 5.0)
            assert (answer.authenticated, bool(answer.records)) == (authenticated, there), (owner, kind)
        with pytest.raises(Unavailable, match="SERVFAIL"):
            await stub.ask(f"forged.{SIGNED}", "A", 5.0)

    with unbound(tmp_path, signed, Served(PLAIN, {"mail": HERE}, signed=False)) as resolver:
        asyncio.run(test(resolver.server))
