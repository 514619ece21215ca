"""Policies written in a test, loaded as from a folder."""

from datetime import date
from pathlib import Path
from textwrap import dedent

from gateway.policy.loader import Policy, load_policies

TODAY = date(2026, 11, 22)


class Memory:
    """Files that exist only here: name to text; names that end in .txt are lists."""

    def __init__(self, **contents: str) -> None:
        self.contents = {name.replace("__", "."): dedent(text) for name, text in contents.items()}

    def read(self, path: Path) -> bytes:
        return self.contents[path.name].encode()

    def names(self, directory: Path, pattern: str) -> list[Path]:
        return [Path(name) for name in sorted(self.contents) if name.endswith(pattern.removeprefix("*"))]


def policy(text: str, today: date | None = TODAY, **lists: str) -> Policy:
    """The policy of one file, with lists by name."""
    files = Memory(policy__yaml=text, **{f"{name}__txt": entries for name, entries in lists.items()})
    return load_policies(Path(), Path(), files, today=today)
