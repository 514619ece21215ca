"""The doctor at home: DNS, state, disks, clock, files, our certificates, the way around us.

Nothing is changed; every question has a time limit.
"""

import asyncio
import contextlib
import ctypes
import ipaddress
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from gateway.cli.doctor_finding import SOON_DAYS, Finding, days_left, ending, green, red, yellow
from gateway.clock import Clock
from gateway.config import Backend, Config, Redis, Sqlite
from gateway.config.certificate import certificates, names
from gateway.dns.resolver import Resolver
from gateway.dns.stub import Server, Stub
from gateway.files import Files
from gateway.mail.terms import Unavailable
from gateway.relay.fate import Broken
from gateway.relay.way import Way
from gateway.state.opening import open_store

#: A signed zone that will be there as long as the Internet is.
_SIGNED = "iana.org"
_SLOW_SECONDS = 0.3
_DOMAINS = 20  # whose MX records are looked at
_UNSYNCHRONIZED = 5  # TIME_ERROR of adjtimex(2)


async def dns(config: Config, clock: Clock, seconds: float) -> list[Finding]:
    """Each server: does it answer, how fast, recursively, and does it validate?"""
    if config.dns.zone is not None:
        return [
            yellow("dns", f"answers come from {config.dns.zone}", "right for trials; remove dns.zone for real mail")
        ]
    needed = any(backend.tls.verify == "dane" for backend in config.backends.values())
    servers = Stub(config.dns.servers).servers
    answers = await asyncio.gather(*(_server(server, clock, seconds, needed=needed) for server in servers))
    return [finding for findings in answers for finding in findings]


async def _server(server: Server, clock: Clock, seconds: float, *, needed: bool) -> list[Finding]:
    """One of them; `needed`: a backend is believed by its AD bit."""
    where = f"dns {server}"
    started = clock.monotonic()
    try:
        async with asyncio.timeout(seconds):
            answer = await Stub([str(server)]).ask(_SIGNED, "A", seconds)
    except (Unavailable, TimeoutError) as why:
        mend = "is it running, recursive, and open to us? dns.servers names others"
        return [red(where, str(why) or "no answer in time", mend)]
    found: list[Finding] = []
    took = clock.monotonic() - started
    if took > _SLOW_SECONDS:
        found.append(yellow(where, f"answers in {took * 1000:.0f} ms", "use a caching resolver near this machine"))
    else:
        found.append(green(where, f"recursive, answers in {took * 1000:.0f} ms"))
    mend = "run a validating resolver on this machine and name it in dns.servers"
    if not (answer.authenticated and server.trusted):
        what = "does not validate (no AD bit)" if not answer.authenticated else "is not trusted for its AD bit"
        shout, need = (red, "; verify: dane needs one") if needed else (yellow, "")
        found.append(shout(where, what, mend + need))
    elif needed and not ipaddress.ip_address(server.host.partition("%")[0]).is_loopback:
        what = "validates (AD), on another machine: who can forge its answers on the way sends mail elsewhere"
        found.append(yellow(where, what, mend))
    else:
        found.append(green(where, "validates (AD)"))
    return found


def state(config: Config, clock: Clock) -> Iterator[Finding]:
    """Does it answer, and how fast?"""
    started = clock.monotonic()
    try:
        with contextlib.closing(open_store(config, clock, existing=True)) as store:
            store.recipient("", "", clock.now())
    except (Unavailable, OSError) as why:
        mend = "is Redis up, and are address, user and password those of state:?"
        if isinstance(config.state, Sqlite):
            mend = "start the gateway once, or look at path, rights and room"
        yield red("state", str(why), mend)
    else:
        yield green("state", f"answers in {(clock.monotonic() - started) * 1000:.1f} ms")


def disks(config: Config) -> Iterator[Finding]:
    """Room for what the gateway writes."""
    folders = {"spool": (Path(tempfile.gettempdir()), "mail above 1 MB gets 452 4.3.1 when it is full")}
    if isinstance(config.state, Sqlite):
        folders["state"] = config.state.path.parent, "a full one forgets: greylist and limits do what on_error says"
    if config.journal is not None:
        folders["journal"] = config.journal.path.parent, "a full one stops the journal, mail goes on unexplained"
    for what, (folder, loss) in folders.items():
        where = f"disk {folder}"
        try:
            usage = shutil.disk_usage(folder)
        except OSError as why:
            yield red(where, f"{what}: {why.strerror}", "make the folder")
            continue
        share = usage.free / usage.total
        words = f"{what}: {usage.free // 10**6} MB free, {share:.0%}"
        if usage.free < 4 * config.limits.message or share < 0.02:
            yield red(where, words, f"make room: {loss}")
        elif share < 0.1:
            yield yellow(where, words, "make room in time")
        else:
            yield green(where, words)


def clock(now: float) -> Iterator[Finding]:
    """Is the time kept by anybody? Signatures, certificates and greylisting all go by it."""
    words = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now))
    answer = -1
    with contextlib.suppress(OSError, AttributeError):
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # `modes` 0: only read
    if now < 1_790_000_000:
        yield red("clock", f"says {words}", "set it; then keep it by NTP")
    elif answer == _UNSYNCHRONIZED:
        yield yellow("clock", f"says {words}, synchronized by nobody", "run chrony or systemd-timesyncd")
    else:
        yield green("clock", f"says {words}")


