"""Two policies over the tests of both: every mail that either side thought of, judged under each.

A mail of a test is the same for both; its own lists replace theirs where they have them. Pure; called by `policy diff`.
"""

from collections.abc import Mapping

from gateway.policy.lists import NamedList
from gateway.policy.loader import Policy
from gateway.policy.replay import Tally, again
from gateway.policy.scene import of_case


def over_tests(old: Policy, new: Policy) -> Tally:
    """The mails of all tests; one that both have counts once."""
    tally = Tally()
    seen = set[str]()
    for case in (*new.cases, *old.cases):
        scene = of_case(case)
        key = repr((sorted(scene.values.items()), sorted(_spelt(case.lists).items()), sorted(scene.otherwise.items())))
        if key in seen:
            continue
        seen.add(key)
        before, after = (again(_with(policy, case.lists), scene) for policy in (old, new))
        tally.add(str(case.position), case.name, before, after)
    return tally


def _with(policy: Policy, lists: Mapping[str, NamedList]) -> Policy:
    known = {name: listed for name, listed in lists.items() if name in policy.lists}
    return policy.with_lists(known) if known else policy


def _spelt(lists: Mapping[str, NamedList]) -> dict[str, list[str]]:
    return {name: list(listed) for name, listed in lists.items()}
