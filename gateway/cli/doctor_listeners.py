"""The doctor at our own doors: is it the gateway that answers there, and the admin page?

Nothing is said to it but what a client begins with: the PROXY header that a trusted address owes (`LOCAL`: it speaks
for itself), and the handshake of implicit TLS, whose certificate others judge.
"""

import asyncio
import contextlib
import errno
import json
import os
import socket
import ssl

from gateway.cli.doctor_finding import Finding, green, red, yellow
from gateway.config import Config, HostPort, Listener
from gateway.mail.reply import printable
from gateway.smtp.proxy import LOCAL
from gateway.smtp.trusted import among

_START = "start the gateway: gatepost serve"
_ANOTHER = "another program has the port (ss -ltnp), or the gateway runs with another configuration"
_OCTETS = 100_000  # of what the admin page says


async def listeners(config: Config, seconds: float) -> list[Finding]:
    """Each address that clients come to."""
    return [
        await _listener(config, listener, bind, seconds)
        for listener in config.listeners
        for bind in listener.bind
        if bind.port
    ]


async def _listener(config: Config, listener: Listener, bind: HostPort, seconds: float) -> Finding:
    where = f"listener {bind}"
    try:
        async with asyncio.timeout(seconds):
            line = await _banner(listener, bind)
    except (OSError, TimeoutError) as why:
        return _nobody(where, bind, why)
    said = printable(line.decode("ascii", "replace").strip())
    code, _, rest = said.partition(" ")
    if code != "220":
        return yellow(where, f"answers {said or 'nothing'}", "see its log")
    name = rest.partition(" ")[0]
    if name.lower() != config.hostname.lower():
        return yellow(where, f"a server answers that is called {name or 'nothing'}, not {config.hostname}", _ANOTHER)
    return green(where, "the gateway answers")


async def _banner(listener: Listener, bind: HostPort) -> bytes:
    """The first line that a client hears."""
    reader, writer = await asyncio.open_connection(_host(bind), bind.port)
    try:
        proxies = listener.proxy_protocol.networks if listener.proxy_protocol else ()
        if among(writer.get_extra_info("sockname")[0], proxies):
            writer.write(LOCAL)
        if listener.implicit_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            await writer.start_tls(context, server_hostname="")
        return await reader.readline()
    except ValueError as why:  # a line without end
        raise OSError("no line of SMTP") from why
    finally:
        writer.transport.abort()


async def admin(config: Config, seconds: float) -> list[Finding]:
    """What the health page says; nothing where there is none."""
    if config.admin is None or not config.admin.bind.port:
        return []
    bind, where = config.admin.bind, f"admin {config.admin.bind}"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(_host(bind), bind.port)
            try:
                writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                octets = b""
                while (piece := await reader.read(_OCTETS)) and len(octets) < _OCTETS:
                    octets += piece
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as why:
        return [_nobody(where, bind, why)]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        status = json.loads(octets.partition(b"\r\n\r\n")[2])["status"]
        if status == "ok":
            return [green(where, "health is ok")]
        return [yellow(where, f"health is {printable(str(status))}", "gatepost status says why")]
    return [yellow(where, "what answers is not the gateway", _ANOTHER)]


def _nobody(where: str, bind: HostPort, why: OSError | TimeoutError) -> Finding:
    """Nobody answers: has the machine that address at all?"""
    if bind.address is not None and not bind.address.is_unspecified:
        family = socket.AF_INET6 if bind.address.version == 6 else socket.AF_INET
        try:
            with socket.socket(family) as trial:
                trial.bind((str(bind.address), 0))
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                mend = "name one that it has; the gateway does not start with this one"
                return red(where, "this machine has no such address", mend)
    said = "no answer in time" if isinstance(why, TimeoutError) else str(why)
    if isinstance(why, OSError) and why.errno and not isinstance(why, ssl.SSLError):
        said = os.strerror(why.errno)
    return yellow(where, f"nobody there: {said}", _START)


def _host(bind: HostPort) -> str:
    """Where to find what listens there."""
    if bind.address is not None and bind.address.is_unspecified:
        return "::1" if bind.address.version == 6 else "127.0.0.1"
    return bind.host
