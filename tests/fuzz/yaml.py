"""Any octets are a document or a `ConfigError` whose positions lie inside the file."""

from pathlib import Path

from gateway.yamlfile import ConfigError, Problem, load

SEEDS = [
    b"hostname: mx.example.com\nlimits: {message: 35MB}\n",
    b"rules:\n  - id: a\n    when: |\n      spf.result == 'pass'\n    then: reject\n",
    b"a: &x [1, 2]\nb: *x\n",
    b"a: \"\\u00e4\"\nb: 'it''s'\n# c\n",
]
TOKENS = [
    b": ",
    b"\n",
    b"  ",
    b"- ",
    b"&a ",
    b"*a",
    b"{",
    b"}",
    b"[",
    b"]",
    b"|\n",
    b">-\n",
    b'"',
    b"'",
    b"#",
    b"<<: ",
    b"!!",
    b"---\n",
    b"\t",
    b"\xef\xbb\xbf",
]


class _One:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, path: Path) -> bytes:
        return self._data

    def names(self, directory: Path, pattern: str) -> list[Path]:
        return []


def one(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").count("\n") + data.count(b"\r") + 2
    problems: tuple[Problem, ...] = ()
    try:
        load(Path("x.yaml"), _One(data))
    except ConfigError as error:
        problems = error.problems
    for problem in problems:
        assert 1 <= problem.position.line <= lines + 8, problem  # other line ends than these exist (NEL, LS, PS)
        assert problem.position.column >= 1
        assert "\n" not in str(problem)
