"""gateway.yamlfile: the dialect, the positions, the words."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from gateway.yamlfile import (
    Bool,
    ConfigError,
    Count,
    Data,
    Document,
    Duration,
    Fault,
    Model,
    PolicyError,
    Position,
    Problem,
    Size,
    load,
    nearest,
    spell_duration,
    spell_size,
    validate,
)
from gateway.yamlfile.units import parse_duration, parse_size


class Octets:
    """Files with one content."""

    def __init__(self, content: bytes | str) -> None:
        self._content = content.encode() if isinstance(content, str) else content

    def read(self, path: Path) -> bytes:
        return self._content

    def names(self, directory: Path, pattern: str) -> list[Path]:
        return []


def document(content: bytes | str, *, strict: bool = True) -> Document:
    return load(Path("f.yaml"), Octets(content), strict=strict)


def data(content: bytes | str) -> Data:
    return document(content).data


def refused(content: bytes | str) -> str:
    with pytest.raises(ConfigError) as error:
        document(content)
    return str(error.value)


# The dialect


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("25", 25),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("999999999999999999", 999_999_999_999_999_999),
    ],
)
def test_what_is_not_text(typed: str, meant: object) -> None:
    found = data(f"a: {typed}\n")
    assert found == {"a": meant}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(meant)


@pytest.mark.parametrize(
    "typed",
    """
        no yes on off y n No NO True TRUE False Null NULL 0600 0o600 0x1F 0b1 1_000 12:30 190:20:30 +1 1e3 1.5e3 .5 1.
        -.5 .inf -.inf .nan NaN 2027-03-31 2027-03-31T12:00:00Z = 1,000 1.2.3 -- 9999999999999999999 00 -01
    """.split(),  # noqa: SIM905 - read as lines
)
def test_everything_else_is_the_text_that_was_typed(typed: str) -> None:
    assert data(f"a: {typed}\n") == {"a": typed}
    assert data(f"- {typed}\n") == [typed]


def test_quotes_make_text() -> None:
    assert data("a: 'true'\nb: \"25\"\nc: ''\nd: |\n  25\n") == {"a": "true", "b": "25", "c": "", "d": "25\n"}


def test_keys_are_the_text_that_was_typed() -> None:
    assert data("true: 1\n0600: 2\n1.10: 3\nno: 4\n2027-03-31: 5\n") == {
        "true": 1,
        "0600": 2,
        "1.10": 3,
        "no": 4,
        "2027-03-31": 5,
    }


def test_windows_files_read_like_others() -> None:
    windows = "\ufeff# comment\r\na: 1\r\nb: |\r\n  x\r\n  y\r\n".encode()
    assert data(windows) == {"a": 1, "b": "x\ny\n"}
    assert document(windows).position(("b",), key=True) == Position("f.yaml", 3, 1)


def test_one_document_marker_is_fine() -> None:
    assert data("---\na: 1\n...\n") == {"a": 1}


def test_a_tab_that_indents_nothing_is_fine() -> None:
    assert data("a: 1\t# a comment\nb:\t2\n") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a:\n\t- 1\n", "f.yaml:2:1: a tab at the beginning of the line; use spaces"),
        ("a: |\n  x\n  \ty\n", "f.yaml:3:3: a tab at the beginning of the line; use spaces"),
        ("a: 1\x00\n", "f.yaml:1:5: the character U+0000 must not stand in this file"),
        ("a: 1 # \u2028\n", "f.yaml:1:8: the character U+2028"),
        ("a: 1\n\ufeffb: 2\n", "f.yaml:2:1: the character U+FEFF"),
        ("a: 1\nb:\u00a02\n", "f.yaml:2:3: the character U+00A0"),
        (b"a: 1\nb: \xff\n", "f.yaml:2:4: the octet 0xff is not UTF-8; save the file as UTF-8"),
        (b"\xed\xa0\x80", "f.yaml:1:1: the octet 0xed is not UTF-8"),
        ("é: 1\né: 2\n", "f.yaml:2:1: the key 'é' stands twice, first in line 1; keep one of them"),
        ("a: 1\n'a': 2\n", "f.yaml:2:1: the key 'a' stands twice"),
        ("{a: 1, a: 2}", "f.yaml:1:8: the key 'a' stands twice"),
        ("a: {<<: *b}", "f.yaml:1:5: merge keys ('<<') are not supported; write the keys out"),
        ("a: !!str 1\n", "f.yaml:1:4: the tag '!!str' is not supported"),
        ("a: !!binary aGk=\n", "f.yaml:1:4: the tag '!!binary' is not supported"),
        ("!!set {a, b}\n", "f.yaml:1:1: the tag '!!set' is not supported"),
        ("!x a: 1\n", "f.yaml:1:1: the tag '!x' is not supported"),
        ("a: &x 1\n", "f.yaml:1:4: anchors and aliases are not supported"),
        ("a: *x\n", "f.yaml:1:4: anchors and aliases are not supported"),
        ("*x : 1\n", "f.yaml:1:1: a key is plain text"),
        ("? {a: 1}\n: 2\n", "f.yaml:1:3: a key is plain text"),
        ("? \n: 2\n", "f.yaml:1:2: a key is missing before the ':'"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document begins here"),
        ("%YAML 1.2\n---\na: 1\n", "f.yaml:1:1: directives are not supported"),
        ("%TAG ! x\n---\na: 1\n", "f.yaml:1:1: directives are not supported"),
        ("%YAML 2.0\n---\na: 1\n", "f.yaml:1:1: directives are not supported"),
        ('a: "\\0"\n', "f.yaml:1:4: the escape for the character U+0000 is not allowed"),
        ("when: !arc.trusted\n", "f.yaml:1:7: the tag '!arc.trusted' is not supported"),
        ("when: arc && (x\n  y: 1\n", "f.yaml:2:4: a ':' does not belong here"),
        ('when: "x" == y\n', "f.yaml:1:11: a key was expected here"),
        ("a: `x`\n", "f.yaml:1:4: a value cannot begin with '`'; put the whole value in quotes"),
        ("a: 'x\nb: 1\n", "f.yaml:1:4: the quotation mark that opens here is never closed; close it"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2:2: the list that opens with '[' in line 1 goes on here without ','"),
        ("a: [1, 2\n", "f.yaml:2:1: the list that opens with '[' in line 1 goes on here without ','"),
        ("a: - b\n", "f.yaml:1:4: a list item does not belong here"),
        ("- a\nb: 1\n", "f.yaml:2:1: this does not continue the list above"),
        ("a: |x\n b\n", "f.yaml:1:5: nothing but a comment may follow '|' or '>'"),
        ("a: ]\n", "f.yaml:1:4: a value was expected here"),
        ("a: ? b\n", "f.yaml:1:4: a '?' does not belong here"),
        ("a: &&b\n", "f.yaml:1:4: text cannot begin with '&'"),
        ("a: !<x\n", "f.yaml:1:4: a value cannot begin with '!'"),
    ],
)
def test_refused_with_place_and_mend(content: str | bytes, message: str) -> None:
    said = refused(content)
    assert said.startswith(message), said
    assert "; " in said.splitlines()[0], "what is wrong; how to mend it"


def test_all_that_can_be_stepped_over_is_told_at_once() -> None:
    assert [line.split(": ")[0] for line in refused("a: &x 1\nb: *x\na: 2\nc: !!y {d: 1, d: 2}\n").splitlines()] == [
        "f.yaml:1:4",
        "f.yaml:2:4",
        "f.yaml:3:1",
        "f.yaml:4:4",
        "f.yaml:4:15",
    ]


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    assert len(refused(bomb).splitlines()) == 100


def test_bounds() -> None:
    assert "nested deeper than 32 levels" in refused("[" * 500_000)
    assert "nested deeper than 32 levels" in refused("{a: " * 100_000)
    assert "nested deeper than 32 levels" in refused("- " * 100_000)
    assert "nested deeper" in refused("? " * 100_000)
    assert "too many values" in refused("-\n" * 100_001)
    assert "1000001 octets" in refused("#" * 1_000_001)
    assert len(refused("k: 1\n" * 100_000).splitlines()) == 100


class Unreadable(Octets):
    def __init__(self, error: OSError) -> None:
        super().__init__(b"")
        self._error = error

    def read(self, path: Path) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (2, "f.yaml:1:1: there is no such file; check the path"),
        (13, "f.yaml:1:1: the file may not be read; give the user that Gatepost runs as permission to read it"),
        (21, "f.yaml:1:1: this is a folder; check the path"),
        (5, "f.yaml:1:1: the file cannot be read: Input/output error; check the path"),
    ],
)
def test_a_file_that_cannot_be_read(number: int, message: str) -> None:
    import os

    with pytest.raises(ConfigError) as error:
        load(Path("f.yaml"), Unreadable(OSError(number, os.strerror(number), "f.yaml")))
    assert str(error.value) == message


# Positions


def test_positions_of_keys_and_values() -> None:
    made = document("a:\n  b: [x, {c: 1}]\n'd e': 2\n")
    assert made.position(("a",)) == Position("f.yaml", 2, 3)
    assert made.position(("a",), key=True) == Position("f.yaml", 1, 1)
    assert made.position(("a", "b")) == Position("f.yaml", 2, 6)
    assert made.position(("a", "b", 1, "c")) == Position("f.yaml", 2, 14)
    assert made.position(("a", "b", 1, "c"), key=True) == Position("f.yaml", 2, 11)
    assert made.position(("d e",), key=True) == Position("f.yaml", 3, 1)
    assert made.position(()) == Position("f.yaml", 1, 1)


def test_steps_that_lead_nowhere_are_passed_over() -> None:
    made = document("a: {b: 1}\n")
    assert made.position(("a", "Model", 0, "b", "int")) == made.position(("a", "b"))
    assert made.position(("nowhere", "at", "all")) == Position("f.yaml", 1, 1)


SCALARS = [
    ("a: one two\n", ["1:4", "1:8"]),
    ("a: 'one  two'\n", ["1:5", "1:10"]),
    ("a: 'it''s two'\n", ["1:5", "1:11"]),
    ('a: "one \\"x\\" two"\n', ["1:5", "1:9", "1:15"]),
    ('a: "o\\x41e\\ttwo"\n', ["1:5", "1:13"]),
    ("a: |\n  one\n    two three\n\n  four\n", ["2:3", "3:5", "3:9", "5:3"]),
    ("a: |2- # why\n    one\n   two\n", ["2:5", "3:4"]),
    ("a: >-\n  one\n  two\n\n  three\n", ["2:3", "3:3", "5:3"]),
    ("a: one\n  two\n\n  three\n", ["1:4", "2:3", "4:3"]),
    ("a: 'one\n  two'\n", ["1:5", "2:3"]),
    ('a: "one \\\n  two"\n', ["1:5", "2:3"]),
    ("a: é ü two\n", ["1:4", "1:6", "1:8"]),
]


@pytest.mark.parametrize(("content", "words"), SCALARS)
def test_the_position_of_each_word_of_a_scalar(content: str, words: list[str]) -> None:
    made = document(content)
    assert isinstance(made.data, dict)
    value = made.data["a"]
    assert isinstance(value, str)
    found, start = [], 0
    for word in value.split():
        start = value.index(word, start)
        position = made.scalar_position(("a",), start)
        found.append(f"{position.line}:{position.column}")
        start += len(word)
    assert found == words


def test_positions_of_white_space_and_beyond_the_end() -> None:
    made = document("a: '  x  y  '\nb: z\nc: ''\n")
    columns = [made.scalar_position(("a",), offset).column for offset in range(9)]
    assert columns == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert made.scalar_position(("b",), 99) == Position("f.yaml", 2, 5)
    assert made.scalar_position(("b",), -1) == Position("f.yaml", 2, 4)
    assert made.scalar_position(("c",), 0).line == 3
    assert made.scalar_position(("nowhere",), 5) == Position("f.yaml", 1, 1)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.sampled_from("ab'\"\\ é#:{}[]&*!|>%@`,?-\t") | st.characters(categories=["L", "N"]), max_size=40),
    style=st.sampled_from(["'", '"', "|"]),
)
def test_every_character_of_a_scalar_is_found_where_it_stands(text: str, style: str) -> None:
    typed = {
        "'": "'" + text.replace("'", "''") + "'",
        '"': '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"',
        "|": "|2-\n  " + text,
    }[style]
    if style == "|" and (text[:1] == "\t" or not text.strip()):
        return
    made = document(f"a: {typed}\n")
    assert made.data == {"a": text}
    lines = made.text.split("\n")
    for offset, character in enumerate(text):
        position = made.scalar_position(("a",), offset)
        there = lines[position.line - 1][position.column - 1]
        assert there == character or (there == "\\" and character in "\\\"'") or character.isspace()


# Any octets


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | st.lists(
        st.sampled_from(
            ["a", "b: ", ": ", "- ", "? ", "[", "]", "{", "}", ",", "\n", "\n  ", "'", '"', "&x ", "*x", "!t ", "|",
             ">", "#", "%YAML 1.1\n", "---\n", "...\n", "<<", "\t", "\\", "null", "1", "@", "\r\n", "\ufeff"]
        ),
        max_size=40,
    ).map(lambda words: "".join(words).encode())
)  # fmt: skip
def test_any_octets_are_a_document_or_problems(octets: bytes) -> None:
    try:
        made = document(octets)
    except ConfigError as refusal:
        error = refusal
    else:
        for loc in [*made.places, *made.keys]:
            made.position(loc)
            made.position(loc, key=True)
            for offset in (0, 1, 5, 1000):
                made.scalar_position(loc, offset)
        return
    assert error.problems
    for problem in error.problems:
        assert problem.position.line >= 1
        assert problem.position.column >= 1
        assert problem.what
        assert problem.hint
    lines = str(error).splitlines()
    assert len(lines) == len(error.problems), "one line each, whatever stands in the file"
    assert all(line.isprintable() for line in lines)


# Models


class Inner(Model):
    name: str
    count: Count = 1


class Choice(Model):
    tag: dict[str, str]


class Outer(Model):
    title: str
    inner: Inner | None = None
    inners: dict[str, Inner] = Field(default_factory=dict)
    many: Annotated[tuple[Inner, ...], Field(min_length=1)] | None = None
    mode: Literal["observe", "enforce"] = "enforce"
    then: Literal["accept", "reject"] | Choice = "accept"
    people: str | list[str] = ""
    ratio: float = 1.0
    on: Bool = False
    wait: Duration = 1.0
    size: Size = 1
    short: Annotated[str, Field(max_length=3)] = ""
    source: Annotated[str, Field(alias="from")] = ""


def findings(content: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate(document(content, strict=False), Outer)
    return [str(problem).removeprefix("f.yaml:") for problem in error.value.problems]


KNOWN = ["title", "inner", "inners", "many", "mode", "then", "people", "ratio", "on", "wait", "size", "short", "from"]
ALIAS = "anchors and aliases are not supported; write the value out, or put it in quotes if it begins with"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["1:1: the file is empty; write 'key: value' lines"]),
        ("title", ["1:1: the file must be a mapping, not the text 'title'; write 'key: value', each on its own line"]),
        ("titel: x", ["1:1: unknown key 'titel'; did you mean 'title'?"]),
        ("title: [x]", ["1:8: 'title' must be text, not a list; put it in quotes"]),
        ("title: 5", ["1:8: 'title' must be text, not the number 5; put it in quotes"]),
        ("title:", ["1:7: 'title' has no value; write one, or remove the key"]),
        ("title: x\nform: y", ["2:1: unknown key 'form'; did you mean 'from'?"]),
        ("title: x\nsource: y", [
            f"2:1: unknown key 'source'; known here: {', '.join(KNOWN)}",
        ]),
        ("title: x\ninner: {nam: y}", ["2:9: unknown key 'nam'; did you mean 'name'?"]),
        ("title: x\ninners: {a: {nam: y}, b: 1}", [
            "2:14: unknown key 'nam'; did you mean 'name'?",
            "2:26: 'b' must be a mapping, not the number 1; write 'key: value', each on its own line",
        ]),
        ("title: x\nmany: [{name: a, cuont: 1}]", ["2:18: unknown key 'cuont'; did you mean 'count'?"]),
        ("title: x\nmany: []", ["2:7: 'many' needs at least 1 entry; add one"]),
        ("title: x\nmany: [{}]", ["2:8: the key 'name' is missing in an entry of 'many'; add 'name: ...'"]),
        ("title: x\nmode: observ", [
            "2:7: 'mode' must be 'observe' or 'enforce', not the text 'observ'; did you mean 'observe'?"]),
        ("title: x\nthen: rejct", [
            "2:7: 'then' must be 'accept' or 'reject' or a mapping, not the text 'rejct'; did you mean 'reject'?"]),
        ("title: x\nthen: {tga: {}}", ["2:8: unknown key 'tga'; did you mean 'tag'?"]),
        ("title: x\nthen: {tag: {a: 1}}", ["2:17: 'a' must be text, not the number 1; put it in quotes"]),
        ("title: x\npeople: 5", ["2:9: 'people' must be text or a list, not the number 5; write text or a list"]),
        ("title: x\npeople: [a, 5]", ["2:13: an entry of 'people' must be text, not the number 5; put it in quotes"]),
        ("title: x\nratio: much", ["2:8: 'ratio' must be a number, not the text 'much'; write digits, without quotes"]),
        ("title: x\non: yes", ["2:5: 'on' must be true or false, not the text 'yes'; write true"]),
        ("title: x\non: 1", ["2:5: 'on' must be true or false, not the number 1; write true or false, without quotes"]),
        ("title: x\nwait: 5", ["2:7: the duration 5 has no unit; write 5s, 5m or 5h"]),
        ("title: x\nshort: long one", ["2:8: 'short' needs at most 3 characters; make it shorter"]),
        ("title: x\ninner: {name: y, count: 0}", [
            "2:25: 'count' must be at least 1, not the number 0; write a number that is at least 1"]),
        ("title: &t x\ninner: *t", [
            f"1:8: {ALIAS} '&'",
            f"2:8: {ALIAS} '*'",
        ]),
        ("title: x\non: maybe\non: true\n", [
            "2:5: 'on' must be true or false, not the text 'maybe'; write true or false, without quotes",
            "3:1: the key 'on' stands twice, first in line 2; keep one of them",
        ]),
    ],
)  # fmt: skip
def test_findings_in_words(content: str, expected: list[str]) -> None:
    assert findings(content) == expected


def test_a_good_document_becomes_the_model() -> None:
    made = validate(document("title: x\nwait: 90s\nsize: 35MB\nfrom: here\nthen: {tag: {X-A: b}}\n"), Outer)
    assert (made.title, made.wait, made.size, made.source) == ("x", 90.0, 35_000_000, "here")
    assert isinstance(made.then, Choice)


def test_a_thousand_mistakes_are_not_all_told() -> None:
    assert len(findings("title: x\n" + "".join(f"k{i}: 1\n" for i in range(1000)))) == 100


def test_terminal_escapes_of_a_file_reach_nobody() -> None:
    problem = Problem(Position("a\x1b]0;b", 1, 1), "what\n\x07", "hint\u202e")
    assert str(problem).isprintable()


def test_warnings_say_so() -> None:
    problem = Problem(Position("f", 1, 2), "the certificate expires", "renew it", "warning")
    assert str(problem) == "f:1:2: warning: the certificate expires; renew it"


def test_errors_are_sorted_and_told_once() -> None:
    late, early = Problem(Position("f", 2, 1), "b"), Problem(Position("f", 1, 1), "a")
    assert PolicyError([late, early, late]).problems == (early, late)
    assert isinstance(PolicyError([late]), ConfigError)


def test_a_fault_reads_well_on_its_own() -> None:
    assert str(Fault("wrong", "mend")) == "wrong; mend"
    assert str(Fault("wrong")) == "wrong"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("hostnam", "did you mean 'hostname'?"),
        ("HOSTNAME", "did you mean 'hostname'?"),
        ("host-name", "did you mean 'hostname'?"),
        ("hostname:", "did you mean 'hostname'?"),
        ("max_recipients", "did you mean 'recipients'?"),
        ("recip", "did you mean 'recipients'?"),
        ("colour", ""),
        ("", ""),
        ("x" * 1_000_000, ""),
    ],
)
def test_nearest(word: str, hint: str) -> None:
    assert nearest(word, ["hostname", "recipients"]) == hint


# Durations and sizes


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("5m", 300),
        ("24h", 86_400),
        ("36d", 36 * 86_400),
        ("100ms", 0.1),
        ("90s", 90),
        ("1.5h", 5400),
        ("2w", 1_209_600),
    ],
)
def test_durations(typed: str, seconds: float) -> None:
    assert parse_duration(typed) == pytest.approx(seconds)
    assert parse_duration(spell_duration(parse_duration(typed))) == pytest.approx(seconds)


@pytest.mark.parametrize("typed", ["5", 5, 5.0, True, None, "", "m", "-5m", "5 m", "5M", "1h30m", "٥m", "1e3s", [], {}])
def test_what_is_no_duration(typed: object) -> None:
    with pytest.raises(Fault) as fault:
        parse_duration(typed)
    assert fault.value.hint


@pytest.mark.parametrize(
    ("typed", "octets"), [("35MB", 35_000_000), ("1KB", 1000), ("1.5GB", 1_500_000_000), ("512B", 512), ("0B", 0)]
)
def test_sizes(typed: str, octets: int) -> None:
    assert parse_size(typed) == octets
    assert parse_size(spell_size(octets)) == octets


@pytest.mark.parametrize(
    "typed", [35, "35", "35M", "35mb", "35 MB", "35MiB", "0.0001KB", "-1MB", "", None, True, [], {}]
)
def test_what_is_no_size(typed: object) -> None:
    with pytest.raises(Fault) as fault:
        parse_size(typed)
    assert fault.value.hint


@given(st.integers(0, 10**12))
def test_sizes_spelled_read_back(octets: int) -> None:
    assert parse_size(spell_size(octets)) == octets


@given(st.integers(0, 10**10))
def test_durations_spelled_read_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(spell_duration(seconds)) == pytest.approx(seconds)
