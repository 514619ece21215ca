"""TLS that asks clients for a certificate, and lets them in whatever they show. The one file that imports pyOpenSSL.

Python's `ssl` (3.11 to 3.14) ends the handshake of a client whose certificate it cannot verify as soon as it asks for
one. Many mail servers show one that is self-signed, expired or for servers alone, and would never deliver again. Here
OpenSSL verifies as ever (chain, time, purpose "client"), the finding is noted, and the handshake goes on. Who shows a
certificate has proved by the handshake that it holds the key, so that its fingerprint says who it is.

`Asking` stands where an `ssl.SSLContext` is wanted: asyncio and uvloop call its `wrap_bio`, and of what that gives the
methods of `Conversation`. No session is resumed: a resumed one shows no certificate, so nobody would look at its
chain and its last day. No names of authorities are sent with the question: many clients keep to themselves what these
did not sign. What a client can make us do is bounded by OpenSSL (100 KB of certificates) and by `_DEPTH`.

RFC 8446 sections 4.3.2 and 4.4.2, RFC 5246 section 7.4.4. Made by `tls`.
"""

import hashlib
import os
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from gateway.config.certificate import UNREADABLE, alternative_names, chosen
from gateway.mail.address import to_ascii
from gateway.mail.envelope import ClientCertificate

T = TypeVar("T")
#: Certificates above the client's own that are looked at: each costs a signature of the sender's choice.
_DEPTH = 5
_NAMES = 100
_RECORD = 16 * 1024
_REASONS = {
    number: name.removeprefix("ERR_").lower().replace("_", " ")
    for name, number in vars(SSL.X509VerificationCodes).items()
    if isinstance(number, int)
}


class _Findings:
    """What OpenSSL said of one client's chain: whether it got to the client's own certificate, and the first fault."""

    __slots__ = ("fault", "seen")

    def __init__(self) -> None:
        self.fault = ""
        self.seen = False


def _note(connection: SSL.Connection, _: crypto.X509, error: int, depth: int, good: int) -> bool:
    """Notes and goes on."""
    findings: _Findings = connection.get_app_data()
    if not good:
        findings.fault = findings.fault or _REASONS.get(error, f"error {error}")
    elif depth == 0:
        findings.seen = True
    return True


class Asking(ssl.SSLContext):
    """A server's context; `shown` are the certificates by their names, the first for who names none of them."""

    def __init__(self, _: int, shown: Sequence[tuple[frozenset[str], SSL.Context]]) -> None:
        self._first = shown[0][1]
        if len(shown) > 1:
            self._first.set_tlsext_servername_callback(_by_name(shown))

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> "Conversation":
        if not server_side:
            raise ValueError("a context for servers alone")
        return Conversation(SSL.Connection(self._first), incoming, outgoing)


def _by_name(shown: Sequence[tuple[frozenset[str], SSL.Context]]) -> Callable[[SSL.Connection], None]:
    def choose(connection: SSL.Connection) -> None:
        context = chosen(shown, (connection.get_servername() or b"").decode("ascii", "replace"))
        if context is not None:
            connection.set_context(context)

    return choose


def context(
    pairs: Sequence[tuple[bytes, bytes]], authorities: Sequence[x509.Certificate], suites: Sequence[str]
) -> SSL.Context:
    """One set of certificates for the same names: chains and keys (PEM, checked before). `suites`: those of TLS 1.2.

    Raises `ValueError` with the reason.
    """
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    made.set_min_proto_version(SSL.TLS1_2_VERSION)
    made.set_options(
        SSL.OP_NO_COMPRESSION
        | SSL.OP_NO_RENEGOTIATION
        | SSL.OP_CIPHER_SERVER_PREFERENCE
        | SSL.OP_NO_TICKET
        | ssl.OP_IGNORE_UNEXPECTED_EOF  # as Python's: the dialogue tells a lost connection from QUIT
    )
    made.set_mode(SSL.MODE_RELEASE_BUFFERS)
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    made.set_session_id(b"gatepost")
    made.set_cipher_list(":".join([*suites, "@SECLEVEL=2"]).encode("ascii"))
    made.set_verify(SSL.VERIFY_PEER, _note)
    made.set_verify_depth(_DEPTH)
    store = made.get_cert_store()
    assert store is not None
    try:
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        for chain, key in pairs:
            _load(made, chain, key)
    except (SSL.Error, crypto.Error) as why:
        raise ValueError(_reason(why)) from None
    return made


