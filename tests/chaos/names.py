"""A recursive DNS server of a kind: answers from the tests' zone over UDP. `python -m tests.chaos.names PORT`."""

import socket
import sys

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.gateway import ZONE


def answer(octets: bytes) -> bytes:
    """The response to one query."""
    query = dns.message.from_wire(octets)
    response = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    types = ZONE.get(question.name.to_text().lower().rstrip("."))
    if types is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif isinstance(values := types.get(dns.rdatatype.to_text(question.rdtype), []), list) and values:
        texts = [f'"{v}"' if question.rdtype == dns.rdatatype.TXT else _absolute(v, question.rdtype) for v in values]
        response.answer.append(dns.rrset.from_text(question.name, 60, "IN", question.rdtype, *texts))
    return response.to_wire()


def _absolute(value: str, rdtype: int) -> str:
    return f"{value}." if rdtype in (dns.rdatatype.PTR, dns.rdatatype.MX, dns.rdatatype.CNAME) else value


if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", int(sys.argv[1])))
        print("ready", flush=True)
        while True:
            octets, peer = server.recvfrom(4096)
            server.sendto(answer(octets), peer)
