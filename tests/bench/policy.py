"""`python -m tests.bench.policy`: what policies cost. 200 rules: loading, and one message through all stages; then the
replay of a journal, read from disk, decoded, judged and compared.

The 200 rules are of the kinds that teams write: results, domains, lists, patterns, networks, sizes, recipients. No rule
of them is final for the mail, so that every one is asked. CPU time of this process, one core.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from gateway.clock import ManualClock
from gateway.files import DiskFiles
from gateway.journal import Asked, Entry, Journal, Judged, Reader
from gateway.policy.cases import CLEAN
from gateway.policy.loader import Policy, load_policies
from gateway.policy.outcome import PASSED
from gateway.policy.replay import Tally, again, hearings
from gateway.policy.scene import given, play
from gateway.policy.vocabulary import RECIPIENT_FACTS, SIZE
from tests.support.gateway import REPOSITORY

RULES, ENTRIES, MAILS = 200, 20_000, 500
_RESULTS = ["fail", "softfail", "none", "neutral", "permerror"]


def rules(count: int) -> str:
    """So many rules, none of which is about the clean mail."""
    chance = Random(5)
    kinds: list[Callable[[int], str]] = [
        lambda n: f'spf.result == "{chance.choice(_RESULTS)}" && under(mail.domain, "d{n}.example")',
        lambda n: f'under(from.domain, "partner{n}.example") && dmarc.result != "pass"',
        lambda n: f'glob(message.subject, "*invoice {n}*") && !from.is_local',
        lambda n: f'in_networks(client.ip, ["198.51.{n % 250}.0/24", "2001:db8:{n}::/48"])',
        lambda n: f"mail.address in lists.blocked && message.hops > {n % 30 + 5}",
        lambda n: f'dkim.domains.exists(d, under(d, "s{n}.example")) && dmarc.result == "fail" && !arc.trusted',
        lambda n: f"message.size > {n + 20} * MB",
        lambda n: f'helo.kind == "invalid" && client.iprev == "{chance.choice(_RESULTS)}" && helo.name != "h{n}"',
    ]
    actions = ["reject", "defer", "quarantine", "{tag: {name: X-A, value: b}}", "{note: seen}"]
    lines = ["rules:"]
    for number in range(count):
        lines += [f"  - id: rule-{number}", f"    when: '{kinds[number % len(kinds)](number)}'"]
        lines += [f"    then: {actions[number % len(actions)]}"]
    return "\n".join(lines) + "\n"


def loaded(folder: Path) -> Policy:
    """The policy of a folder."""
    return load_policies(folder, folder / "lists", DiskFiles(), today=None)


def seconds(work: Callable[[], object], times: int) -> float:
    """CPU seconds of one turn."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def recorded(path: Path) -> None:
    """A journal of clean and refused mails, as the gateway writes it."""
    own: dict[str, object] = {name: value for name, value in CLEAN.items() if name in RECIPIENT_FACTS} | {SIZE: 0}
    facts: dict[str, object] = {name: value for name, value in CLEAN.items() if name not in own}
    spoof = {**facts, "dmarc.result": "fail", "dmarc.policy": "reject", "dkim.result": "none", "dkim.domains": []}
    clean = Entry(
        id="",
        time=1.0,
        client="192.0.2.10",
        sender="sender@example.net",
        recipients=("user@example.com",),
        size=10_000,
        facts=facts,
        asked=(Asked("user@example.com", facts=own, taken=True),),
        judged=Judged("accept"),
        timings=dict.fromkeys(("spf", "dkim", "dmarc", "arc", "relay", "total"), 0.0123),
    )
    refused = replace(clean, facts=spoof, judged=Judged("reject", "dmarc-reject"), rule="dmarc-reject")
    journal = Journal(path, 1e9, ManualClock(1.0))
    for number in range(ENTRIES):
        journal.record(replace((clean, refused)[number % 4 == 3], id=f"T{number:011d}"))
        if number % 1000 == 999:
            journal.flush()
    journal.close()


def replayed(path: Path, policy: Policy) -> Tally:
    """The whole journal under that policy."""
    tally, reader = Tally(), Reader(path)
    for entry in reader.since(0.0):
        for hearing in hearings(entry):
            tally.add(entry.id, "", hearing.then, again(policy, hearing.scene))
    reader.close()
    return tally


def main() -> None:
    """Prints a row for each figure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lists").mkdir()
        (folder / "lists" / "blocked.txt").write_text("".join(f"x{n}.example\n" for n in range(1000)))
        (folder / "a.yaml").write_text(rules(RULES))
        policy = loaded(folder)
        assert len(policy.rules) == RULES
        mail = given(CLEAN, PASSED)
        assert play(policy, mail).verdict is None
        print(f"load {RULES} rules                     {seconds(lambda: loaded(folder), 5) * 1000:9.1f} ms")
        cost = seconds(lambda: play(policy, mail), MAILS)
        print(f"{RULES} rules, one message, all stages {cost * 1000:10.3f} ms")
        shipped = loaded(REPOSITORY / "policies")
        cost = seconds(lambda: play(shipped, mail), MAILS)
        print(f"shipped policies ({len(shipped.rules)} rules)          {cost * 1000:9.3f} ms")
        recorded(folder / "journal.db")
        for title, tried in (("shipped policies", shipped), (f"{RULES} rules", policy)):
            cost = seconds(lambda tried=tried: replayed(folder / "journal.db", tried), 1)  # type: ignore[misc]
            print(f"replay under {title:17} {ENTRIES / cost:12.0f} transactions/s of CPU time")


if __name__ == "__main__":
    main()
