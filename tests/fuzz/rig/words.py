"""The vocabulary of `speech`: what clients say, and what nobody should. Example names and addresses only.

`USUAL_…` is what an honest client says; the others are right, wrong or hostile.
"""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
USUAL_SENDERS = [b"<a@sender.example>", b"<b@sender.example>", b"<c@sender.example>", b"<>", b"<busy@sender.example>"]
SENDERS = [
    *(b"<x@refused.example>", b"<x@spoofed.example>", b"<x@broken.example>", b"<busy@sender.example>"),
    *(b"<never@sender.example>", b"<lost@sender.example>", b'<"q s"@sender.example>', b"<@r.example:a@sender.example>"),
    *("<zoë@sender.example>".encode(), "<a@bücher.example>".encode(), b"<a@[192.0.2.1]>", b"<a@[IPv6:2001:db8::1]>"),
    *(b"a@sender.example", b"<a@sender.example", b"<a b@sender.example>", b"<a@sender.example\0>", b"<a@-x.example>"),
]
USUAL_RECIPIENTS = [b"<u1@example.com>", b"<u2@example.com>", b"<u3@example.com>", b"<u4@example.com>"]
RECIPIENTS = [
    *(b"<no@example.com>", b"<later@example.com>", b"<blocked@example.com>", b"<strict@example.com>"),
    *(b"<u@other.example>", b"<u@sub.example.org>", b"<u@example.org>", b"<x@elsewhere.example>", b"<postmaster>"),
    *("<u@bücher.example>".encode(), "<ü@example.com>".encode(), b'<"u@elsewhere.example"@example.com>'),
    *(b"<u%elsewhere.example@example.com>", b"<@example.com:x@elsewhere.example>", b"<u@example.com.>", b"<>"),
    *(b"<u@EXAMPLE.com>", b"<u@example.com@elsewhere.example>", b"<u@[192.0.2.1]>", b'<"a\\"b"@example.com>'),
]
OF_MAIL = [
    *(b"SIZE=100", b"SIZE=1999", b"SIZE=2001", b"SIZE=", b"SIZE=99999999999999999999", b"BODY=8BITMIME", b"BODY=7BIT"),
    *(
        b"BODY=BINARYMIME",
        b"SMTPUTF8",
        b"SMTPUTF8=1",
        b"RET=FULL",
        b"RET=HDRS",
        b"RET=x",
        b"ENVID=a+2Bb",
        b"ENVID=a+0D",
    ),
    *(b"AUTH=<>", b"ENVID=" + b"e" * 100, b"ENVID=" + b"e" * 101, b"size=1", b"MT-PRIORITY=9"),
]
OF_RCPT = [
    *(b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,FAILURE", b"NOTIFY=NEVER,DELAY", b"ORCPT=rfc822;u+2Bx@example.com", b"NOTIFY="),
    *(
        b"ORCPT=rfc822;a+0D+0AMAIL",
        b"ORCPT=utf-8;x",
        "ORCPT=utf-8;üé".encode(),
        b"ORCPT=x",
        b"ORCPT=rfc822;" + b"o" * 490,
        b"SIZE=1",
    ),
]
#: What should end no message, and what may (RFC 5321 section 4.1.1.4; CVE-2023-51764 and its kin).
ENDINGS = [
    *(b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\n", b"\r\n.\r"),
    *(
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n. \r\n",
        b"\r\n..\r\n",
        b"\r\n.\0\r\n",
        b"\r\n.\r\n.\r\n",
        b"\r\n...\r\n",
    ),
]
HEADERS = [
    *(b"Subject: hello\r\n", b"Subject: refuse\r\n", b"From: <a@sender.example>\r\n", b"From: <x@spoofed.example>\r\n"),
    *(b"Authentication-Results: mx.example.com; spf=pass\r\n", b"authentication-results : MX.example.com; none\r\n"),
    *(
        b"Authentication-Results: other.example; spf=pass\r\n",
        b"Received: from a by b\r\n",
        b"no field\r\n",
        b" folded\r\n",
    ),
    *("Subject: grüße\r\n".encode(), b"X-8bit: \xe9\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n"),
    *(b"DKIM-Signature: v=1; a=rsa-sha256; d=sender.example; s=s; h=from; bh=; b=\r\n", b"X: " + b"y" * 1200 + b"\r\n"),
]
BODIES = [
    b"body\r\n",
    b".\r\n",
    b"..dots\r\n.x\r\n",
    b"",
    b"line\r\n" * 20,
    b"z" * 1100 + b"\r\n",
    b"\xe9\r\n",
    b"--b\r\n\r\nx\r\n",
]
USUAL_GREETINGS = [b"EHLO client.example"] * 4 + [b"HELO client.example"]
GREETINGS = [
    *(b"ehlo a", b"EHLO", b"EHLO [192.0.2.7]", b"EHLO a b", "EHLO ü".encode(), b"LHLO a", b"EHLO " + b"h" * 256),
]
XCLIENTS = [
    *(b"XCLIENT ADDR=192.0.2.77", b"XCLIENT ADDR=IPV6:2001:db8::7 HELO=c.example", b"XCLIENT NAME=x ADDR=bad"),
    b"XCLIENT HELO=[UNAVAILABLE] PORT=9",
]
ASIDES = [
    *XCLIENTS,
    *(
        b"NOOP",
        b"NOOP x",
        b"RSET",
        b"RSET",
        b"RSET x",
        b"VRFY u",
        b"EXPN u",
        b"HELP",
        b"AUTH PLAIN AA==",
        b"QUIT",
        b"BOGUS",
    ),
    *(
        b"STARTTLS",
        b"STARTTLS x",
        b"GET / HTTP/1.1",
        b"PROXY TCP4 192.0.2.9 192.0.2.1 1 2",
        b"SSH-2.0-x",
        b"\x16\x03\x01",
    ),
    *(
        b"DATA",
        b"BDAT 0",
        b"BDAT 0 LAST",
        b"BDAT",
        b"BDAT x",
        b"BDAT 5 LAST x",
        b"EHLO client.example",
        b"",
        b" ",
        b"N" * 2100,
    ),
    *(
        b"XCLIENT ADDR=192.0.2.77",
        b"XCLIENT ADDR=IPV6:2001:db8::7 HELO=c.example",
        b"XCLIENT NAME=x ADDR=bad",
        b"DATA x",
    ),
    *(b"XCLIENT HELO=[UNAVAILABLE] PORT=9", b"NO\rOP", b"NO\nOP", b"NO\0OP", b"noop" + b" " * 600),
]
TURN = b"\xff|"
TOKENS = [
    *(
        TURN,
        TURN,
        b"\xffT",
        b"\xffR",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b".\r\n",
        b"\r\n.\r\n",
        b"DATA\r\n",
        b"RSET\r\n",
    ),
    *(b"MAIL FROM:<a@sender.example>\r\n", b"RCPT TO:<u1@example.com>\r\n", b"EHLO client.example\r\n", b"QUIT\r\n"),
    *(
        b"BDAT 3\r\n",
        b"BDAT 4 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 2500\r\n",
        b"BDAT",
        b" LAST",
        b"STARTTLS\r\n",
        b"x" * 600,
    ),
    *(
        b"XCLIENT ADDR=192.0.2.77\r\n",
        b"PROXY UNKNOWN\r\n",
        b"Subject: a\r\n\r\n",
        b" SMTPUTF8",
        b"HELO client.example\r\n",
    ),
]
