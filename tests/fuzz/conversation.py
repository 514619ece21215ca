"""The whole gateway, octets to relay: a turn whole, octet by octet or anyhow, the same replies and the same mails; and
of those only what a complete, valid dialogue brought, as a strict reader of the standards sees it (`reference`).

Nothing crashes, nothing is left behind, every connection ends. Where octets behind a command that ends a group come
at once the connection is closed (RFC 2920), so that a whole turn may end earlier than one that comes octet by octet.
"""

import contextlib
import itertools
import random
import re
import zlib
from pathlib import Path

from tests.fuzz.rig.house import HOSTNAME, MESSAGE, RECIPIENTS
from tests.fuzz.rig.reference import Reference
from tests.fuzz.rig.session import Terms
from tests.fuzz.rig.speech import SEEDS as SPOKEN
from tests.fuzz.rig.speech import spoken
from tests.fuzz.rig.visit import Manner, Outcome, Script, place
from tests.fuzz.rig.words import TOKENS

__all__ = ["CORPUS", "SEEDS", "TOKENS", "one", "shapes", "spoken"]

#: What `grow` found: inputs that lead to different conversations, one a line.
CORPUS = Path(__file__).parent / "corpus" / "conversation.txt"
SEEDS = list(SPOKEN)
with contextlib.suppress(FileNotFoundError):
    SEEDS += [bytes.fromhex(line) for line in CORPUS.read_text("ascii").split()]
#: The input of the last call of `one`, and how it went as a whole: `grow` asks for its shapes next.
_LAST: list[tuple[bytes, Reference]] = []


def one(data: bytes) -> None:
    script, chance = Script.parse(data), random.Random(zlib.crc32(data))
    single, _ = judged(script, Manner("single"), "never")
    whole, reference = judged(script, Manner("whole"), "always")
    _LAST[:] = [(data, reference)]
    same(single, whole)
    same(single, judged(script, Manner("random", chance), "maybe")[0])
    vanished(script, single, chance)


def judged(script: Script, manner: Manner, glued: str) -> tuple[Outcome, Reference]:
    """One visit, held against the reference."""
    outcome = place().visit(script, manner)
    assert not outcome.faults, "\n".join(outcome.faults)
    profile, told = script.profile, iter(outcome.told)
    reference = Reference(
        Terms(
            profile.starttls,
            profile.implicit,
            profile.ip,
            profile.proxy,
            profile.xclient,
            HOSTNAME,
            MESSAGE,
            RECIPIENTS,
        ),
        glued,
    )
    for octets, then in script.turns:
        heard = next(told)
        reference.turn(octets, heard.octets, heard.silent)
        if then == "late":
            heard = next(told)
            reference.late(heard.octets, heard.silent)
        elif then == "lost":
            reference.lost()
        reference.shaken()
    heard = next(told)
    reference.gone(heard.octets, heard.silent)
    reference.finish(outcome.sent)
    return outcome, reference


def same(single: Outcome, other: Outcome) -> None:
    """The same replies and mails; or fewer, and then a 503 for octets that came too early ends them."""
    heard, wanted = (b"".join(told.octets for told in outcome.told) for outcome in (other, single))
    if heard == wanted:
        assert len(other.sent) == len(single.sent)
    else:
        before, _, last = heard.removesuffix(b"\r\n").rpartition(b"\r\n")
        assert last.startswith(b"503 "), (heard, wanted)
        assert wanted.startswith(before), (heard, wanted)
    for ours, theirs in zip(other.sent, single.sent, strict=False):
        assert (ours.mail, ours.recipients, ours.client) == (theirs.mail, theirs.recipients, theirs.client)
        assert ours.content[len(ours.prepended) :] == theirs.content[len(theirs.prepended) :]


def vanished(script: Script, single: Outcome, chance: random.Random) -> None:
    """The client is gone in the midst of it: what reached the relay is a beginning of what would have."""
    turns = list(script.turns)
    number = chance.randrange(len(turns))
    octets = turns[number][0]
    cut = chance.randint(0, len(octets))
    outcome = place().visit(
        Script(script.profile, (*turns[:number], (octets[:cut], "vanish"))), Manner("random", chance)
    )
    assert not outcome.faults, "\n".join(outcome.faults)
    mails = [(sent.mail, sent.recipients, sent.content[len(sent.prepended) :]) for sent in single.sent]
    for sent, mail in zip(outcome.sent, mails, strict=False):
        assert (sent.mail, sent.recipients, sent.content[len(sent.prepended) :]) == mail
    assert len(outcome.sent) <= len(mails)


def shapes(data: bytes) -> set[str]:
    """What follows what, for `grow`: each command or content with its reply, and the next one."""
    known = [reference for seen, reference in _LAST if seen == data]
    reference = known[0] if known else judged(Script.parse(data), Manner("whole"), "always")[1]
    steps = re.findall(r"\S* ?\d{3}[.\d]*", " ".join(reference.how))
    return {f"{step}, {following}" for step, following in itertools.pairwise([data[:1].decode("latin-1"), *steps])}
