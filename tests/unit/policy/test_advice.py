"""What authors are told about an expression: the place, the fault, the hint."""

import pytest

from gateway.policy.expression import Compiler

CAPITALS = "domains are compared in lower case, as A-labels"
HYPHEN = "write lists.arc_sealers: a hyphen is a minus here"
GROUPS = "facts begin with arc, client, dkim, dmarc, dnsbl, from, helo, mail, message, rcpt, spf and a dot"
NETWORKS = "of networks write in_networks(client.ip, ['192.0.2.0/24'])"
COMPILER = Compiler(["partners", "arc_sealers"])


@pytest.mark.parametrize(
    ("text", "offset", "what", "hint"),
    [
        ("client.tls == True", 14, "unknown fact 'True'", "write true"),
        ("spf.result == pass", 14, "unknown fact 'pass'", "a word stands in quotes: 'pass'"),
        ("nothing.like.it == 'x'", 0, "unknown fact 'nothing.like.it'", GROUPS),
        ("client.ip == '192.0.2.0/24'", 13, "client.ip is never '192.0.2.0/24'", NETWORKS),
        ("client.ip in ['192.0.2.1', '192.0.2.']", 27, "client.ip is never '192.0.2.'", NETWORKS),
        ("client.ip != '2001:DB8::1'", 13, "'2001:DB8::1' never matches: addresses are compared in their short form",
         "write 2001:db8::1"),
        ("client.ip in ['::ffff:192.0.2.1']", 14,
         "'::ffff:192.0.2.1' never matches: addresses are compared in their short form", "write 192.0.2.1"),
        ("under('*.a.example', mail.domain)", 6, "'under' asks whether the first domain is the second or below it",
         "write under(mail.domain, 'a.example')"),
        ("under(mail.domain, '*.a.example')", 19, "'*.a.example' is no domain",
         "'under(domain, ...)' is true of a.example and all below it"),
        ("dkim.domains.contains('a.example')", 0, "'contains' does not take a list and a text", "write 'text' in LIST"),
        ("dnsbl.zones == 'a.example'", 0, "cannot compare a list with a text",
         "dnsbl.zones is a list; write 'text' in LIST"),
        ("message.attachments.exists(a.kind == 'script')", 20, "'exists' is called in a wrong way",
         "write list.exists(x, ...)"),
        ("dnsbl.score => 5", 12, "cannot read the expression at '=>'", "write >="),
        ("not client.tls", 4, "cannot read the expression at 'client'", "write ! instead of not"),
        ("if client.tls then true", 3, "cannot read the expression at 'client'",
         "write the condition alone, without 'if'"),
        ("!spf.result", 1, "'!' does not apply to a text", "spf.result is a text"),
        ("-client.tls == 1", 1, "'-' does not apply to true or false", "client.tls is true or false"),
        ("spf.result in 'pass'", 0, "'in' looks for a text in a text, where none can be", "spf.result is a text"),
        ("spf.result ? true : false", 0, "'? :' takes conditions, not a text", "spf.result is a text"),
        ("spf.result + 1 == 'x'", 0, "cannot apply '+' to a text and a number", "spf.result is a text"),
        ("1 + 'a' == 'x'", 0, "cannot apply '+' to a number and a text", ""),
        ("size(client.tls) == 1", 0, "'size' does not take true or false", "write size(text or list)"),
        ("dkim.domains", 0, "'when' must be true or false, this is a list", "compare it with something"),
        ("spf.domain == 'a..b'", 14, "'a..b' is no domain", ""),
        ("mail.address == 'a@B.example'", 16, "'B.example' never matches: " + CAPITALS, "write b.example"),
        ("in_networks(client.ip, [helo.name])", 24, "a network is a text in quotes", "for example '192.0.2.0/24'"),
        ("in_networks(client.ip, ['nonsense'])", 24, "'nonsense' is no IP address or network", ""),
        ("'X.example' in dkim.domains", 0, "'X.example' never matches: " + CAPITALS, "write x.example"),
        ("lists == 'x'", 0, "'lists' alone is no list", "lists: lists.arc_sealers, lists.partners"),
        ("'x' in lists.arc-sealers", 7, "unknown list 'lists.arc'", HYPHEN),
        ("client.tls || has(client.tls)", 14, "has() is not part of the policy language", ""),
        ("message.size > 5.5", 0, "cannot compare a number with a decimal fraction", "message.size is a number"),
        ("[1.5].size() == 1", 1, "a decimal fraction is not part of the policy language", ""),
        ("spf.result === 'x'", 13, "cannot read the expression at '='", "write == to compare"),
        ("spf.result == 'pass", 14, "a text without its closing quote", ""),
        ("spf.result == 'pass' | client.tls", 21, "cannot read the expression at '|'", "write ||"),
        ("spf.result == 'pass' || not client.tls", 28, "cannot read the expression at 'client'",
         "write ! instead of not"),
        ("(client.tls", 11, "cannot read the expression at the end of the expression", "')' is missing"),
        ("message.size > 5 MB", 17, "cannot read the expression at 'MB'", "write 5 * MB"),
        ("glob(from.name)", 0, "'glob' is called in a wrong way", "write glob(text, 'pattern')"),
        ("from.name.lower() == 'x'", 10, "unknown function 'lower'", ""),
    ],
)  # fmt: skip
def test_first_mistake(text: str, offset: int, what: str, hint: str) -> None:
    mistakes = COMPILER.compile(text)
    assert isinstance(mistakes, list)
    found = mistakes[0]
    if what.startswith("unknown function"):
        assert found.hint.startswith("functions: contains, endsWith, glob")
        hint = found.hint
    assert (found.offset, found.what, found.hint) == (offset, what, hint)
