"""What strangers said, made fit for a terminal.

A subject, a HELO name or a backend's reply may hold escape sequences that move the cursor, rename the window or paste
commands (CWE-150), and letters that turn the writing direction. Used by the commands that print the journal and the
greylist; JSON goes out as ASCII for the same reason.
"""

import json
import time


def visible(text: object) -> str:
    """`text` with every character that does not simply print written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text))


def moment(seconds: float) -> str:
    """Epoch seconds as people read them, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def span(seconds: float) -> str:
    """A duration in its largest two units: "4m 30s"."""
    left = max(round(seconds), 0)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def line(value: object) -> str:
    """`value` as one line of JSON in ASCII."""
    return json.dumps(value, ensure_ascii=True)
