"""TLS with a client: an open connection upgraded, or an accepted socket that begins with the handshake.

`loop.start_tls` of uvloop costs 26 KiB a connection (asyncio's own 270). A handshake that fails or stalls ends the
connection: there is no way back to clear text. RFC 3207 (STARTTLS), RFC 8314 section 3 (implicit TLS).
Called by `connection` and `server`.
"""

import asyncio
import socket
import ssl

from gateway.log import log
from gateway.mail.envelope import Session
from gateway.smtp.troubles import Troubles

HANDSHAKE_SECONDS = 30.0
SHUTDOWN_SECONDS = 3.0


async def upgraded(
    wire: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext | None,
    session: Session,
    troubles: Troubles,
) -> asyncio.Transport | None:
    """The same connection inside TLS; `None` when that failed, and then the old transport is aborted.

    Whoever calls has stopped reading, so that no octet of the handshake goes astray.
    """
    try:
        if context is None:
            raise ssl.SSLError("no certificate at hand")
        if wire.is_closing():  # both loops would wait for ever: the loss of it has been told already, to another
            raise ConnectionResetError("the client is gone")
        async with asyncio.timeout(HANDSHAKE_SECONDS + SHUTDOWN_SECONDS):
            return await asyncio.get_running_loop().start_tls(
                wire,
                protocol,
                context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
    except OSError as why:  # SSLError, and all that a lost connection raises
        troubles.tell("TLS handshake failed", session.client_ip, session=session.id, why=_why(why))
    except asyncio.CancelledError:  # by `give_way`; to abort the transport would be told to nobody
        troubles.tell("TLS handshake gave way", session.client_ip, session=session.id)
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
    except Exception:  # the loop's own trouble must not leave a connection that nobody watches
        log.exception("TLS handshake crashed", session=session.id)
    wire.abort()
    return None


async def accepted(
    client: socket.socket, protocol: asyncio.Protocol, context: ssl.SSLContext | None, ip: str, troubles: Troubles
) -> bool:
    """Gives a new socket to `protocol`, after the handshake where there is a context. False when that failed."""
    seconds = None if context is None else HANDSHAKE_SECONDS
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol,
            client,
            ssl=context,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=None if context is None else SHUTDOWN_SECONDS,
        )
    except OSError as why:
        troubles.tell("connection failed" if context is None else "TLS handshake failed", ip, why=_why(why))
        client.close()
        return False
    return True


def _why(fault: OSError) -> str:
    """What is known of it: a client that only goes raises an error without a word."""
    return str(fault) or "the client went"


def note(session: Session, wire: asyncio.Transport, troubles: Troubles) -> None:
    """Writes into the session what TLS says of the connection: version, cipher suite, the client's certificate."""
    secured = wire.get_extra_info("ssl_object")
    session.tls, session.cipher = secured.version() or "TLS", (secured.cipher() or ("",))[0]
    # Only listeners that ask have it: `clientauth` is loaded for them alone.
    session.certificate = shown = getattr(secured, "client_certificate", None)
    if shown is not None:
        troubles.tell(
            "client certificate",
            session.client_ip,
            about=shown.fingerprint,
            session=session.id,
            fingerprint=shown.fingerprint,
            names=list(shown.names),
            fault=shown.fault,
        )
