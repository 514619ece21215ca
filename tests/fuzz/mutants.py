"""`python -m tests.fuzz.mutants`: are `conversation` and `backend` any good? Each of these bugs, put into a copy, must
be found.

One process a mutant, at most `--seconds` each. Status 1 when one was not found, or the code is no longer what it was
(then the mutant is to be written anew).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """In that file of `gateway`, `old` stands once and becomes `new`; `target` is to find it."""

    what: str
    file: str
    old: str
    new: str
    target: str = "conversation"


MUTANTS = (
    Mutant(
        "LF.CRLF ends a message",
        "smtp/reader.py",
        "octets = self._held + octets\n",
        'octets = self._held + octets.replace(b"\\n.\\r\\n", b"\\r\\n.\\r\\n").replace(b"\\r\\r\\n", b"\\r\\n")\n',
    ),
    Mutant("bare octets are let through", "smtp/reader.py", "        if self._bare:\n", "        if False:\n"),
    Mutant("dots stay stuffed", "smtp/reader.py", 'piece = piece.replace(b"\\r\\n.", b"\\r\\n")', "pass"),
    Mutant("an end in two pieces is missed", "smtp/reader.py", "for n in (4, 3, 2, 1)", "for n in (2, 1)"),
    Mutant(
        "a chunk is an octet too short",
        "smtp/chunks.py",
        "self._octets = self._left = octets\n",
        "self._octets = self._left = max(0, octets - 1)\n",
    ),
    Mutant(
        "a CR between chunks gets lost",
        "smtp/chunks.py",
        'piece, self._cr = b"\\r" + piece, False',
        "self._cr = False",
    ),
    Mutant("RSET forgets nothing", "smtp/protocol.py", 'ended=self._end("RSET"))', 'ended="")'),
    Mutant("EHLO forgets nothing", "smtp/protocol.py", 'self._end("EHLO" if esmtp else "HELO")', '""'),
    Mutant(
        "recipients outlive their transaction",
        "smtp/protocol.py",
        "self._envelope, self._recipients = envelope, 0",
        "self._envelope = envelope",
    ),
    Mutant(
        "octets survive STARTTLS",
        "smtp/protocol.py",
        'self._alone("5.5.0")\n        if not self._tls_ready():',
        "if not self._tls_ready():",
    ),
    Mutant(
        "a greeting survives STARTTLS",
        "smtp/protocol.py",
        "        self._forget()\n        self._pending = event",
        "        self._pending = event",
    ),
    Mutant(
        "octets behind the end of a group are obeyed",
        "smtp/protocol.py",
        '("Wait for the reply before you go on",)), close=True)',
        '("Wait for the reply before you go on",)))',
    ),
    Mutant("nobody's time is ever up", "smtp/connection.py", "if not self._patience.over(now):", "if True:"),
    Mutant(
        "it reads on behind what smuggles",
        "smtp/reader.py",
        '("A bare CR, a bare LF or a NUL in the message",)), close=True)',
        '("A bare CR, a bare LF or a NUL in the message",)))',
    ),
    Mutant(
        "a refused chunk is forgiven",
        "smtp/protocol.py",
        'Say(said.reply, ended=self._end("a chunk out of turn"))',
        "said",
    ),
    Mutant("DATA without recipients", "smtp/protocol.py", "if not self._recipients:", "if False:"),
    Mutant("one recipient too many", "smtp/protocol.py", ">= self._rules.recipients:", "> self._rules.recipients:"),
    Mutant(
        "XCLIENT from anybody",
        "smtp/protocol.py",
        "if not self._xclient or self._envelope is not None:",
        "if self._envelope is not None:",
    ),
    Mutant("the end is no end", "smtp/connection.py", "        if said.close:\n", "        if False:\n"),
    Mutant(
        "parameters after HELO",
        "smtp/parameters.py",
        "if not esmtp:\n            raise _unknown()",
        "if not esmtp:\n            pass",
    ),
    Mutant("SMTPUTF8 is forgotten", "smtp/parameters.py", "replace(envelope, smtputf8=True)", "envelope"),
    Mutant(
        "the proxy is taken for the client",
        "smtp/door.py",
        "await proxy.told(receive) or peer",
        "await proxy.told(receive) and peer or peer",
    ),
    Mutant("an open relay", "relay/route.py", "    return None\n", '    return "main"\n'),
    Mutant(
        "refused recipients get the mail",
        "pipeline.py",
        "        if known.reply is not None:\n",
        "        if known.reply is not None:\n            self.tx.envelope.recipients.append(recipient)\n",
    ),
    Mutant(
        "250 whatever the backend says",
        "pipeline.py",
        "action, fate.reply, rule",
        'action, Reply(250, "2.0.0", ("Ok",)), rule',
    ),
    Mutant("a journey is left behind", "pipeline.py", "        del self._journeys[tx.id]\n", "        pass\n"),
    Mutant("memory is left behind", "mail/message.py", "            released()\n", "            pass\n"),
    Mutant(
        "forged results are passed on", "dress.py", "if place not in proven and claims(field, hostname)", "if False"
    ),
    Mutant(
        "a reply before it is due",
        "relay/wire.py",
        "                if self._due == 0:\n",
        "                if False:\n",
        "backend",
    ),
    Mutant(
        "any reply to the dot is a yes",
        "relay/client.py",
        "is Step.DOT and self.response.code == 250",
        "is Step.DOT",
        "backend",
    ),
    Mutant("354 to the dot is a yes", "relay/fate.py", "Step.DOT: (250,)", "Step.DOT: (250, 354)", "backend"),
    Mutant(
        "no TLS where none is offered",
        "relay/opening.py",
        'raise Untrusted("STARTTLS is not offered")',
        "return offered",
        "backend",
    ),
    Mutant(
        "codes of one reply differ",
        "relay/response.py",
        "if self._lines and code != self._code:",
        "if False:",
        "backend",
    ),
)


def planted(mutant: Mutant, folder: Path) -> None:
    """A copy of the code with that bug. Raises `ValueError` where it does not fit any more."""
    text = (REPOSITORY / "gateway" / mutant.file).read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.what}: stands {text.count(mutant.old)} times in {mutant.file}: {mutant.old!r}")
    for name in ("gateway", "tests/fuzz", "tests/support"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "__init__.py").touch()
    (folder / "gateway" / mutant.file).write_text(text.replace(mutant.old, mutant.new), "utf-8")


def found(mutant: Mutant, seconds: float, seed: int) -> float | None:
    """How long it took to find it; `None` when it was not found in time."""
    with tempfile.TemporaryDirectory(prefix="gatepost-mutant-") as folder:
        planted(mutant, Path(folder))
        bounds = ["--seconds", str(seconds), "--seed", str(seed), "--keep", folder]
        words = [sys.executable, "-m", "tests.fuzz.run", *bounds, mutant.target]
        started = time.monotonic()
        run = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode not in {0, 1} or (run.returncode and "BROKEN" not in run.stdout):
            raise RuntimeError(run.stdout + run.stderr)
        return time.monotonic() - started if run.returncode else None


def main() -> int:
    """All of them, or those whose names hold a word."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.mutants")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("word", nargs="?", default="")
    given = parser.parse_args()
    missed = 0
    for mutant in MUTANTS:
        if given.word not in mutant.what:
            continue
        try:
            seconds = found(mutant, given.seconds, given.seed)
        except ValueError as why:
            seconds = None
            print(why)
        missed += seconds is None
        print(f"{mutant.what:40} {'NOT FOUND' if seconds is None else f'found in {seconds:.1f} s'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
