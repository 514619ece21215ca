"""`gatepost sink`: a TLS backend for trials. Takes mail, keeps each as a file, prints one line for it.

Exit status: 0 stopped by a signal, 1 cannot listen or cannot write, 2 a bad call.
"""

import asyncio
import json
import signal
import ssl
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.sink_server import Mail, Sink
from gateway.cli.testca import TestCa
from gateway.mail.reply import printable

_Certificate = Annotated[Path | None, typer.Option(help="PEM chain to show; without it a trial CA is made.")]


def sink(
    listen: Annotated[str, typer.Option(metavar="ADDRESS:PORT", help="Where to listen; port 0 takes a free one.")] = (
        "127.0.0.1:2526"
    ),
    maildir: Annotated[Path, typer.Option(metavar="DIR", help="Where mails are kept, one file each.")] = Path("sink"),
    certificate: _Certificate = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    name: Annotated[str, typer.Option(help="Host name, also of the trial certificate.")] = "sink.example",
    refuse: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Say 550 5.1.1 to this recipient; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a mail.")] = False,
) -> None:
    """Run a mail server with TLS that takes everything, to try a gateway against. Not for real mail.

    Without --certificate it makes a CA of its own in the mail folder (tls/ca.pem) and prints the lines that a
    gatepost.yaml needs to trust it.

    Example: gatepost sink --listen 127.0.0.1:2526 --maildir /tmp/sink --refuse nobody@example.com
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter(f"{listen} is no ADDRESS:PORT", param_hint="--listen")
    if (certificate is None) != (key is None):
        raise typer.BadParameter("give both or neither", param_hint="--certificate and --key")
    maildir.mkdir(parents=True, exist_ok=True)
    ca: Path | None = None
    if certificate is None or key is None:
        folder = maildir / "tls"
        folder.mkdir(mode=0o700, exist_ok=True)
        authority = TestCa(folder)
        ca = authority.file.resolve()
        pair = authority.issue(name, "127.0.0.1", "::1", "localhost")
        certificate, key = pair.certificate, pair.key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as why:
        raise typer.BadParameter(f"{why.reason or why}", param_hint="--certificate and --key") from None
    refused = {address.lower(): "550 5.1.1 No such user here" for address in refuse or ()}
    server = Sink(context, name, refused, on_mail=_Keeper(maildir, as_json=as_json), keep=False)
    asyncio.run(_serve(server, host.strip("[]"), int(port), ca))


class _Keeper:
    """Writes and announces each mail."""

    def __init__(self, folder: Path, *, as_json: bool) -> None:
        self._folder = folder
        self._json = as_json
        numbers = [int(path.stem) for path in folder.glob("*.eml") if path.stem.isdecimal()]
        self._count = max(numbers, default=0)

    def __call__(self, mail: Mail) -> None:
        self._count += 1
        path = self._folder / f"{self._count:06d}.eml"
        # Whole or not at all: the mail is ours only under its final name.
        partial = path.with_suffix(".part")
        partial.write_bytes(mail.octets)
        partial.rename(path)
        if self._json:
            line = {"file": str(path), "sender": mail.sender, "recipients": mail.recipients, "tls": mail.tls}
            print(json.dumps({**line, "octets": len(mail.octets)}), flush=True)
        else:
            to = " ".join(f"<{printable(r)}>" for r in mail.recipients)
            print(f"{path}  <{printable(mail.sender)}> -> {to}  {len(mail.octets)} octets  {mail.tls}", flush=True)


async def _serve(server: Sink, host: str, port: int, ca: Path | None) -> None:
    bound = await server.start(host, port)
    where = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
    print(f"sink on {where}, stop with Ctrl-C", flush=True)
    if ca is not None:
        tls = f"{{ca: {ca}, name: {server.hostname}}}"
        print(f'for gatepost.yaml:\nbackends:\n  sink: {{hosts: ["{where}"], tls: {tls}}}', flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    await server.stop()
