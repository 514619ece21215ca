"""Names of people in lists: `Jane Doe` is found in "DOE, Jane (CEO)" and in a Jane whose letters only look like hers.

A name in a From field is free text, and who impersonates somebody writes it as a reader will take it, not as the list
has it: other order, titles, accents, capitals, look-alike letters of other alphabets (UTS 39), characters without
width. So both are reduced to a set of plain words, and a name is found where all its words are. One word is no name:
it would be many people. Pure; called by `lists`.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

#: Words of one text that are looked at: a display name of hundreds is no name.
_WORDS = 60
_TEXT = 1000  # characters
#: Letters that look like Latin ones, in lower case and without accents: Cyrillic, Greek, a few more.
_CYRILLIC = dict(zip("авекмнорстухіјѕѵԁӏҁԛԝ", "abekmhopctyxijsvdlcqw", strict=True))
_GREEK = dict(zip("αβεικνορτυχϲϳ", "abeiknoptuxcj", strict=True))
_ALIKE = str.maketrans({**_CYRILLIC, **_GREEK, "ɡ": "g", "ɑ": "a", "ı": "i", "ɩ": "i"})
#: Characters without width.
_UNSEEN = dict.fromkeys((0x00AD, 0x034F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))
_WORD = re.compile(r"[^\W_]+")
#: One word of a name as people write lists: O'Neil, Jean-Luc, Dr.
_PART = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019-](?=[^\W\d_]))*\.?")


@dataclass(frozen=True, slots=True)
class PersonName:
    """A name: its words in plain form, and as it was written."""

    words: frozenset[str]
    written: str

    def __str__(self) -> str:
        return self.written


def name(text: str) -> PersonName | None:
    """The name of a person, None where the text is none.

    Two words at least begin with a capital, or with a letter that knows none: two domains on a line are no name.
    """
    parts = text.split()
    capitals = [part for part in parts if not part[:1].islower()]
    words = plain_words(text)
    if len(capitals) < 2 or len(words) < 2 or not all(_PART.fullmatch(part) for part in parts):
        return None
    return PersonName(words, " ".join(parts))


def plain_words(text: str) -> frozenset[str]:
    """The words of a text without case, accents, disguise and order."""
    plain = unicodedata.normalize("NFKD", text[:_TEXT].translate(_UNSEEN)).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return frozenset(_WORD.findall(plain.translate(_ALIKE))[:_WORDS])


class Names:
    """A set of names; asking costs a look-up for each word of the text."""

    def __init__(self, names: Iterable[PersonName]) -> None:
        self._by_word: dict[str, list[frozenset[str]]] = {}
        for one in names:
            # The longest word is the rarest, as a rule.
            self._by_word.setdefault(max(one.words, key=lambda word: (len(word), word)), []).append(one.words)

    def __bool__(self) -> bool:
        return bool(self._by_word)

    def hold(self, text: str) -> bool:
        """True when all words of some name are in the text."""
        words = plain_words(text)
        return any(found <= words for word in words for found in self._by_word.get(word, ()))
