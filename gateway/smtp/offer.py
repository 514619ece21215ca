"""The replies of the dialogue that are always the same, and what EHLO offers. Used by `protocol`."""

from functools import lru_cache

from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp.events import Rules, Say
from gateway.smtp.xclient import OFFER as XCLIENT

GO = Say(Reply(354, "", ("End data with <CR><LF>.<CR><LF>",)))
OK = Say(Reply(250, "2.0.0", ("OK",)))
VRFY = Say(Reply(252, "2.0.0", ("Cannot verify, but send it and see",)))  # never who exists (RFC 5321 section 7.3)
HELP = Say(Reply(214, "2.0.0", ("EHLO HELO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT", "See RFC 5321")))


@lru_cache(maxsize=64)
def offer(rules: Rules, *, starttls: bool, xclient: bool) -> Reply:
    """The reply to EHLO."""
    lines = [rules.hostname, f"SIZE {rules.message}", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN"]
    # Not where recipients are of several classes (452 4.5.3): who sends by BDAT has often sent the message before it
    # reads that some of its recipients need another transaction, and brings them with its next retry only (Exim 4.96).
    lines[5:5] = ["CHUNKING"] if rules.chunking else []
    lines += ["ENHANCEDSTATUSCODES", f"LIMITS RCPTMAX={rules.recipients}"]
    return Reply(250, "", (*lines, *([XCLIENT] if xclient else []), *(["STARTTLS"] if starttls else [])))


def sequence(why: str) -> SyntaxRefused:
    """A command before its turn."""
    return SyntaxRefused(Reply(503, "5.5.1", (why,)))