def _load(context: SSL.Context, chain: bytes, key: bytes) -> None:
    descriptor = os.memfd_create("gatepost-tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(chain)
        file.flush()
        # By a file alone each certificate gets a chain of its own.
        context.use_certificate_chain_file(f"/proc/self/fd/{descriptor}")
    context.use_privatekey(load_pem_private_key(key, password=None))  # type: ignore[arg-type] # of a kind that serves TLS
    context.check_privatekey()


class Conversation(ssl.SSLObject):
    """The server's side of one connection, with the face of `ssl.SSLObject`: what the loops call of it, no more."""

    def __init__(self, connection: SSL.Connection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._tls, self._incoming, self._outgoing = connection, incoming, outgoing
        self._findings = _Findings()
        self._left = False  # OpenSSL may hold octets that it has not looked at, and `incoming` counts no more
        connection.set_app_data(self._findings)
        connection.set_accept_state()

    def do_handshake(self) -> None:
        self._attempt(self._tls.do_handshake)

    def read(self, length: int = 1024, buffer: bytearray | memoryview | None = None) -> "bytes | int":  # type: ignore[override]
        """Octets, or their number where there is a buffer; none at the end."""
        if buffer is None:
            return self._read(length)
        octets = self._read(min(length, memoryview(buffer).nbytes))
        buffer[: len(octets)] = octets
        return len(octets)

    def _read(self, room: int) -> bytes:
        # All that is there: each record comes alone from OpenSSL, and to say "want" is dear.
        pieces: list[bytes] = []
        try:
            while room > 0:
                pieces.append(self._attempt(partial(self._tls.recv, min(room, _RECORD))))
                room -= len(pieces[-1])
        except ssl.SSLWantReadError:
            if not pieces:
                raise
        except ssl.SSLError as why:  # told at the next call, after what came before it
            self._left = bool(pieces)
            if not pieces and not isinstance(why, ssl.SSLZeroReturnError):
                raise
        return b"".join(pieces)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        return self._attempt(partial(self._tls.send, data)) if data else 0

    def pending(self) -> int:
        return self._tls.pending() or int(self._left)

    def unwrap(self) -> None:
        def close() -> None:
            # The first call says close_notify, the second looks for the client's.
            if not (self._tls.shutdown() or self._tls.shutdown()):
                raise SSL.WantReadError

        self._attempt(close)

    def version(self) -> str:
        return self._tls.get_protocol_version_name()

    def cipher(self) -> tuple[str, str, int] | None:
        name = self._tls.get_cipher_name()
        return None if name is None else (name, self._tls.get_cipher_version() or "", self._tls.get_cipher_bits() or 0)

    def compression(self) -> None:
        return None

    def getpeercert(self, binary_form: bool = False) -> "dict[str, object] | bytes | None":  # type: ignore[override]
        """The client's own certificate as DER, else an empty dictionary where it showed one."""
        shown = self._tls.get_peer_certificate()
        if shown is None:
            return None
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, shown) if binary_form else {}

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """What the client showed, once the handshake is done."""
        der = self.getpeercert(binary_form=True)
        if not isinstance(der, bytes):
            return None
        fault = self._findings.fault or ("" if self._findings.seen else "nobody looked at it")
        return ClientCertificate(hashlib.sha256(der).hexdigest(), fault, () if fault else _names(der))

    def _attempt(self, step: Callable[[], T]) -> T:
        """One step of OpenSSL, fed from `incoming` while it wants more; what it says goes to `outgoing`."""
        try:
            while True:
                try:
                    return step()
                except SSL.WantReadError:
                    octets = self._incoming.read(_RECORD)
                    if octets:
                        self._tls.bio_write(octets)
                        self._left = True
                    elif self._incoming.eof:
                        self._tls.bio_shutdown()
                    else:
                        self._left = False
                        raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more octets must come") from None
        except SSL.ZeroReturnError:
            raise ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "the client has closed TLS") from None
        except SSL.SysCallError:
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection ended inside TLS") from None
        except SSL.Error as why:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, _reason(why)) from None
        finally:
            self._flush()

    def _flush(self) -> None:
        try:
            while True:
                self._outgoing.write(self._tls.bio_read(_RECORD))
        except SSL.WantReadError:
            return


def _names(der: bytes) -> tuple[str, ...]:
    """The DNS names of a verified certificate that are names, as A-labels."""
    try:
        listed = alternative_names(x509.load_der_x509_certificate(der))
    except UNREADABLE:  # stricter than OpenSSL; then it has no names that we can read
        return ()
    names: dict[str, None] = {}
    for name in listed:
        parent = name.removeprefix("*.")
        try:
            names[name.removesuffix(parent) + to_ascii(parent)] = None
        except ValueError:
            continue
        if len(names) == _NAMES:
            break
    return tuple(names)


def _reason(why: Exception) -> str:
    """The words of OpenSSL's last error."""
    errors = why.args[0] if why.args else ()
    return str(errors[-1][2]) if isinstance(errors, list) and errors else "not usable"
