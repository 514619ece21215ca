"""A backend's octets against the whole relay: two mails, whatever is said. A mail is told as delivered only where a
strict reading of the dialogue has a 250 to its own end, and never refused for good where it has one; what is told is
a well-formed reply; nothing but EHLO and STARTTLS is said in clear text; and it ends in time.

0xFF with `|` ends what is said at one go, `E` closes and `R` resets the connection, `T` is silence to the end.
"""

import atexit
import random
import tempfile
from pathlib import Path

from structlog.testing import capture_logs

from gateway.config import load_config
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.relay.delivery import Delivered, Fate, Relay
from gateway.state.sqlite import SqliteStore
from tests.fuzz.rig.host import Street
from tests.fuzz.rig.house import CONFIG, Ticking
from tests.fuzz.rig.readings import replies

_CLEAR = b"220 b ESMTP\r\n\xff|250-b\r\n250 STARTTLS\r\n\xff|220 go\r\n\xff|"
_ALL = b"250-b\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250 DSN\r\n\xff|"
_CHUNKS = b"250-b\r\n250-PIPELINING\r\n250 CHUNKING\r\n\xff|"
_OK, _NO = b"250 ok\r\n", b"550 5.1.1 no\r\n"
_FIRST = _OK + b"250 2.1.5 ok\r\n354 go\r\n\xff|250 2.0.0 kept\r\n\xff|"
_SECOND = _OK * 3 + b"\xff|354 go\r\n\xff|250 2.0.0 kept\r\n\xff|"
SEEDS = [
    _CLEAR + _ALL + _FIRST + _SECOND,
    _CLEAR
    + b"250 b\r\n\xff|250 ok\r\n\xff|250 ok\r\n\xff|354 go\r\n\xff|250 kept\r\n\xff|550 5.7.1 no\r\n\xff|250 rset\r\n",
    _CLEAR + _CHUNKS + _OK * 2 + b"\xff|250 kept\r\n250 reset\r\n\xff|" + _OK * 2 + _NO + b"\xff|" + _OK,
    _CLEAR + _CHUNKS + _OK * 2 + b"\xff|502 what\r\n\xff|" + _CLEAR + _CHUNKS + _OK * 3 + b"\xff|250 kept\r\n",
    _CLEAR + _ALL + _OK + _NO + b"354 go\r\n\xff|554 no\r\n\xff|250 rset\r\n\xff|" + _SECOND,
    _CLEAR + _ALL + _OK * 2 + b"354 go\r\n\xff|\xffT",
    _CLEAR + _ALL + _OK * 2 + b"354 go\r\n\xff|554 5.6.0 no\r\n\xff|" + _OK + _NO + _OK + b"\xff|" + _OK,
    _CLEAR + _ALL + _OK * 2 + b"354 go\r\n250 kept\r\n\xff|" + _CLEAR + _ALL + _SECOND,
    b"220 b\r\n\xff|250 STARTTLS\r\n\xff|220 go\r\n250-b\r\n250 PIPELINING\r\n\xff|" + _FIRST,
    b"554 no\r\n\xff|220 b\r\n\xff|250 b\r\n\xffE" + _CLEAR + _ALL + b"421 bye\r\n\xffE" + _CLEAR + _ALL + _SECOND,
]
TOKENS = [
    *(
        b"\xff|",
        b"\xffE",
        b"\xffR",
        b"\xffT",
        b"\r\n",
        b"\n",
        b"\r",
        _OK,
        _NO,
        b"250-",
        b"550-x\r\n",
        b"354 go\r\n",
        b"250\r\n",
    ),
    *(b"421 bye\r\n", b"450 4.2.1 later\r\n", b"200 x\r\n", b"251 x\r\n", b"354", b"220 go\r\n", b"530 x\r\n"),
    *(_CLEAR, _ALL, _FIRST, _SECOND, b"STARTTLS\r\n", b"250 CHUNKING\r\n", b"250-" + b"x" * 700 + b"\r\n", b"\x1b[2J"),
]
#: What a backend may say instead: refusals, yeses of other steps, and what is no reply at all.
_ODD = [
    *(
        _NO,
        b"450 4.2.1 later\r\n",
        b"421 bye\r\n",
        b"451 4.7.5 x\r\n",
        b"530 5.7.0 who\r\n",
        b"502 what\r\n",
        b"554 5.0.0\r\n",
    ),
    *(
        _OK,
        b"354 go\r\n",
        b"220 go\r\n",
        b"251 x\r\n",
        b"200 x\r\n",
        b"250\r\n",
        b"550-a\r\n250 b\r\n",
        b"250-a\r\n550 b\r\n",
    ),
    *(
        b"250 a\n",
        b"25 x\r\n",
        b"250_x\r\n",
        b"250-a\r\n",
        b"",
        b"250 2.0.0 a\r\n250 2.0.0 b\r\n",
        b"150 x\r\n",
        b"550 \xff\x1b\r\n",
    ),
]
_CONFIG = CONFIG.replace('{hosts: "127.0.0.1:1"}', '{hosts: "127.0.0.1:1", verify_recipients: off}')


