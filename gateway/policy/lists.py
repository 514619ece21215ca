"""Named lists: `lists/*.txt`, one address, domain, network or name a line.

`#` begins a comment. An entry is an address (`user@example.com`), a domain (`example.com` or `@example.com`), an IP
address or network (`192.0.2.0/24`, `2001:db8::/32`), or the name of a person in two words or more (`Jane Doe`, see
`names`). The list of `lists/arc-sealers.txt` is called `lists.arc_sealers` in expressions (a hyphen would be a minus
there). What is no entry is a `Problem` with its place.

Lists are never handed to CEL as values: membership is a look-up in a set here, so that a list of a hundred thousand
entries costs what a list of three costs.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gateway.files import Files
from gateway.mail.address import Mailbox, to_ascii
from gateway.mail.reply import SyntaxRefused
from gateway.policy.names import Names, PersonName, name
from gateway.yamlfile import Position, Problem, first_forbidden, why_forbidden

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Entry = str | Network | PersonName

#: Words in a comment of a list that says: I wait for entries. Rules that name an empty list are warned of else.
MAY_BE_EMPTY = "may be empty"
#: Lines of one list that are told, where it is something else altogether.
_TOLD = 20
_COMMENT = re.compile(r"(?:^|\s)#")  # "#" within a word may be part of an address
_FILE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Networks:
    """A set of networks; asking for an address costs one look-up a prefix length in use."""

    def __init__(self, networks: list[Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            self._by_length.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def holds(self, ip: str) -> bool:
        """True when `ip` lies in one of them; a text that is no IP address lies in none."""
        if not self._by_length:
            return False
        version, number = _address(ip)
        return any(kind == version and number >> shift in known for (kind, shift), known in self._by_length.items())


@lru_cache(maxsize=1024)  # many rules ask for the one client
def _address(ip: str) -> tuple[int, int]:
    """Version and number; version 0 where it is none."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return 0, 0
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


class NamedList:
    """One list. Texts are compared without regard to case; domains as A-labels."""

    def __init__(self, name: str, entries: list[Entry], *, may_be_empty: bool = True) -> None:
        self.name = name
        #: False where an empty list is a mistake rather than one that waits for entries.
        self.may_be_empty = may_be_empty
        self.texts = frozenset(entry for entry in entries if isinstance(entry, str))
        networks = [entry for entry in entries if not isinstance(entry, str | PersonName)]
        self.networks = Networks(networks)
        people = [entry for entry in entries if isinstance(entry, PersonName)]
        self.names = Names(people)
        self._spelt = sorted(self.texts) + [str(each) for each in (*networks, *people)]
        self._spelt_networks = frozenset(str(each) for each in networks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spelt)

    def __len__(self) -> int:
        return len(self._spelt)

    def holds(self, text: str) -> bool:
        """`text in lists.NAME`: it is an entry, or an address whose domain is one, or an IP address whose network is;
        or it has all words of a name.
        """
        plain = text.lower()
        if plain in self.texts or ("@" in plain and plain.rpartition("@")[2] in self.texts):
            return True
        if self._spelt_networks and (plain in self._spelt_networks or self.networks.holds(plain)):
            return True
        return bool(self.names) and self.names.hold(text)

    def covers(self, domain: str) -> bool:
        """`under(domain, lists.NAME)`: the domain or one above it is an entry."""
        rest = domain.lower()
        while rest:
            if rest in self.texts:
                return True
            rest = rest.partition(".")[2]
        return False


def entry(text: str) -> Entry:
    """One entry in its canonical form. Raises `ValueError` with what is wrong."""
    if (person := name(text)) is not None:
        return person
    if text.startswith("*@"):
        raise ValueError(f"'{text}' is nobody's address: for all of a domain write {text[2:]}")
    if "@" in text.lstrip("@"):
        try:
            mailbox = Mailbox.parse(text.encode(), smtputf8=True)
        except (SyntaxRefused, UnicodeError):
            raise ValueError(f"'{text}' is no address") from None
        return str(mailbox).lower()
    if "/" in text or ":" in text or text.replace(".", "").isdigit():
        return network(text)
    return domain(text.removeprefix("@"))


