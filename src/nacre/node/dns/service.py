"""The resolver's sockets and its conversation with guests (RFC 1035; over TCP RFC 7766).

The socket tells the network, so a question can only be answered with that network's names. What the host knows is answered at once;
what others must say waits as a task of its own, within limits for each guest.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from dataclasses import dataclass, field
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass

from nacre.node.dns.answering import Unknown, from_control, local, refusal
from nacre.node.dns.control import Ask, ControlPlane, concerns
from nacre.node.dns.limits import PENDING_MAX, Allowance
from nacre.node.dns.upstream import HostServers, Opener, ask, servers_for
from nacre.node.dns.zone import Sight, Zone, zone_of
from nacre.protocol.networks import Network, Port

DATAGRAMS_PER_WAKE_MAX = 32
"""How many questions are read before the loop turns to others."""
QUESTION_BYTES_MAX = 4_096
CONNECTIONS_MAX = 64
"""TCP connections of one network."""
IDLE_S = 10.0

log = logging.getLogger("nacre.node")


class Known(Protocol):
    """What the service asks of the network driver."""

    def names_of(self, network_id: str) -> tuple[Network, int, tuple[Port, ...]] | None:
        """The network, a number that changes with its ports, and its ports."""

    def port_at(self, network_id: str, address: str) -> Port | None: ...

    def ports_of(self, device_id: str) -> list[tuple[Port, Network]]:
        """The ports of a guest here, with their networks."""


@dataclass
class Listening:
    """One network that is served."""

    network_id: str
    datagrams: list[socket.socket]
    opener: Opener
    allowance: Allowance = field(default_factory=Allowance)
    servers: list[asyncio.Server] = field(default_factory=list)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    zone: Zone | None = None
    version: int = -1


class NameService:
    """One for the node. `known` is set by the network driver that it serves."""

    def __init__(self, ask_control: Ask | None = None, host_servers: HostServers | None = None) -> None:
        self.known: Known | None = None
        self._control = ControlPlane(ask_control)
        self._host = host_servers or HostServers()
        self._listening: dict[str, Listening] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def networks(self) -> set[str]:
        return set(self._listening)

    async def open_network(
        self, network_id: str, datagrams: list[socket.socket], listeners: list[socket.socket], opener: Opener
    ) -> None:
        """Serve on sockets that are open inside the network's namespace."""
        found = self._listening[network_id] = Listening(network_id, datagrams, opener)
        loop = asyncio.get_running_loop()
        for sock in datagrams:
            loop.add_reader(sock, self._read, found, sock)

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._converse(found, reader, writer)

        found.servers = [await asyncio.start_server(converse, sock=sock) for sock in listeners]

    async def close_network(self, network_id: str) -> None:
        found = self._listening.pop(network_id, None)
        if found is None:
            return
        loop = asyncio.get_running_loop()
        for sock in found.datagrams:
            loop.remove_reader(sock)
            sock.close()
        for server in found.servers:
            server.close()
        for writer in tuple(found.connections):
            writer.close()

    async def close(self) -> None:
        for network_id in list(self._listening):
            await self.close_network(network_id)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _read(self, found: Listening, sock: socket.socket) -> None:
        for _ in range(DATAGRAMS_PER_WAKE_MAX):
            try:
                wire, address = sock.recvfrom(QUESTION_BYTES_MAX)
            except OSError:
                return
            self._answer_datagram(found, sock, wire, address)

    def _answer_datagram(self, found: Listening, sock: socket.socket, wire: bytes, address: tuple[str, int]) -> None:
        def send(answer: bytes) -> None:
            with contextlib.suppress(OSError):
                sock.sendto(answer, address)

        query = self._parse(wire)
        if query is None:
            return
        try:
            send(self._at_once(found, query, address[0], tcp=False))
        except Unknown:
            asker = address[0]
            if len(self._tasks) >= PENDING_MAX or not (found.allowance.take(asker) and found.allowance.begin(asker)):
                send(refusal(query, dns.rcode.REFUSED))
                return

            async def later() -> None:
                try:
                    send(await self._elsewhere(found, query, wire, asker, tcp=False))
                finally:
                    found.allowance.end(asker)

            task = asyncio.get_running_loop().create_task(later())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _parse(self, wire: bytes) -> dns.message.Message | None:
        """None for what deserves no answer: no message, or a response."""
        try:
            query = dns.message.from_wire(wire, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError, IndexError, struct.error):
            return None
        return None if query.flags & dns.flags.QR else query

    def _zone(self, found: Listening) -> tuple[Network, Zone]:
        """Raises LookupError for a network that went meanwhile."""
        known = self.known.names_of(found.network_id) if self.known else None
        if known is None:
            raise LookupError(found.network_id)
        network, version, ports = known
        if found.zone is None or found.version != version:
            found.zone, found.version = zone_of(network, ports), version
        return network, found.zone

    def _sight(self, found: Listening, asker: str) -> Sight:
        """What the guest at that address sees: a guest of several networks finds the names of all. Raises LookupError."""
        _, zone = self._zone(found)
        port = self.known.port_at(found.network_id, asker) if self.known else None
        if self.known is None or port is None:
            return Sight(((zone, {}),))
        sight = [(zone, dict(port.links))]
        for other, network in self.known.ports_of(port.device_id) if port.device_id else ():
            listening = self._listening.get(network.id)
            if other.id != port.id and listening is not None:
                with contextlib.suppress(LookupError):
                    sight.append((self._zone(listening)[1], dict(other.links)))
        return Sight(tuple(sight))

    def _at_once(self, found: Listening, query: dns.message.Message, asker: str, *, tcp: bool) -> bytes:
        """Raises Unknown for what others must say."""
        if query.opcode() != dns.opcode.QUERY:
            return refusal(query, dns.rcode.NOTIMP)
        if len(query.question) != 1:
            return refusal(query, dns.rcode.FORMERR)
        if query.question[0].rdclass != dns.rdataclass.IN:
            return refusal(query, dns.rcode.REFUSED)
        try:
            sight = self._sight(found, asker)
        except LookupError:
            return refusal(query, dns.rcode.SERVFAIL)
        return local(query, sight, tcp=tcp)

    async def _elsewhere(self, found: Listening, query: dns.message.Message, wire: bytes, asker: str, *, tcp: bool) -> bytes:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        if concerns(name):
            port = self.known.port_at(found.network_id, asker) if self.known else None
            if port is None:
                return refusal(query, dns.rcode.REFUSED)
            try:
                return from_control(query, await self._control.lookup(port.id, name, question.rdtype.name), tcp=tcp)
            except (OSError, dns.exception.DNSException, ValueError) as error:
                log.debug("the control plane was asked for %s in vain: %s", name, error)
                return refusal(query, dns.rcode.SERVFAIL)
        try:
            network, _ = self._zone(found)
        except LookupError:
            return refusal(query, dns.rcode.SERVFAIL)
        answer = await ask(wire, servers_for(network, self._host.servers()), found.opener, tcp=tcp)
        return refusal(query, dns.rcode.SERVFAIL) if answer is None else answer

    async def _converse(self, found: Listening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: questions one after the other until it has been idle."""
        if len(found.connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        found.connections.add(writer)
        asker = (writer.get_extra_info("peername") or ("",))[0]
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                query = self._parse(wire)
                if query is None or not found.allowance.take(asker):
                    return
                try:
                    answer = self._at_once(found, query, asker, tcp=True)
                except Unknown:
                    answer = await self._elsewhere(found, query, wire, asker, tcp=True)
                async with asyncio.timeout(IDLE_S):
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        except (OSError, EOFError, TimeoutError):
            return
        finally:
            found.connections.discard(writer)
            writer.close()
