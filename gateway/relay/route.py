"""Which backend gets the mail of a domain: the domain itself, then `*.parent`, the nearest parent first.

Whatever is not found here is not ours: relay denied (the gateway is no open relay by construction). Domains are
A-labels in lower case on both sides.
"""

from collections.abc import Mapping


def route(domains: Mapping[str, str], domain: str) -> str | None:
    """The backend of `domain`, or `None`. `*.example.org` holds for every name under example.org, not for itself."""
    if domain in domains:
        return domains[domain]
    parent = domain
    while "." in parent:
        parent = parent.partition(".")[2]
        if (backend := domains.get(f"*.{parent}")) is not None:
            return backend
    return None
