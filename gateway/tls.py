"""TLS contexts: ours towards clients, and the ones that judge backends. Built once, used by every connection.

Towards backends the certificate chain and the name are always checked; there is no way here to build a context that
does not. The name is looked for in subjectAltName alone (RFC 9525 section 2). Nothing below TLS 1.2 (RFC 8996), no
compression, no renegotiation. Files are read through `Files`, so that a reload sees what was validated.

Called by `relay/delivery`, by `worker` for the edge, and by `config` to see that files are what they should be.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gateway.config.certificate import load_pair
from gateway.files import Files

Minimum = Literal["1.2", "1.3"]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(certificates: Sequence[tuple[Path, Path]], files: Files) -> ssl.SSLContext:
    """What we show to clients: pairs of certificate chain and key; one ECDSA and one RSA may stand together.

    Raises `ValueError` with the reason when a pair is of no use, and `OSError` when a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, "1.2")
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    for certificate, key in certificates:
        try:
            load_pair(context, files.read(certificate), files.read(key))
        except ssl.SSLError as why:
            raise ValueError(f"{certificate} and {key}: {_reason(why)}") from None
    return context


def client_context(ca: bytes | None, minimum: Minimum) -> ssl.SSLContext:
    """A context that trusts the CAs in `ca` (PEM) alone, or those of the system. Raises `ValueError`.

    Costs some 40 ms with the system's: keep it (`ClientContexts`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are its defaults
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


class ClientContexts:
    """The contexts of one configuration, each built once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._contexts: dict[tuple[Path | None, Minimum], ssl.SSLContext] = {}

    def get(self, ca: Path | None, minimum: Minimum) -> ssl.SSLContext:
        """The context for a CA file (`None`: the system's store). Raises `ValueError` or `OSError`."""
        context = self._contexts.get((ca, minimum))
        if context is None:
            octets = None if ca is None else self._files.read(ca)
            context = self._contexts[ca, minimum] = client_context(octets, minimum)
        return context


def _harden(context: ssl.SSLContext, minimum: Minimum) -> None:
    context.minimum_version = _VERSIONS[minimum]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _reason(why: Exception) -> str:
    return (why.reason if isinstance(why, ssl.SSLError) else None) or str(why) or "not usable"
