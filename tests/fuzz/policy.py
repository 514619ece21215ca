"""Any policy file is a policy or a `PolicyError` that points into it."""

from datetime import date
from pathlib import Path

from gateway.policy.loader import load_policies
from gateway.yamlfile import ConfigError, Problem

_SHIPPED = Path(__file__).parents[2] / "policies"
SEEDS = [
    b"rules:\n  - id: a\n    when: spf.result == 'fail'\n    then: reject\n    because: x\n",
    b"rules:\n  - id: a\n    when: message.size > 10 * MB\n    then: {greylist: {wait: 5m}}\n",
    b"rules:\n  - id: a\n    when: under(client.name, 'b.example')\n    then: {exempt: [b]}\n    expires: 2027-03-31\n",
    b"rules:\n  - id: b\n    for: [a@example.com]\n    when: 'true'\n    then: defer\n    owner: me\n",
    b"tests:\n  - name: t\n    given: {spf.result: fail}\n    expect: {action: reject, rule: a}\n",
    *(file.read_bytes() for file in sorted(_SHIPPED.glob("*.yaml"))),
]
TOKENS = [
    b"\n",
    b"  ",
    b": ",
    b"- ",
    b"when",
    b"then",
    b"id",
    b"'",
    b'"',
    b"&&",
    b"==",
    b"(",
    b")",
    b"spf.",
    b"{",
    b"}",
]


class _One:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, path: Path) -> bytes:
        return self._data

    def names(self, directory: Path, pattern: str) -> list[Path]:
        return [Path("policies/x.yaml")] if pattern.endswith("yaml") else []


def one(data: bytes) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        load_policies(Path("policies"), Path("policies/lists"), _One(data), today=date(2026, 7, 1))
    except ConfigError as error:
        problems = error.problems
    for problem in problems:
        assert problem.position.line >= 1
        assert problem.position.column >= 1
        assert "\n" not in problem.what + problem.hint
