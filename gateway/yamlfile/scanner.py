"""libyaml's messages in human words, each with a mend. The only place that knows their wording (libyaml 0.2.5)."""

import yaml

from gateway.yamlfile.document import Document
from gateway.yamlfile.problem import Problem, shown

_QUOTES = "put the whole value in quotes"
_TAB = ("a tab at the beginning of the line", "use spaces")
_DIRECTIVE = ("directives are not supported", "remove the line that begins with '%'")
_SAID: dict[str, tuple[str, str]] = {
    "mapping values are not allowed in this context": (
        "a ':' does not belong here",
        "put the value in quotes if the ':' is part of it; else check the indentation and the line above",
    ),
    "mapping keys are not allowed in this context": ("a '?' does not belong here", _QUOTES),
    "block sequence entries are not allowed in this context": (
        "a list item does not belong here",
        "begin the list on the next line, or write [a, b]",
    ),
    "did not find expected '-' indicator": (
        "this does not continue the list above",
        "begin the line with '- ', or indent it by less",
    ),
    "did not find expected key": (
        "a key was expected here",
        "check the indentation and the line above; a value that begins with a quote or a bracket must end with it",
    ),
    "could not find expected ':'": ("a ':' is missing after the key", "write 'key: value'"),
    "did not find expected node content": ("a value was expected here", _QUOTES),
    "found unknown escape character": (
        "an unknown escape after '\\'",
        "use single quotes, in which '\\' is an ordinary character",
    ),
    "did not find expected comment or line break": (
        "nothing but a comment may follow '|' or '>'",
        "begin the text on the next line, indented",
    ),
    "found a tab character that violates indentation": _TAB,
    "found a tab character where an indentation space is expected": _TAB,
    "found incompatible YAML document": _DIRECTIVE,
    "found unknown directive name": _DIRECTIVE,
    "did not find expected <document start>": (
        "the file goes on after its end",
        "check the indentation of this line and of the first one",
    ),
}


def explain(error: yaml.MarkedYAMLError, document: Document, last: yaml.Event | None) -> Problem:
    """The problem that `error` is, at the most useful of its places. `last` is the event before it."""
    mark, opened = error.problem_mark, error.context_mark
    index = mark.index if mark else 0
    said = error.problem or "this is not YAML"
    line = opened.line + 1 if opened else 0
    begun = _begun_in_quotes(last, document)
    if begun is not None and said == "did not find expected key":
        what = "the quotation mark that opens here is closed only by one in a later line"
        hint = f"is one missing? This text goes on until {document.at(index).line}:{document.at(index).column}"
        index = begun
    elif said == "found unexpected end of stream" and opened:
        what, hint = "the quotation mark that opens here is never closed", "close it"
        index = opened.index
    elif said.startswith("did not find expected ',' or") and opened:
        bracket = said[-2]
        begins = "list" if bracket == "]" else "mapping"
        what = f"the {begins} that opens with '{document.text[opened.index]}' in line {line} goes on here without ','"
        hint = f"write ',' between its items, or close it with '{bracket}'"
    elif said == "found character that cannot start any token":
        character = document.text[index : index + 1]
        what, hint = f"a value cannot begin with {shown(character)}", _QUOTES
    elif said.startswith("did not find expected alphabetic or numeric character"):
        # An unquoted `*.example.org:` is read as an alias, `&& x` as an anchor.
        index = opened.index if opened else max(index - 1, 0)
        what = f"text cannot begin with {shown(document.text[index : index + 1])}"
        hint = 'put it in quotes, as in "*.example.org"' if document.text[index : index + 1] == "*" else _QUOTES
    elif error.context in {"while scanning a tag", "while parsing a tag"}:
        index = opened.index if opened else index
        what, hint = "a value cannot begin with '!'", _QUOTES
    elif said in _SAID:
        what, hint = _SAID[said]
    else:
        what, hint = f"this is not YAML: {said}", "check indentation, quotes and brackets"
    return Problem(document.at(min(index, len(document.text))), what, hint)


def _begun_in_quotes(last: yaml.Event | None, document: Document) -> int | None:
    """Where the text in quotes began that `last` is, if it runs over several lines."""
    if (
        not isinstance(last, yaml.ScalarEvent)
        or last.style not in ("'", '"')
        or not last.start_mark
        or not last.end_mark
    ):
        return None
    begin: int = last.start_mark.index
    return begin if "\n" in document.text[begin : last.end_mark.index] else None
