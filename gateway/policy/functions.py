"""The functions that policies have beyond CEL's own, as plain Python: `under`, `glob`.

(`in_networks` is a look-up in `lists.Networks`.) All are bounded by the length of their arguments: no pattern of a
policy and no text of a stranger makes them backtrack.
"""

import re
from collections.abc import Callable


def under(domain: str, parent: str) -> bool:
    """True when `domain` is `parent` or below it. An empty parent has nothing below it."""
    domain, parent = domain.lower(), parent.lower()
    return bool(parent) and (domain == parent or domain.endswith("." + parent))


def glob(pattern: str) -> Callable[[str], bool]:
    """A matcher of whole texts: `*` is any run of characters, `?` any one; letters match without regard to case.

    The pieces between stars are looked for one after the other, leftmost first, which is enough for `*`: the time is
    text times pattern at worst, never exponential.
    """
    pieces = [_piece(piece) for piece in pattern.split("*")]
    widths = [len(piece) for piece in pattern.split("*")]

    def matches(text: str) -> bool:
        if len(pieces) == 1:
            return pieces[0].fullmatch(text) is not None
        if pieces[0].match(text) is None:
            return False
        at, end = widths[0], len(text) - widths[-1]
        for piece in pieces[1:-1]:
            found = piece.search(text, at)
            if found is None:
                return False
            at = found.end()
        return at <= end and pieces[-1].match(text, end) is not None

    return matches


def _piece(piece: str) -> re.Pattern[str]:
    return re.compile("".join("." if c == "?" else re.escape(c) for c in piece), re.DOTALL | re.IGNORECASE)
