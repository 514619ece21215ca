"""Fetches the MTA-STS policy of a domain: one GET over verified HTTPS, bounded in time and size, no redirects.

A few lines of HTTP/1.1 instead of a client library: status 200, `text/plain`, at most 64 KB, by length, in chunks, or
up to the close. Anything else is `Unavailable`.

RFC 8461 section 3.3, RFC 9112. Called by `sts`.
"""

import asyncio
import ssl

from gateway.mail.terms import Unavailable
from gateway.relay.addresses import Addresses

_SECONDS = 10.0
_HEADER_LIMIT = 16 * 1024
_BODY_LIMIT = 64 * 1024


class PolicyHost:
    """The way to `https://mta-sts.DOMAIN/.well-known/mta-sts.txt`."""

    def __init__(self, addresses: Addresses, context: ssl.SSLContext, *, port: int = 443) -> None:
        self._addresses = addresses
        self._context = context
        self._port = port

    async def fetch(self, domain: str) -> str:
        """The text of the policy. Raises `Unavailable` with the reason."""
        host = f"mta-sts.{domain}"
        failure = "no address"
        try:
            async with asyncio.timeout(_SECONDS):
                for address in (await self._addresses.of(host))[:4]:
                    try:
                        return await self._get(host, address)
                    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as why:
                        failure = str(why) or type(why).__name__
        except TimeoutError:
            failure = f"no answer in {_SECONDS:g} s"
        raise Unavailable(f"{host}: {failure}")

    async def _get(self, host: str, address: str) -> str:
        reader, writer = await asyncio.open_connection(
            address, self._port, ssl=self._context, server_hostname=host, limit=_HEADER_LIMIT
        )
        try:
            writer.write(
                f"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gatepost\r\n"
                "Accept: text/plain\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            return (await _body(reader, _fields(head))).decode("ascii")
        finally:
            writer.transport.abort()


def _fields(head: str) -> dict[str, str]:
    status, *lines = head.split("\r\n")
    version, _, rest = status.partition(" ")
    if not version.startswith("HTTP/1.") or rest[:4] not in ("200", "200 "):
        raise ValueError(f"HTTP status {rest[:3]!r}")  # a redirect, too: section 3.3
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    if fields.get("content-type", "").partition(";")[0].strip().lower() != "text/plain":
        raise ValueError("the policy is no text/plain")
    return fields


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding", "identity").lower() != "identity":
        return await _chunks(reader)
    announced = fields.get("content-length", "")
    if announced.isascii() and announced.isdecimal():
        return await reader.readexactly(_bounded(int(announced[:10])))
    body = b""
    while piece := await reader.read(_HEADER_LIMIT):
        body += piece
        _bounded(len(body))
    return body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        digits = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
        if not digits.isalnum():
            raise ValueError("no chunk")
        if (size := int(digits[:8], 16)) == 0:
            return body
        _bounded(len(body) + size)
        body += (await reader.readexactly(size + 2))[:-2]


def _bounded(size: int) -> int:
    if size > _BODY_LIMIT:
        raise ValueError("the policy is longer than 64 KB")
    return size
