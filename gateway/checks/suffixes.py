"""The organisational domain by the public suffix list: the old way, for whoever asks for it by name.

The list of the `publicsuffixlist` package (ICANN and private sections). RFC 9989 replaced it by the tree walk for
DMARC; `gatepost check --batch` answers for it. Names come back as they were written, in lower case.
"""

from functools import cache

from publicsuffixlist import PublicSuffixList

from gateway.mail.address import to_ascii

#: The dots of IDNA (RFC 3490 section 3.1): all separate labels.
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")


@cache
def _list() -> PublicSuffixList:
    return PublicSuffixList()


def organizational_domain(name: str) -> str | None:
    """One label below the public suffix, or None for a suffix, an empty label, or what is no host name."""
    labels = name.lower().translate(_DOTS).removesuffix(".").split(".")
    try:
        found = _list().privatesuffix(to_ascii(".".join(labels)))
    except ValueError:
        return None
    return ".".join(labels[-(found.count(".") + 1) :]) if found else None
