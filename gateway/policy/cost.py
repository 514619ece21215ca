"""What the macros of a condition may cost: the steps of `exists` and its kin for one mail, at most.

A macro takes a step for each entry of its list, and one within another a step for each pair: what a stranger puts into
a mail must not cost more than it is worth, whatever the policy. All lists are bounded, so the steps are known when the
policy is loaded, and a condition of too many is refused then (half a microsecond each). Pure; called by `lint`.
"""

from collections.abc import Mapping

from gateway.checks.scan import MOST
from gateway.policy.lists import NamedList
from gateway.policy.syntax import Call, Fold, Items, Name, Node, walk

#: Steps of one condition: 0.05 s.
LIMIT = 100_000
#: Entries of a fact that is a list: of attachments; the others (signatures, lists of hosts, names) have fewer.
_FACT = MOST
#: `map` and `filter` write their result anew with each entry: so many entries copied are a step.
_COPIED = 1_000


def steps(tree: Node, lists: Mapping[str, NamedList]) -> int:
    """Steps of the condition for the costliest mail."""
    return _Count(tree, lists).steps(tree)


class _Count:
    def __init__(self, tree: Node, lists: Mapping[str, NamedList]) -> None:
        self._lists = lists
        # Of a list that a variable stands for, or that is picked out of others: as long as the longest there is.
        self._longest = max((self._named(node) for node in walk(tree)), default=0)

    def steps(self, node: Node) -> int:
        match node:
            case Fold(range=over):
                count = self._entries(over)
                inner = 1 + self.steps(node.condition) + self.steps(node.step)
                copied = count * count // _COPIED if isinstance(node.start, Items) else 0
                return self.steps(over) + count * inner + copied + self.steps(node.result)
            case Call(args=parts) | Items(items=parts):
                return sum(self.steps(part) for part in parts)
            case _:
                return 0

    def _entries(self, node: Node) -> int:
        match node:
            case Fold(range=over):  # `map` and `filter` leave as many or fewer
                return self._entries(over)
            case Call(function="_+_", args=parts):
                return sum(self._entries(part) for part in parts)
            case Items() | Name() if "." in getattr(node, "name", "."):
                return self._named(node)
            case _:
                return self._longest

    def _named(self, node: Node) -> int:
        match node:
            case Items(items=items):
                return len(items)
            case Name(name=name) if name.startswith("lists."):
                return len(self._lists.get(name.removeprefix("lists."), ()))
            case Name():
                return _FACT
            case _:
                return 0
