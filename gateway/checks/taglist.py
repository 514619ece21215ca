"""Tag lists: `a=rsa-sha256; d=example.org; ...`, the syntax of DKIM and ARC fields and of DKIM key records.

RFC 6376 section 3.2, strictly: printable ASCII (and UTF-8, RFC 8616 section 3) with folding white space, no empty
element but after the last semicolon, no tag twice: a duplicate makes the whole list invalid. Linear; the octets are a
stranger's. DMARC records are more tolerant and have their own reader.
"""

_FWS = b" \t\r\n"
#: VALCHAR, the semicolon between tags, white space, and octets of UTF-8.
_ALLOWED = bytes(range(0x21, 0x7F)) + _FWS + bytes(range(0x80, 0x100))
_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_ALPHA = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG_LIMIT = 100
_LENGTH_LIMIT = 64 * 1024


class BadTagList(ValueError):  # noqa: N818 - what it is, not an error of ours
    """The octets are no tag list. The text holds none of them."""


def parse(octets: bytes) -> dict[str, bytes]:
    """Names (case kept: they are case-sensitive) to values, without white space around them, in their order."""
    if len(octets) > _LENGTH_LIMIT:
        raise BadTagList("too long")
    if octets.translate(None, _ALLOWED):
        raise BadTagList("an octet that no tag list may hold")
    elements = octets.split(b";", _TAG_LIMIT + 1)
    if len(elements) > _TAG_LIMIT:
        raise BadTagList("too many tags")
    if not elements[-1].strip(_FWS):
        elements.pop()
    tags: dict[str, bytes] = {}
    for element in elements:
        name, equals, value = element.partition(b"=")
        name = name.strip(_FWS)
        if not equals or not name or name[0] not in _ALPHA or not _NAME.issuperset(name):
            raise BadTagList("an element that is no tag")
        key = name.decode("ascii")
        if key in tags:
            raise BadTagList("a tag given twice")
        tags[key] = value.strip(_FWS)
    return tags


def unspaced(value: bytes) -> bytes:
    """`value` without its white space (base64 and names may be folded anywhere)."""
    return value.translate(None, _FWS)


def listed(value: bytes) -> list[bytes]:
    """The elements of a colon-separated value, white space around them dropped."""
    return [element.strip(_FWS) for element in value.split(b":")]


def without_signature(raw_field: bytes) -> bytes:
    """A signature field with the value of its `b=` emptied and the final CRLF gone: what was signed.

    RFC 6376 section 3.7: nothing but that value and the white space round it is deleted.
    """
    name, colon, value = raw_field.removesuffix(b"\r\n").partition(b":")
    elements = value.split(b";")
    for number, element in enumerate(elements):
        tag, equals, _ = element.partition(b"=")
        if equals and tag.strip(_FWS) == b"b":
            elements[number] = tag + equals
    return name + colon + b";".join(elements)
