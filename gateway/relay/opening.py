"""The beginning of each connection to a backend: banner, EHLO, STARTTLS, proof, and EHLO again.

Nothing else is ever said in clear text, and what was offered there is forgotten. RFC 5321 section 3.1, RFC 3207.
Called by `client`.
"""

from gateway.relay.fate import OutOfPlace, Unreachable, Untrusted
from gateway.relay.response import Response
from gateway.relay.wire import Wire
from gateway.tls import Trust


async def opened(wire: Wire, trust: Trust, name: str, hostname: str) -> dict[str, str]:
    """What is offered inside TLS to `hostname` by who proved to be `name`. Raises `Broken`."""
    banner = await wire.response()
    if banner.code != 220:
        raise _no_service("banner", banner)
    offered = await ehlo(wire, hostname)
    if "STARTTLS" not in offered:
        raise Untrusted("STARTTLS is not offered")
    wire.write(b"STARTTLS\r\n", replies=1)
    ready = await wire.response()
    if ready.code >= 400:
        raise Untrusted(f"{ready.code} in reply to STARTTLS")
    if ready.code != 220:
        raise OutOfPlace(f"{ready.code} in reply to STARTTLS")
    await wire.start_tls(trust, name)
    features = await ehlo(wire, hostname)
    wire.keep_session(trust, name)  # TLS 1.3 has sent its tickets by now
    return features


async def ehlo(wire: Wire, hostname: str, by: float | None = None) -> dict[str, str]:
    """The keywords that the backend offers. One that knows no EHLO offers none; HELO would bring no STARTTLS."""
    wire.write(f"EHLO {hostname}\r\n".encode("ascii"), replies=1)
    response = await wire.response(by)
    if response.code != 250:
        if response.code >= 500 and not wire.encrypted:
            raise Untrusted("EHLO is not known, so STARTTLS is not offered")
        raise _no_service("EHLO", response)
    offered: dict[str, str] = {}
    for line in response.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        offered.setdefault(keyword.upper(), parameters.strip())
    return offered


def _no_service(step: str, response: Response) -> Unreachable | OutOfPlace:
    why = f"{response.code} in reply to {step}"
    return Unreachable(why) if response.code >= 400 else OutOfPlace(why)