def files(path: Path, config: Config) -> Iterator[Finding]:
    """Who may read keys and change what we believe."""
    good = True
    for file, secret in _files(path, config):
        try:
            mode = file.stat().st_mode
        except OSError as why:
            yield red(f"file {file}", str(why.strerror), "is the path right, and may the service read it?")
            good = False
            continue
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            yield red(f"file {file}", f"others may change it ({stat.filemode(mode)})", f"chmod go-w {file}")
            good = False
        elif secret and mode & (stat.S_IRGRP | stat.S_IROTH):
            bits = "o-rwx" if mode & stat.S_IROTH else "g-rwx"
            shout = red if mode & stat.S_IROTH else yellow
            yield shout(f"file {file}", f"others may read it ({stat.filemode(mode)})", f"chmod {bits} {file}")
            good = False
    if good:
        yield green("files", "configuration, keys, policies and state are in nobody else's hands")


def _files(path: Path, config: Config) -> Iterator[tuple[Path, bool]]:
    """What matters, and whether it is secret."""
    shared = config.state
    yield path, isinstance(shared, Redis) and bool(shared.redis.password)
    for folder, pattern in ((config.policies, "*.y*ml"), (config.lists, "*.txt")):
        if folder.is_dir():  # a configuration without lists needs no folder
            yield folder, False
            for file in sorted(folder.glob(pattern)):
                yield file, False
    pairs = [pair for listener in config.listeners for pair in listener.tls]
    pairs += [b.tls.client_certificate for b in config.backends.values() if b.tls.client_certificate]
    for pair in pairs:
        yield pair.certificate, False
        yield pair.key, True
    if config.seal is not None:
        yield config.seal.key, True
    authorities = [backend.tls.ca for backend in config.backends.values()]
    authorities += [each.client_certificates.ca for each in config.listeners if each.client_certificates]
    if isinstance(shared, Redis):
        authorities.append(shared.ca)
        if shared.password_file is not None:
            yield shared.password_file, True
    for authority in authorities:
        if authority is not None:
            yield authority, False
    if isinstance(config.state, Sqlite) and config.state.path.exists():
        yield config.state.path, True
    if config.journal is not None and config.journal.path.exists():
        yield config.journal.path, True


def own_certificates(config: Config, given: Files, now: float) -> Iterator[Finding]:
    """What clients see, and what backends that ask do; one that several show is told once."""
    for path in dict.fromkeys(pair.certificate for listener in config.listeners for pair in listener.tls):
        yield from _certificate(path, given, now, config.hostname)
    pairs = [backend.tls.client_certificate for backend in config.backends.values()]
    for path in dict.fromkeys(pair.certificate for pair in pairs if pair is not None):
        yield from _certificate(path, given, now)


def _certificate(path: Path, given: Files, now: float, hostname: str = "") -> Iterator[Finding]:
    """How long one of ours lasts, with what stands above it in its file, and whether it is for that name."""
    where, octets = f"certificate {path}", given.read(path)
    leaf, *above = certificates(octets)
    left = days_left(leaf, now)
    until = f"until {leaf.not_valid_after_utc:%Y-%m-%d}"
    if left < 0:
        yield red(where, f"expired on {leaf.not_valid_after_utc:%Y-%m-%d}", "renew it, then send SIGHUP")
    elif left < SOON_DAYS:
        yield yellow(where, f"valid {until}, {left:.0f} days", "renew it, then send SIGHUP")
    elif hostname and not names(octets, hostname):
        mend = "senders that verify (MTA-STS, DANE) will not deliver: have one issued for our name"
        yield yellow(where, f"is not for {hostname}", mend)
    else:
        yield green(where, f"for {hostname or 'backends that ask'}, valid {until}, {left:.0f} days")
    if over := ending(above, now):
        yield yellow(where, over, "put the chain there that came with the certificate last, then send SIGHUP")


async def way_around(config: Config, resolver: Resolver, way: Way) -> list[Finding]:
    """Do the MX records lead strangers to us, or to the backends, under whatever name?"""
    places = await asyncio.gather(*(_places(way, backend) for backend in config.backends.values()))
    backends = {place: name for name, found in zip(config.backends, places, strict=True) for place in found}
    domains = [domain for domain in config.domains if not domain.startswith("*.")][:_DOMAINS]
    return await asyncio.gather(*(_exchangers(config, domain, backends, resolver, way) for domain in domains))


async def _exchangers(
    config: Config, domain: str, backends: Mapping[str, str], resolver: Resolver, way: Way
) -> Finding:
    """`backends`: which of them has that name or address."""
    where = f"domain {domain}"
    try:
        exchangers = [host for _, host in (await resolver.query(domain, "MX")).records]
    except Unavailable as why:
        return yellow(where, str(why), "mend DNS")
    for host in exchangers:
        # One machine may be both, and we listen at its address.
        known = [host, *(await _addresses(way, host))] if host != config.hostname else []
        if around := [backends[one] for one in known if one in backends]:
            mend = "strangers go around us: name the gateway alone, and let the backend take port 25 from it alone"
            return red(where, f"its MX records name backend {around[0]}: {host}", mend)
    if config.hostname not in exchangers:
        what = f"its MX records name {', '.join(exchangers[:5]) or 'nobody'}, not {config.hostname}"
        return yellow(where, what, "name us there, or nobody brings mail")
    return green(where, f"its MX records name {config.hostname}")


async def _places(way: Way, backend: Backend) -> list[str]:
    """Names and addresses of its hosts."""
    try:
        hosts = [target.endpoint.host for target in await way.targets(backend).now()]
    except Broken:  # the rounds at the backends tell
        return []
    return [*hosts, *chain(*await asyncio.gather(*(_addresses(way, host) for host in hosts)))]


async def _addresses(way: Way, host: str) -> Sequence[str]:
    try:
        return await way.addresses.of(host)
    except Unavailable:
        return ()
