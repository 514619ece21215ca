"""The one list of checks: complete, each under its own class, nothing given twice."""

import importlib
import inspect
import pkgutil

import gateway.checks
from gateway.checks.check import Check
from gateway.checks.dkim import Dkim
from gateway.checks.dmarc import Dmarc
from gateway.checks.roster import Terms, roster
from gateway.checks.spf import Spf
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone


def test_every_check_is_on_it_once() -> None:
    clock = ManualClock()
    listed = roster(Terms(), Resolver(Zone({}), clock), clock)
    known = set()
    for module in pkgutil.iter_modules(gateway.checks.__path__):
        loaded = importlib.import_module(f"gateway.checks.{module.name}")
        classes = [one for _, one in inspect.getmembers(loaded, inspect.isclass) if issubclass(one, Check)]
        known |= {one for one in classes if not inspect.isabstract(one)}
    assert set(listed) == known
    names = [name for check in listed.values() for name in check.provides]
    assert len(names) == len(set(names))
    assert all(type(check) is kind for kind, check in listed.items())
    told = [check.name for check in listed.values()]
    assert told.index("iprev") < told.index("spf") < told.index("dkim") < told.index("arc") < told.index("dmarc")


def test_another_spf_takes_the_place_of_the_usual_one() -> None:
    class Given(Spf):
        pass

    clock = ManualClock()
    resolver = Resolver(Zone({}), clock)
    given = Given(resolver, clock)
    listed = roster(Terms(), resolver, clock, spf=given)
    assert listed[Spf] is given
    assert Given not in listed
    assert {Dkim, Dmarc} <= set(listed)
