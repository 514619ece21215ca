"""Names of people: found in every order and disguise, and not where only a part of them stands."""

import pytest

from gateway.policy.lists import NamedList, entry
from gateway.policy.names import PersonName, name, plain_words

LIST = NamedList(
    "people", [entry(text) for text in ("Jane Doe", "José Ångström-Lee", "Dr. Иван Петров", "jd@x.example")]
)


@pytest.mark.parametrize(
    "text",
    [
        "Jane Doe", "JANE DOE", "Doe, Jane", "Jane Doe (CEO)", '"Jane" \'Doe\'', "Jane  Q.  Doe", "jane.doe",
        "Jane_Doe",
        "J\u0430n\u0435 D\u043ee", "Jane\u200b D\u00adoe", "\uff2aane Doe", "J\u00e1ne D\u00f6e", "\u03b9 Jane Doe",
        "Jose Angstrom Lee", "ÅNGSTRÖM-LEE José", "dr Иван ПЕТРОВ", "jd@x.example",
    ],
)  # fmt: skip
def test_found(text: str) -> None:
    assert LIST.holds(text)


@pytest.mark.parametrize(
    "text", ["", "Jane", "Doe", "Janet Doe", "Jane Does", "Ангел Петров", "jd@y.example", "Jan e Doe"]
)
def test_not_found(text: str) -> None:
    assert not LIST.holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "Jane",
        "jane doe",
        "a b",
        "Jane D0e",
        "example.com Example.org",
        "Jane doe@x.example",
        "192.0.2.1 192.0.2.2",
        "X",
    ],
)
def test_no_names(text: str) -> None:
    assert name(text) is None


def test_the_list_shows_them_as_written() -> None:
    assert list(LIST) == ["jd@x.example", "Jane Doe", "José Ångström-Lee", "Dr. Иван Петров"]
    assert isinstance(entry("Jean-Luc O'Neil"), PersonName)
    assert entry("Conan O\u2019Brien von Example") == PersonName(
        frozenset({"conan", "o", "brien", "von", "example"}), "Conan O\u2019Brien von Example"
    )
    with pytest.raises(ValueError, match="no domain, address or network"):
        entry("jane doe")


def test_a_text_of_a_stranger_is_bounded() -> None:
    assert len(plain_words("x1 " * 100_000 + " ".join(f"y{n}" for n in range(1000)))) <= 60
    many = NamedList("many", [entry(f"Jane Doe{'x' * (n % 50)}y{'z' * (n // 50)}") for n in range(2000)])
    assert not many.holds("Jane Do")
