"""Who the client was, told to a backend that trusts us: XCLIENT (it becomes the client) or XFORWARD (it logs it).

Pure: command lines out of what we know, with the attributes that the backend lists and no others. Values are xtext,
bounded; what is too long or unknown is `[UNAVAILABLE]`. Only where the configuration says so (`tell_client`), and
only inside TLS.

Postfix's XCLIENT and XFORWARD manuals. Called by `client`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_UNAVAILABLE = "[UNAVAILABLE]"
_VALUE_LIMIT = 180  # characters of xtext: a command of all attributes stays below 512 octets


@dataclass(frozen=True, slots=True)
class Introduction:
    """The client of a mail; `name` is its verified reverse name or ""."""

    verb: Literal["XCLIENT", "XFORWARD"]
    name: str
    ip: str
    port: int
    helo: str
    esmtp: bool
    id: str = ""

    def command(self, offered: str) -> bytes | None:
        """The command line for a backend that offers those attributes; `None` when there is nothing to tell."""
        wanted = {
            "NAME": self.name,
            "ADDR": f"IPV6:{self.ip}" if ":" in self.ip else self.ip,
            "PORT": str(self.port) if self.port else "",
            "PROTO": "ESMTP" if self.esmtp else "SMTP",
            "HELO": self.helo,
        }
        if self.verb == "XFORWARD":
            wanted |= {"IDENT": self.id, "SOURCE": "REMOTE"}
        told = [f"{name}={_xtext(value)}" for name, value in wanted.items() if name in _words(offered)]
        return f"{self.verb} {' '.join(told)}\r\n".encode("ascii") if told else None


def _words(offered: str) -> Sequence[str]:
    return offered.upper().split()


def _xtext(value: str) -> str:
    """RFC 3461 section 4: `!` to `~` but `+` and `=`, all else as +HH."""
    octets = value.encode("utf-8", "replace")
    text = "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in octets)
    return text if 0 < len(text) <= _VALUE_LIMIT else _UNAVAILABLE