def network(text: str) -> Network:
    """An IP address or network. Raises `ValueError` with what is wrong."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        pass
    else:
        mapped = found.network_address.ipv4_mapped if isinstance(found, ipaddress.IPv6Network) else None
        # Clients are IPv4 when their address is an IPv4-mapped one, so such a network would hold nobody.
        return found if mapped is None else ipaddress.IPv4Network((mapped, max(found.prefixlen - 96, 0)))
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"'{text}' is no IP address or network") from None
    raise ValueError(f"'{text}' has bits set behind its prefix: did you mean {meant}?")


def domain(text: str) -> str:
    """A domain as A-labels in lower case. Raises `ValueError` with what is wrong."""
    try:
        return to_ascii(text)
    except ValueError:
        hint = f": write {text[2:]}, 'under' takes all below it" if text.startswith("*.") else ""
        hint = ": one entry a line" if "," in text or ";" in text else hint
        raise ValueError(f"'{text}' is no domain, address or network{hint}") from None


def load_lists(directory: Path, files: Files, problems: list[Problem]) -> dict[str, NamedList]:
    """The lists of a folder by the name that expressions use. What is wrong is added to `problems`."""
    found: dict[str, NamedList] = {}
    origin: dict[str, Path] = {}
    try:
        paths = list_files(directory, files)
    except OSError as error:
        problems.append(Problem(Position(str(directory), 1, 1), f"cannot read the lists: {error.strerror}"))
        return found
    for path in paths:
        name = path.stem.replace("-", "_")
        if not _FILE_NAME.fullmatch(path.stem):
            hint = "letters, digits, '-' and '_', a letter first"
            problems.append(Problem(Position(str(path), 1, 1), f"'{path.stem}' cannot be the name of a list", hint))
        elif name in origin:
            what = f"this list and {origin[name].name} are both called lists.{name}"
            problems.append(Problem(Position(str(path), 1, 1), what, "rename one of them"))
        else:
            origin[name] = path
            before = len(problems)
            entries, text = _entries(path, files, problems)
            # What is wrong with its lines is told; that nothing is left of them need not be.
            meant = len(problems) > before or MAY_BE_EMPTY in text.lower()
            found[name] = NamedList(name, entries, may_be_empty=meant)
    return found


def list_files(directory: Path, files: Files) -> list[Path]:
    """The files of lists. A folder that is not there holds none: a rule that names a list is refused all the same."""
    try:
        return files.names(directory, "*.txt")
    except FileNotFoundError:
        return []


def _entries(path: Path, files: Files, problems: list[Problem]) -> tuple[list[Entry], str]:
    """The entries, and the text of the file."""
    try:
        text = files.read(path).decode("utf-8-sig")
    except OSError as error:
        problems.append(Problem(Position(str(path), 1, 1), f"cannot read the list: {error.strerror}"))
        return [], MAY_BE_EMPTY
    except UnicodeDecodeError:
        problems.append(Problem(Position(str(path), 1, 1), "the list is not UTF-8 text"))
        return [], MAY_BE_EMPTY
    entries: list[Entry] = []
    bad: list[Problem] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        found = _line(line)
        if isinstance(found, tuple):
            at, what, hint = found
            bad.append(Problem(Position(str(path), number, at + 1), what, hint))
        elif found is not None:
            entries.append(found)
    problems += bad[:_TOLD]
    if len(bad) > _TOLD:
        problems.append(Problem(bad[_TOLD].position, f"and {len(bad) - _TOLD} more lines are no entries"))
    return entries, text


def _line(line: str) -> Entry | tuple[int, str, str] | None:
    """The entry of a line, None where it has none, or the offset, what is wrong, and a hint."""
    if (at := first_forbidden(line)) is not None:
        return at, *why_forbidden(line[at])  # U+2028 in a comment would begin a line that no reviewer sees
    content = _COMMENT.split(line, maxsplit=1)[0].strip()
    try:
        return entry(content) if content else None
    except ValueError as why:
        what, _, hint = str(why).partition(": ")
        return len(line) - len(line.lstrip()), what, hint
