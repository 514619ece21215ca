"""What is wrong in a file, where, and how to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Loc = tuple[str | int, ...]
#: A file with hundreds of mistakes is the wrong file: nobody reads on, and finding them all costs time.
PROBLEMS_LIMIT = 100


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; line and column start at 1, columns count characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake (`error`), or something that is allowed and rarely meant (`warning`)."""

    position: Position
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        kind = "warning: " if self.severity == "warning" else ""
        hint = f"; {self.hint}" if self.hint else ""
        # The file is a stranger's too when it came from a pull request: no escape sequence reaches a terminal.
        return visible(f"{self.position}: {kind}{self.what}{hint}")


class ConfigError(Exception):
    """All that is wrong with a configuration, in the order of the file. Refuse to start or to reload."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(sorted(problems, key=lambda problem: problem.position)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PolicyError(ConfigError):
    """The same for policy files."""


class Fault(ValueError):  # noqa: N818 - a finding about a value, turned into a Problem by `validate`
    """Raised by validators of a model: becomes a `Problem` at the value, or at `at` below it (`key`: at its key)."""

    def __init__(self, what: str, hint: str = "", *, at: Loc = (), key: bool = False) -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint
        self.at = at
        self.key = key


def visible(text: str) -> str:
    """`text` with every unprintable character escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(text: str, limit: int = 60) -> str:
    """`text` in quotes, shortened, for a message."""
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return f"'{visible(text)}'"
