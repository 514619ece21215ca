"""TLS contexts: ours towards clients, and the ones that judge backends. Built once, used by every connection.

Towards backends somebody always judges: OpenSSL checks chain and name, or a `judge` sees the chain after the
handshake and before anything is said (fingerprints, DANE). A `Trust` that has neither cannot be made. The name is
looked for in subjectAltName alone (RFC 9525 section 2). Nothing below TLS 1.2 (RFC 8996), no compression, no
renegotiation. Files are read through `Files`, so that a reload sees what was validated.

Called by `relay/trust`, by `worker` for the edge, and by `config` to see that files are what they should be.
"""

import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from gateway.config.certificate import certificates as certificates_of
from gateway.config.certificate import chosen, dns_names, load_pair
from gateway.files import Files
from gateway.yamlfile import Fault

Minimum = Literal["1.2", "1.3"]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(
    certificates: Sequence[tuple[Path, Path]], files: Files, *, ask: bool = False, client_ca: Path | None = None
) -> ssl.SSLContext:
    """What we show to clients: pairs of certificate chain and key. With `ask` they are asked for theirs (`clientauth`),
    and those that the authorities in `client_ca` (PEM) have signed pass.

    Those for the same names stand together (one ECDSA, one RSA: OpenSSL takes what the client can check). Of several
    groups the client's SNI chooses; who names none of them, or none at all, meets the first.
    Raises `ValueError` with the reason when a pair is of no use, and `OSError` when a file cannot be read.
    """
    groups: dict[frozenset[str], ssl.SSLContext] = {}
    pairs: dict[frozenset[str], list[tuple[bytes, bytes]]] = {}
    for certificate, key in certificates:
        chain, secret = files.read(certificate), files.read(key)
        try:
            names = dns_names(chain)
            if names not in groups:
                groups[names] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                _harden(context, "1.2")
                context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
                context.num_tickets = 1  # who sends mail resumes with one; the usual second costs as much again
            load_pair(groups[names], chain, secret)
            pairs.setdefault(names, []).append((chain, secret))
        except (ssl.SSLError, Fault) as why:
            raise ValueError(f"{certificate} and {key}: {_reason(why)}") from None
    first = next(iter(groups.values()))
    if ask:
        return _asking(pairs, b"" if client_ca is None else files.read(client_ca), first)
    if len(groups) > 1:
        first.sni_callback = partial(_by_name, tuple(groups.items()))
    return first


def _asking(
    pairs: Mapping[frozenset[str], Sequence[tuple[bytes, bytes]]], authorities: bytes, plain: ssl.SSLContext
) -> ssl.SSLContext:
    """The same, asking; the suites are those of `plain`."""
    from gateway import clientauth  # noqa: PLC0415 - pyOpenSSL costs 50 ms and 1.5 MB a process

    suites = [suite["name"] for suite in plain.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    trusted = certificates_of(authorities) if authorities else []
    shown = [(names, clientauth.context(some, trusted, suites)) for names, some in pairs.items()]
    return clientauth.Asking(ssl.PROTOCOL_TLS_SERVER, shown)


def _by_name(
    groups: Sequence[tuple[frozenset[str], ssl.SSLContext]],
    connection: ssl.SSLObject | ssl.SSLSocket,
    name: str | None,
    _: ssl.SSLContext,
) -> None:
    """Takes the context whose certificates are for the name that the client asks for."""
    context = chosen(groups, name or "")
    if context is not None:
        connection.context = context


#: What is wrong with a chain (DER, the server's own first), or "" where it proves what it must.
Judge = Callable[[Sequence[bytes]], str]
_SESSIONS = 100  # of a context; one a host is the rule
#: Since the certificate was last seen: tickets follow tickets, and none must outlive it by more than this.
_SESSION_SECONDS = 900.0


class Context(ssl.SSLContext):
    """Towards backends. Resumes the last session with a name: asyncio and uvloop can be given none, but both call
    `wrap_bio`. What OpenSSL resumes it has verified before, for the same name and by the same authorities, a quarter
    of an hour ago at most."""

    def __init__(self, *_: object) -> None:
        self._sessions: OrderedDict[str, tuple[ssl.SSLSession, float]] = OrderedDict()  # and when it was verified

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        kept = self._sessions.get(server_hostname) if isinstance(server_hostname, str) else None
        if session is None and kept is not None and time.monotonic() - kept[1] < _SESSION_SECONDS:
            session = kept[0]
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, name: str, connection: ssl.SSLObject) -> None:
        """Keeps the session of that connection for the next one to that name."""
        session, now = connection.session, time.monotonic()
        if session is None or not session.has_ticket or self.verify_mode is not ssl.CERT_REQUIRED:
            return  # a judge must see the chain of every connection, and a resumed one has none
        kept = self._sessions.get(name)
        verified = kept[1] if connection.session_reused and kept is not None else now
        self._sessions[name] = session, verified
        self._sessions.move_to_end(name)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """How a server must prove itself. Raises `ValueError` where nobody would look."""

    context: Context
    judge: Judge | None = None

    def __post_init__(self) -> None:
        verified = self.context.verify_mode is ssl.CERT_REQUIRED and self.context.check_hostname
        if not verified and self.judge is None:
            raise ValueError("a context that verifies nothing, and nobody to judge")


def client_context(ca: bytes | None, minimum: Minimum) -> Context:
    """A context that trusts the CAs in `ca` (PEM) alone, or those of the system. Raises `ValueError`.

    Costs some 40 ms with the system's: keep it (`ClientContexts`).
    """
    context = Context(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are its defaults
    _harden(context, minimum)
    context.hostname_checks_common_name = False
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError) as why:
            raise ValueError(f"no CA certificate: {_reason(why)}") from None
    return context


def judged_context(minimum: Minimum) -> Context:
    """A context that leaves chain and name to the judge of its `Trust`."""
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, minimum)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def peer_chain(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates that the server showed (DER, its own first), as they came; nobody has verified them."""
    public = getattr(connection, "get_unverified_chain", None)
    if public is not None:  # Python 3.13
        return list(public())
    # Python 3.11 and 3.12 have it on the inner object alone.
    inner = connection._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner.get_unverified_chain() or ()]


class ClientContexts:
    """The contexts of one configuration, each built once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._contexts: dict[tuple[Path | None, Minimum, bool, tuple[Path, Path] | None], Context] = {}

    def get(
        self, ca: Path | None, minimum: Minimum, *, judged: bool = False, client: tuple[Path, Path] | None = None
    ) -> Context:
        """The context for a CA file (`None`: the system's store), or for a judge; `client` is our own certificate.

        Raises `ValueError` or `OSError`.
        """
        key = (ca, minimum, judged, client)
        context = self._contexts.get(key)
        if context is None:
            octets = None if ca is None else self._files.read(ca)
            context = judged_context(minimum) if judged else client_context(octets, minimum)
            if client is not None:
                try:
                    load_pair(context, self._files.read(client[0]), self._files.read(client[1]))
                except ssl.SSLError as why:
                    raise ValueError(f"{client[0]} and {client[1]}: {_reason(why)}") from None
            self._contexts[key] = context
        return context


def _harden(context: ssl.SSLContext, minimum: Minimum) -> None:
    context.minimum_version = _VERSIONS[minimum]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _reason(why: Exception) -> str:
    return (why.reason if isinstance(why, ssl.SSLError) else None) or str(why) or "not usable"