def spoken(chance: random.Random) -> bytes:
    """A backend that mostly does what it must."""

    def say(right: bytes) -> bytes:
        ends = b"\xff|" if chance.random() < 0.97 else chance.choice((b"\xffE", b"\xffR", b"\xffT", b""))
        return (chance.choice(_ODD) if chance.random() < 0.08 else right) + ends

    words = b""
    for _ in range(chance.choice((1, 1, 2))):
        offered = [word for word in (b"PIPELINING", b"CHUNKING", b"SIZE", b"DSN") if chance.random() < 0.6]
        words += b"".join(map(say, (b"220 b\r\n", b"250-b\r\n250 STARTTLS\r\n", b"220 go\r\n")))
        words += say(b"".join(b"250-%s\r\n" % word for word in [b"b", *offered]) + b"250 HELP\r\n")
        for recipients in chance.choice(((1,), (1, 2))):
            yes = [say(_OK) for _ in range(recipients + 1)]
            words += b"".join(one[:-2] for one in yes[:-1]) + yes[-1] if b"PIPELINING" in offered else b"".join(yes)
            chunked = b"CHUNKING" in offered and b"PIPELINING" in offered
            data = b"" if chunked else say(b"354 go\r\n")
            words = words[:-2] + data if recipients == 1 and data and b"PIPELINING" in offered else words + data
            words += say(b"250 2.0.0 kept\r\n" + b"250 reset\r\n" * chunked)  # RSET goes behind BDAT
    return words


class _World:
    """Built once: a relay costs a TLS context."""

    def __init__(self, folder: Path) -> None:
        self.loop = Street()
        self.clock = Ticking(self.loop)
        (folder / "policies" / "lists").mkdir(parents=True)
        (folder / "gatepost.yaml").write_text(_CONFIG)
        (folder / "zone.json").write_text("{}")
        self.store = SqliteStore(folder / "state.db", self.clock)
        config = load_config(folder / "gatepost.yaml", DiskFiles())
        resolver = Resolver(Zone({}), self.clock)
        self.relay = Relay(config, config.hostname, resolver, self.store, self.clock, 5)

    async def play(self, data: bytes, single: bool) -> list[tuple[Fate, bytes]]:
        """Both mails, and what became of each; everything is closed afterwards."""
        self.loop.hosts.clear()
        fates: list[tuple[Fate, bytes]] = []
        began = self.loop.now
        task = self.loop.create_task(self._mails(fates))
        for octets, then in _pieces(data):
            await self.loop.settle(0)
            self._say(octets) if not single else await self._drip(octets)
            if then == "T":
                break
            if then in {"E", "R"} and self.loop.hosts:
                self.loop.hosts[-1].hang_up(ConnectionResetError("reset") if then == "R" else None)
        await task  # silent from here on
        assert self.loop.now - began < 2 * 121, "it waits for ever"
        for host in self.loop.hosts:
            host.hang_up(None)
        await self.loop.settle(0)
        return fates

    def _say(self, octets: bytes) -> None:
        if self.loop.hosts:
            self.loop.hosts[-1].say(octets)

    async def _drip(self, octets: bytes) -> None:
        for octet in octets:
            self._say(bytes([octet]))
            await self.loop.settle(0)

    async def _mails(self, fates: list[tuple[Fate, bytes]]) -> None:
        session = Session("S", "192.0.2.7", 1, "198.51.100.25", 25, 0.0, helo="client.example", esmtp=True)
        for number, names in enumerate(([b"u@example.com"], [b"u@example.com", b"v@example.com"])):
            envelope = Envelope(Mailbox.parse(b"a@sender.example"))
            envelope.recipients.extend(Recipient(Mailbox.parse(name)) for name in names)
            content = b"Subject: %d\r\n\r\n.dot\r\n" % number
            tx = Transaction(f"T{number}", session, envelope, 0.0)
            tx.message = Message.from_octets(content)
            fields = b"Received: %d\r\n" % number
            fates.append((await self.relay.deliver("main", tx, fields, frozenset()), fields + content))


def _pieces(data: bytes) -> list[tuple[bytes, str]]:
    pieces, rest = [], data
    while rest:
        at = min((at for mark in b"|ERT" if (at := rest.find(bytes([0xFF, mark]))) >= 0), default=len(rest))
        pieces.append((rest[:at], rest[at + 1 : at + 2].decode("latin-1")))
        rest = rest[at + 2 :]
    return pieces


def one(data: bytes) -> None:
    world = _world()
    for single in (False, True):
        with capture_logs() as lines:
            fates = world.loop.run_until_complete(world.play(data, single))
        assert not world.loop.faults, world.loop.faults
        assert not [line for line in lines if line["log_level"] in {"error", "critical"}], lines
        took = [content for host in world.loop.hosts for content in host.took]
        assert len(fates) == 2
        for fate, content in fates:
            (reply,) = replies(fate.reply.encode())
            assert reply.status
            assert isinstance(fate, Delivered) == (reply.code == 250), fate
            assert content in took or not isinstance(fate, Delivered), f"never taken: {fate}"
            assert content not in took or reply.code < 500, f"taken, and refused for good: {fate}"
            assert took.count(content) <= 1, "taken twice"


_WORLDS: list[_World] = []


def _world() -> _World:
    if not _WORLDS:
        folder = tempfile.TemporaryDirectory(prefix="gatepost-fuzz-")
        made = _World(Path(folder.name))
        _WORLDS.append(made)

        def leave() -> None:
            made.store.close()
            made.loop.close()
            folder.cleanup()

        atexit.register(leave)
    return _WORLDS[0]
