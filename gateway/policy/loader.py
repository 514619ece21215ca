"""Policy files and lists to a `Policy`, or to all that is wrong with them.

Files in name order, rules in file order. Nothing half-right is ever loaded: one error anywhere refuses the whole
folder (`PolicyError`, DESIGN section 1, promise 8); warnings come with the policy. Called by the composition root and
by the `policy` commands.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from gateway.checks.check import Value
from gateway.files import Files
from gateway.mail.terms import Stage
from gateway.policy.cases import Case, read_case
from gateway.policy.classes import DataClass
from gateway.policy.expression import Compiler
from gateway.policy.judge import Judge, Judgement, Progress, Step
from gateway.policy.lint import lint
from gateway.policy.lists import NamedList, list_files, load_lists
from gateway.policy.reading import Reader, read_rule
from gateway.policy.rules import Rule
from gateway.yamlfile import ConfigError, Document, PolicyError, Position, Problem, load


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded policy: immutable, shared by all transactions that began under it."""

    rules: tuple[Rule, ...]
    lists: Mapping[str, NamedList]
    cases: tuple[Case, ...]
    warnings: tuple[Problem, ...]
    revision: str  # content hash of files and lists
    engine: Judge

    def judge(
        self,
        stage: Stage,
        facts: Mapping[str, Value],
        progress: Progress,
        recipient: str | None = None,
        failed: Collection[str] = (),
        steps: list[Step] | None = None,
    ) -> Judgement:
        """The outcome of one stage, see `judge.Judge`."""
        return self.engine.judge(stage, facts, progress, recipient, failed, steps)

    def needs(self, stage: Stage, progress: Progress = Progress(), recipient: str | None = None) -> frozenset[str]:  # noqa: B008 - frozen
        """The facts that the rules of this stage may ask for: what is worth starting early."""
        return frozenset(name for rule in self._live(stage, progress, recipient) for name in rule.needs)

    def data_class(self, recipient: str, progress: Progress = Progress()) -> DataClass:  # noqa: B008 - frozen
        """What DATA will do with this recipient, `progress` being what RCPT gave for it."""
        live = {rule.id for rule in self._live(Stage.DATA, progress, recipient)}
        numbers = frozenset(number for number, rule in enumerate(self.rules) if rule.id in live)
        return DataClass(numbers, frozenset(progress.tags), progress.held is not None)

    def speaks_now(self, stage: Stage) -> bool:
        """True when a rule of this stage does not wait for RCPT (`speak: now`)."""
        return any(rule.now for rule in self.engine.rules(stage))

    def rule(self, identity: str) -> Rule | None:
        """The rule of that id."""
        return next((rule for rule in self.rules if rule.id == identity), None)

    def with_lists(self, lists: Mapping[str, NamedList]) -> "Policy":
        """The same rules over other lists: for tests, whose lists are given."""
        merged = {**self.lists, **lists}
        return Policy(self.rules, merged, self.cases, self.warnings, self.revision, Judge(self.rules, merged))

    def _live(self, stage: Stage, progress: Progress, recipient: str | None) -> list[Rule]:
        return [
            rule
            for rule in self.engine.rules(stage)
            if (rule.always or not progress.accepted)
            and rule.id not in progress.exempted
            and (recipient is None or rule.recipients is None or rule.recipients.holds(recipient, self.lists))
        ]


