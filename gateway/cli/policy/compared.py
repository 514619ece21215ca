"""A comparison of two policies as people and programs read it."""

from gateway.cli.shown import moment, visible
from gateway.journal import Entry
from gateway.policy.replay import Tally

_WORDS = ("newly refused", "newly accepted", "newly deferred", "newly quarantined", "newly tagged", "unknown")
_FACTS = 8


def about(entry: Entry, recipient: str) -> str:
    """Who sent what to whom."""
    return f"{moment(entry.time)}  {entry.client}  <{entry.sender}> -> <{recipient}>"


def tell(title: str, tally: Tally) -> None:
    """The counts, and examples of each kind."""
    print(title)
    print(f"  {'the same':18} {tally.same:8}" + (f"  ({tally.other_rule} by another rule)" if tally.other_rule else ""))
    for word in _WORDS:
        count = tally.counts[word]
        if not count:
            continue
        print(f"  {word:18} {count:8}")
        for one in tally.examples[word]:
            print(f"    {visible(one.case)}  {visible(one.about)}")
            print(
                f"      {visible(one.before.shown())}  ->  {visible(one.after.shown())}" + _tags(word, one.after.tags)
            )
        left = count - len(tally.examples[word])
        if left:
            print(f"    and {left} more")
    if tally.unknown:
        print("  not on record, and not guessed:")
        for fact, count in tally.unknown.most_common(_FACTS):
            print(f"    {visible(fact)}: {count}")


def _tags(word: str, tags: tuple[tuple[str, str], ...]) -> str:
    shown = ", ".join(f"{name}: {value}" for name, value in tags) or "no field"
    return f"  [{visible(shown)}]" if word == "newly tagged" else ""
