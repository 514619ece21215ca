"""Every reply that the gateway can give stands in some transcript, and every limit and deadline that an operator can
set: who adds one adds a dialogue."""

import ast
from pathlib import Path

import pytest

from gateway.config.model import Deadlines, Limits

FOLDER = Path(__file__).parent
LINES = [line for file in sorted(FOLDER.glob("*.smtp")) for line in file.read_text("utf-8").splitlines()]
SAID = "\n".join(line for line in LINES if line[:1] == "S")
SET = {line.split()[1] for line in LINES if line.startswith("config ")}
#: What makes a reply of its words.
MAKERS = {"Reply", "Template", "_bad", "_refused", "nothing", "sequence", "syntax"}
#: What no dialogue can show, and why.
UNHEARD = {
    "Connection closed by the client": "its client is gone; the journal has it",
    "The mail server takes no UTF-8 addresses": "told at RCPT; at delivery only where a host offers less than others",
    "The mail server takes no UTF-8 header fields": "the same",
}


def words() -> dict[str, str]:
    """The literal parts of all replies, and where each is."""
    found: dict[str, str] = {}
    for file in sorted((FOLDER.parents[1] / "gateway").rglob("*.py")):
        if "cli" in file.parts:  # its own sink, and no edge
            continue
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            name = getattr(call.func, "id", getattr(call.func, "attr", "")) if isinstance(call, ast.Call) else ""
            for part in ast.walk(call) if name in MAKERS else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value.strip():
                    found[part.value.strip()] = f"{file.name}:{part.lineno}"
    return found


WORDS = words()


def test_replies_are_found() -> None:
    assert len(WORDS) >= 60
    assert {"Unknown command", "Relaying denied: we take no mail for this domain"} <= WORDS.keys()
    assert UNHEARD.keys() <= WORDS.keys(), "one that is gone needs no excuse"


@pytest.mark.parametrize("text", sorted(WORDS.keys() - UNHEARD.keys()))
def test_each_is_said(text: str) -> None:
    assert text in SAID, f"{WORDS[text]}: no transcript has it"


@pytest.mark.parametrize(
    "name",
    [*(f"limits.{name}" for name in Limits.model_fields), *(f"deadlines.{name}" for name in Deadlines.model_fields)],
)
def test_each_limit_is_met(name: str) -> None:
    assert name in SET