def load_policies(directory: Path, lists: Path, files: Files, *, today: date | None) -> Policy:
    """The policy of a folder. Raises `PolicyError` with every problem, in file order.

    `today` judges `expires:`. None where the files were validated already: a worker that restarts after midnight must
    not refuse what the gateway is running.
    """
    problems: list[Problem] = []
    named = load_lists(lists, files, problems)
    documents, rank = _documents(directory, files, problems)
    compiler = Compiler(named)
    rules: list[Rule] = []
    cases: list[Case] = []
    ids: dict[str, Position] = {}
    for document in documents:
        _read(document, compiler, named, today, (rules, cases, ids), problems)
    problems += lint(rules, ids, named, today)
    for case in cases:
        if case.rule and case.rule not in ids:
            problems.append(case.unknown_rule(ids))
    actions = {rule.id: rule.action.value for rule in rules}
    cases = [case.settled(actions) for case in cases]
    problems.sort(key=lambda p: (rank.get(p.position.file, len(rank)), p.position))
    problems = list(dict.fromkeys(problems))
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise _refused(problems)
    revision = _revision(directory, lists, files)
    return Policy(tuple(rules), named, tuple(cases), tuple(problems), revision, Judge(rules, named))


def _refused(problems: list[Problem]) -> PolicyError:
    error = PolicyError(problems)
    error.problems = tuple(problems)  # our order of files, not the alphabet's
    return error


def _documents(directory: Path, files: Files, problems: list[Problem]) -> tuple[list[Document], dict[str, int]]:
    """What could be read, and the order of all files."""
    try:
        paths = sorted({*files.names(directory, "*.yaml"), *files.names(directory, "*.yml")})
    except OSError as error:
        problems.append(Problem(Position(str(directory), 1, 1), f"cannot read the policies: {error.strerror}"))
        return [], {}
    if not paths:
        # An empty folder is a mount that failed far more often than a wish to let everything in.
        what = "there is no policy file here"
        problems.append(Problem(Position(str(directory), 1, 1), what, "policies end in .yaml"))
    documents: list[Document] = []
    for path in paths:
        try:
            document = load(path, files, strict=False)
        except ConfigError as error:
            problems += error.problems
            continue
        problems += document.problems
        documents.append(document)
    return documents, {str(path): number for number, path in enumerate(paths)}


def _read(
    document: Document,
    compiler: Compiler,
    named: Mapping[str, NamedList],
    today: date | None,
    found: tuple[list[Rule], list[Case], dict[str, Position]],
    problems: list[Problem],
) -> None:
    rules, cases, ids = found
    top = Reader(document, (), problems)
    if document.data is None:
        return
    if not isinstance(document.data, dict):
        top.error((), "a policy file is a mapping", "keys: rules, tests")
        return
    top.keys(("rules", "tests"), (), "a policy file")
    for number in _each(top, "rules"):
        reader = Reader(document, ("rules", number), problems)
        identity = reader.data.get("id")
        if isinstance(identity, str) and identity:
            position = document.position(("rules", number, "id"))
            if identity in ids:
                reader.error(("id",), f"the id '{identity}' is taken", f"see {ids[identity]}")
            ids.setdefault(identity, position)
        rule = read_rule(reader, compiler, named, today)
        if rule is not None:
            rules.append(rule)
        for test in _each(reader, "tests"):
            inner = Reader(document, ("rules", number, "tests", test), problems)
            cases.append(read_case(inner, named, identity if isinstance(identity, str) else ""))
    for number in _each(top, "tests"):
        cases.append(read_case(Reader(document, ("tests", number), problems), named, ""))


def _each(reader: Reader, key: str) -> Sequence[int]:
    """The indices of the mappings in a list."""
    value = reader.data.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        reader.error((key,), f"'{key}' must be a list", "begin each item with '-'")
        return ()
    found = []
    for index, item in enumerate(value):
        if isinstance(item, dict):
            found.append(index)
        elif (*reader.loc, key, index) not in reader.document.broken:
            reader.error((key, index), f"an item of '{key}' is a mapping", "keys and values, as in 'id: my-rule'")
    return found


def _revision(directory: Path, lists: Path, files: Files) -> str:
    digest = hashlib.sha256()
    names = [*files.names(directory, "*.yaml"), *files.names(directory, "*.yml"), *list_files(lists, files)]
    for path in sorted(names):
        octets = files.read(path)
        digest.update(f"{path.name} {len(octets)}\n".encode())
        digest.update(octets)
    return digest.hexdigest()[:16]
