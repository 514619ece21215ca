"""What EHLO offers."""

import pytest

from gateway.smtp.events import Rules
from gateway.smtp.offer import offer


@pytest.mark.parametrize("chunking", [True, False])
def test_chunking(chunking: bool) -> None:
    """Only the keyword comes and goes; the others keep their order."""
    said = offer(Rules("mx.example.com", chunking=chunking), starttls=True, xclient=False).text
    assert ("CHUNKING" in said) is chunking
    assert [word for word in said if word != "CHUNKING"][1:6] == [
        "SIZE 35000000", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN",
    ]  # fmt: skip
