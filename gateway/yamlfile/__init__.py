"""YAML with positions, for configuration and policy files: the one loader of the house.

`load` reads a file into plain data and remembers where everything stood, `validate` holds it against a pydantic model,
and every mistake of a file is told at once as `file:line:column: what; hint` (DESIGN section 3). The dialect is what
people believe YAML to be: `true`, `false`, `null` and plain decimal numbers mean what they say, everything else stays
the text that was typed (`no`, `off`, `0600`, `12:30`, `1_000`, `2027-03-31`). Anchors, aliases, merge keys, tags,
directives, several documents and duplicate keys are refused.
"""

from gateway.yamlfile.document import Data, Document
from gateway.yamlfile.loader import load
from gateway.yamlfile.problem import ConfigError, Fault, Loc, PolicyError, Position, Problem
from gateway.yamlfile.scalars import first_forbidden, why_forbidden
from gateway.yamlfile.units import Bool, Count, Duration, Size, duration, size, spell_duration, spell_size
from gateway.yamlfile.validate import Model, known_keys, validate
from gateway.yamlfile.wording import nearest

__all__ = [
    "Bool",
    "ConfigError",
    "Count",
    "Data",
    "Document",
    "Duration",
    "Fault",
    "Loc",
    "Model",
    "PolicyError",
    "Position",
    "Problem",
    "Size",
    "duration",
    "first_forbidden",
    "known_keys",
    "load",
    "nearest",
    "size",
    "spell_duration",
    "spell_size",
    "validate",
    "why_forbidden",
]
