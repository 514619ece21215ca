"""The JSON Schema of a policy file, for editors: completion and first mistakes while typing.

It is made from the tables that the loader reads by, so that it cannot fall behind. It says less than the loader: an
expression is a text to it, and what needs two rules at once it cannot see. `gatepost policy check` is the judge.
"""

from gateway.policy.cases import GREYLIST, LIMIT, OUTCOMES
from gateway.policy.reading import IDENTITY, STAGES
from gateway.policy.replies import CODES
from gateway.policy.rules import EFFECTS, Action
from gateway.policy.vocabulary import FACTS, Known

Schema = dict[str, object]

_TEXT: Schema = {"type": "string", "minLength": 1}
_LINE: Schema = {"type": "string", "pattern": r"^[ -~]+$"}
_DURATION: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d|w)$"}
_WORDS = [action.value for action in (Action.ACCEPT, Action.REJECT, Action.DEFER, Action.QUARANTINE)]
_WORDS += [Action.GREYLIST.value, Action.NOTE.value]


def schema() -> Schema:
    """The schema of one file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gatepost policy",
        "description": "Rules in order, and their tests. Check with: gatepost policy check",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "rules": {"type": ["array", "null"], "items": {"$ref": "#/$defs/rule"}},
            "tests": {"type": ["array", "null"], "items": {"$ref": "#/$defs/test"}},
        },
        "$defs": {"rule": _rule(), "then": _then(), "test": _test(), "given": _given(), "expect": _expect()},
    }


def _rule() -> Schema:
    recipients: Schema = {
        "type": "string",
        "pattern": r'^("[^"]+"@\S+|[^\s"]+)$',
        "description": 'an address, "@domain" or a list\'s name',
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "then"],
        "anyOf": [{"required": ["when"]}, {"required": ["for"]}],
        "allOf": _replies(),
        "properties": {
            "id": {"type": "string", "pattern": f"^{IDENTITY.pattern}$", "description": "unique over all files"},
            "for": {"anyOf": [recipients, {"type": "array", "minItems": 1, "items": recipients}]},
            "when": {"type": ["string", "boolean"], "minLength": 1, "description": "a condition in CEL"},
            "then": {"$ref": "#/$defs/then"},
            "reply": {
                "type": "string",
                "pattern": f"^({_codes(Action.REJECT)} +5|{_codes(Action.DEFER)} +4)" r"(\.\d{1,3}){2}( +[ -~]*)?\n*$",
                "description": "CODE STATUS TEXT; {fact} is filled in",
            },
            "because": _TEXT,
            "mode": {"enum": ["enforce", "observe"]},
            "owner": _TEXT,
            "expires": {"type": "string", "pattern": r"^(never|\d{4}-\d{2}-\d{2})$"},
            "stage": {"enum": list(STAGES)},
            "speak": {"enum": ["now", "rcpt"]},
            "always": {"type": "boolean"},
            "on_error": {"enum": ["defer", "ignore"]},
            "tests": {"type": ["array", "null"], "items": {"$ref": "#/$defs/test"}},
        },
    }


def _codes(action: Action) -> str:
    return f"({'|'.join(str(code) for code in sorted(CODES[action]))})"


def _replies() -> list[Schema]:
    """Who may have a reply, and of which class."""
    rules: list[Schema] = []
    speaking: list[Schema] = []
    for action, codes in CODES.items():
        form: Schema = {"enum": [action.value]}
        if action in EFFECTS:
            form = {"anyOf": [form, {"type": "object", "required": [action.value]}]}
        speaking.append(form)
        spoken: Schema = {"properties": {"reply": {"pattern": f"^{min(codes) // 100}"}}}
        rules.append({"if": {"properties": {"then": form}}, "then": spoken})
    silent: Schema = {"properties": {"then": {"not": {"anyOf": speaking}}}}
    return [*rules, {"if": silent, "then": {"properties": {"reply": False}}}]


def _one(word: str, value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": [word], "properties": {word: value}}


def _object(properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def _then() -> Schema:
    ids: Schema = {"type": "string", "pattern": f"^{IDENTITY.pattern}$"}
    tag = _object(
        {"name": {"type": "string", "pattern": "^X-[A-Za-z0-9-]*[A-Za-z0-9]$"}, "value": _LINE}, ("name", "value")
    )
    texts = sorted(name for name, known in FACTS.items() if known.type == "string")
    rate: Schema = {"type": "string", "pattern": r"^0*[1-9]\d*/\d+(ms|s|m|h|d|w)$", "description": "as in 60/1m"}
    return {
        "oneOf": [
            {"enum": _WORDS},
            _one("greylist", _object({"wait": _DURATION, "window": _DURATION, "keep": _DURATION})),
            _one("limit", _object({"key": {"enum": texts}, "rate": rate}, ("key", "rate"))),
            _one("tag", tag),
            _one("note", _TEXT),
            _one("exempt", {"anyOf": [ids, {"type": "array", "minItems": 1, "items": ids}]}),
        ]
    }


def _test() -> Schema:
    properties: Schema = {"name": _TEXT, "given": {"$ref": "#/$defs/given"}, "expect": {"$ref": "#/$defs/expect"}}
    return _object(properties, ("expect",))


def _given() -> Schema:
    facts: Schema = {name: _fact(known) for name, known in FACTS.items()}
    answers: Schema = {"enum": list(GREYLIST), "description": "how the greylist answers"}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**facts, "greylist": answers, "limit": {"enum": list(LIMIT)}},
        "patternProperties": {r"^lists\.": {"type": "array", "items": {"type": "string"}}},
    }


def _fact(known: Known) -> Schema:
    match known.type:
        case "bool":
            return {"type": "boolean"}
        case "int":
            return {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)? ?(B|KB|MB|GB)?$"}]}
        case "string":
            return {"enum": sorted(known.words)} if known.words else {"type": "string"}
        case "list<string>":
            return {"type": "array", "items": {"type": "string"}}
        case _:
            return {"type": "array", "items": {"type": "object"}}


def _expect() -> Schema:
    return _object(
        {
            "action": {"enum": list(OUTCOMES)},
            "rule": _TEXT,
            "reply": {"type": ["string", "integer"]},
            "stage": {"enum": list(STAGES)},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        ("action",),
    )
