"""The language of `*.smtp`: a dialogue as one reads it aloud, with the world around it given.

    # What this shows, in one sentence.
    zone     OWNER TYPE VALUE          one record of the only DNS there is; VALUE in quotes where it has spaces;
                                       SERVFAIL, TIMEOUT or NXDOMAIN without quotes fail instead
    client   192.0.2.7                 where the client comes from
    config   limits.message 2KB        one value of the configuration, by its dotted name; `null` takes it out
    policy                             the lines below it, indented, are a policy file
      rules: ...
    backend  refuses ADDRESS REPLY     the backend's answer to that RCPT; MAIL stands for its answer to any MAIL
    backend  refuses-dot REPLY         its answer to every final dot; `-` for none
    backend  down                      nobody listens there
    backend  vanishes                  it has read the final dot, and is gone without a word
    backend  offers SIZE 1000, DSN     what its EHLO says besides STARTTLS, from the first line of the script on
    relay    crashes                   our own bug: what brings mails to the backend raises an exception
    house    crashes WHERE             our own bug at `greeted`, `mail` or `rcpt`
    certificate gone                   the gateway has none to show any more
    relay    engaged                   other mails hold a connection to the backend, and go on doing so
    advance  5m                        the clock moves on, and the edge looks whose time is up
    C: NOOP                            a line the client sends (CRLF is added)
    C\\ MAIL FROM:<a@b>\\n              octets it sends, Python's escapes, nothing added
    S: 250 2.0.0 OK                    a line the server says; `*` stands for anything
    B: FROM <a@b> TO <c@d>             what the backend took since the last look: envelopes and messages
    closed                             the server closes the connection
    connect  [198.51.100.1]            the client opens a new connection (from there); the one before stays open, unused
    return                             it goes on with the one before
    C*9: NOOP                          nine such lines; so with C\\*9 and S*9
    tls      [NAME | self-signed]      the handshake: all that follows is inside TLS; with a certificate of the client,
                                       for NAME by the authority in partners.pem, or its own work
    drain                              the gateway goes down
    worker   busy                      its loop is late; or at-ease again
    silence                            nothing is said, for a while

`#` and empty lines stay where they are. With GOLDEN=write the S:, B: and `closed` lines are rewritten.
"""

import codecs
import re
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

SPOKEN = ("S", "B", "closed")
_SET_UP = {"zone", "client", "config", "policy"}
_HAPPENS = {"backend", "relay", "house", "certificate", "worker", "advance", "closed", "connect", "return", "tls"}
_HAPPENS |= {"drain", "silence"}
_REPEATED = re.compile(r"(C\\|C|S)\*(\d+):? (.*)")
_MANY = 10  # equal lines of speech, which `rewritten` makes one


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script: what it is, what it says, and where it stands."""

    kind: str  # "C" "C\\" "S" "B", a word of `_HAPPENS`, or "" for comment, empty and set-up lines
    text: str
    number: int
    raw: str
    times: int = 1


@dataclass(slots=True)
class Script:
    """A parsed file."""

    path: Path
    lines: list[Line] = field(default_factory=list)
    zone: dict[str, dict[str, list[str] | str]] = field(default_factory=dict)
    client: str = "192.0.2.7"
    config: list[tuple[str, str]] = field(default_factory=list)
    policy: str = ""

    def __str__(self) -> str:
        return f"{self.path.stem}"


def parse(path: Path) -> Script:
    """Reads a script. An unknown word is a `ValueError` with the line's number."""
    script = Script(path)
    in_policy = False
    for number, raw in enumerate(path.read_text("utf-8").splitlines(), 1):
        if in_policy and (raw.startswith("  ") or not raw.strip()):
            script.policy += raw[2:] + "\n"
            script.lines.append(Line("", "", number, raw))
            continue
        in_policy = False
        if match := _REPEATED.fullmatch(raw):
            kind, times, text = match[1], int(match[2]), match[3]
            expected = kind == "S"  # each reply is compared for itself
            script.lines += [Line(kind, text, number, raw, 1 if expected else times)] * (times if expected else 1)
            continue
        kind, text = _split(raw, number, path)
        if kind in _SET_UP:
            in_policy = kind == "policy"
            _set_up(script, kind, text)
            kind = ""
        script.lines.append(Line(kind, text, number, raw))
    return script


def _split(raw: str, number: int, path: Path) -> tuple[str, str]:
    if not raw.strip() or raw.startswith("#"):
        return "", raw
    if raw[:2] in {"C:", "S:", "B:", "C\\"}:
        return ("C\\" if raw[1] == "\\" else raw[0]), raw[3:]
    word, _, rest = raw.partition(" ")
    if word not in _SET_UP | _HAPPENS:
        raise ValueError(f"{path.name}:{number}: unknown word {word!r}")
    return word, rest.strip()


def _set_up(script: Script, kind: str, text: str) -> None:
    match kind:
        case "zone":
            owner, rdtype, value = text.split(maxsplit=2)
            types = script.zone.setdefault(owner, {})
            known = types.get(rdtype, [])
            failing = value in {"SERVFAIL", "TIMEOUT", "NXDOMAIN"}
            types[rdtype] = value if failing else [*known, value.strip('"')]
        case "client":
            script.client = text
        case "config":
            name, value = text.split(maxsplit=1)
            script.config.append((name, value))


def octets(line: Line) -> bytes:
    """What a client's line is on the wire."""
    if line.kind == "C":
        return line.times * (line.text.encode("utf-8") + b"\r\n")
    text = codecs.decode(line.text.encode("latin-1", "backslashreplace"), "unicode_escape")
    return line.times * text.encode("latin-1")


def matches(expected: str, said: str) -> bool:
    """True when the line is as expected, `*` standing for anything."""
    return bool(re.fullmatch(".*".join(map(re.escape, expected.split("*"))), said))


def rewritten(script: Script, outcomes: dict[int, list[tuple[str, str]]]) -> str:
    """The file with what was said: `outcomes` maps the number of a spoken run's first line to kinds and texts.

    A line whose expectation still holds stays as it is, so that wildcards survive; a mere `*` stands for "fill me in".
    """
    out: list[str] = []
    skip = 0
    for index, line in enumerate(script.lines):
        if index < skip:
            continue
        if line.kind not in SPOKEN:
            out.append(line.raw)
            continue
        run = spoken_run(script, index)
        skip = index + len(run)
        said = outcomes.get(line.number, [])
        spoken: list[tuple[str, str]] = []
        for place, (kind, text) in enumerate(said):
            old = run[place] if place < len(run) else None
            holds = old is not None and old.kind == kind and old.text != "*" and matches(old.text, text)
            spoken.append((kind, old.text if old is not None and holds else text))
        for (kind, text), same in groupby(spoken):
            times = len(list(same))
            many = kind == "S" and times >= _MANY
            for _ in range(1 if many else times):
                word = f"S*{times}" if many else kind
                out.append(kind if kind == "closed" else f"{word}: {text}".rstrip())
    return "\n".join(out) + "\n"


def spoken_run(script: Script, index: int) -> list[Line]:
    """The lines of one kind of speech that stand together, from `index` on: S: with closed, or B:."""
    kinds = {"B"} if script.lines[index].kind == "B" else {"S", "closed"}
    run = []
    for line in script.lines[index:]:
        if line.kind not in kinds:
            break
        run.append(line)
    return run
