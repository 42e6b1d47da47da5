"""From a question to the bytes of its answer, with what the host knows of the network or the control plane has said."""

import random

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from nacre.node.dns.control import concerns
from nacre.node.dns.zone import Sight, address_of_pointer
from nacre.protocol.names import NameAnswer, Record

TTL_S = 5
"""Containers come and go: nobody shall hold on to an address for long."""
DATAGRAM_BYTES = 512
"""RFC 1035, 4.2.1: without EDNS."""
DATAGRAM_BYTES_MAX = 1_232
"""What fits through every network (DNS flag day 2020), whatever the client says that it takes."""


class Unknown(Exception):
    """The host cannot know: others must be asked."""


def local(query: dns.message.Message, sight: Sight, *, tcp: bool) -> bytes:
    """Raises Unknown."""
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True)
    pointer = address_of_pointer(question.name)
    if pointer is not None:
        return _pointer(query, sight, pointer, tcp=tcp)
    addresses = sight.addresses(name)
    if addresses is None:
        if concerns(name) or not sight.owns(name):
            raise Unknown(name)
        return _wire(_response(query, dns.rcode.NXDOMAIN), query, tcp=tcp)
    response = _response(query, dns.rcode.NOERROR)
    shuffled = random.sample(addresses, len(addresses))
    for rtype, version in ((dns.rdatatype.A, 4), (dns.rdatatype.AAAA, 6)):
        if question.rdtype in (rtype, dns.rdatatype.ANY):
            found = [address for address in shuffled if (":" in address) == (version == 6)]
            if found:
                response.answer.append(dns.rrset.from_text_list(question.name, TTL_S, "IN", rtype, found))
    return _wire(response, query, tcp=tcp)


def _pointer(query: dns.message.Message, sight: Sight, address: str, *, tcp: bool) -> bytes:
    full = sight.name_at(address)
    if full is None:
        if not sight.owns_address(address):
            raise Unknown(address)
        return _wire(_response(query, dns.rcode.NXDOMAIN), query, tcp=tcp)
    response = _response(query, dns.rcode.NOERROR)
    if query.question[0].rdtype in (dns.rdatatype.PTR, dns.rdatatype.ANY):
        response.answer.append(dns.rrset.from_text(query.question[0].name, TTL_S, "IN", "PTR", full))
    return _wire(response, query, tcp=tcp)


def from_control(query: dns.message.Message, answer: NameAnswer, *, tcp: bool) -> bytes:
    """Raises DNSException, ValueError for records that are none."""
    response = _response(query, dns.rcode.NOERROR if answer.found else dns.rcode.NXDOMAIN)
    for section, records in ((response.answer, answer.records), (response.additional, answer.additional)):
        for record in records:
            section.append(_rrset(record))
    return _wire(response, query, tcp=tcp)


def _rrset(record: Record) -> dns.rrset.RRset:
    name = record.name if record.name.endswith(".") else f"{record.name}."
    return dns.rrset.from_text(name, record.ttl, "IN", record.rtype, record.data)


def refusal(query: dns.message.Message, rcode: dns.rcode.Rcode) -> bytes:
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(rcode)
    return response.to_wire()


def _response(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AA
    response.set_rcode(rcode)
    return response


def _wire(response: dns.message.Message, query: dns.message.Message, *, tcp: bool) -> bytes:
    """A datagram that would be too long says so by its TC bit, and the client comes back by TCP."""
    if tcp:
        return response.to_wire(max_size=65_535)
    limit = min(max(query.payload, DATAGRAM_BYTES), DATAGRAM_BYTES_MAX) if query.edns >= 0 else DATAGRAM_BYTES
    return response.to_wire(max_size=limit, prefer_truncation=True)
