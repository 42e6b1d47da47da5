"""The sockets of the metadata service, of the way to the catalog and of the resolver, opened inside a network's namespace."""

import socket
from typing import Any

from nacre.node.network import names
from nacre.node.network.namespaces import inside

METADATA_PORT = 80
CATALOG_PORT = 8500
NAMES_PORT = 53
BACKLOG = 128
SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 2 * 1024 * 1024
FREEBIND_V4, FREEBIND_V6 = 15, 78
"""IP_FREEBIND and IPV6_FREEBIND: a network that is administratively down has no address to bind to yet."""


def listen(namespace: int, port: int) -> list[socket.socket]:
    """Listening sockets inside the namespace behind the descriptor. Runs in a thread that may enter namespaces."""
    with inside(namespace):
        scope = socket.if_nametoindex(names.BRIDGE)
        return [
            _listener(socket.AF_INET, socket.IPPROTO_IP, FREEBIND_V4, (names.METADATA_V4, port)),
            _listener(socket.AF_INET6, socket.IPPROTO_IPV6, FREEBIND_V6, (names.METADATA_V6, port, 0, scope)),
        ]


def listen_for_names(namespace: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """The resolver's sockets: for datagrams, and listening ones. Runs in a thread that may enter namespaces."""
    with inside(namespace):
        scope = socket.if_nametoindex(names.BRIDGE)
        four, six = (names.METADATA_V4, NAMES_PORT), (names.METADATA_V6, NAMES_PORT, 0, scope)
        v4: Family = (socket.AF_INET, socket.IPPROTO_IP, FREEBIND_V4)
        v6: Family = (socket.AF_INET6, socket.IPPROTO_IPV6, FREEBIND_V6)
        return (
            [_bound(socket.SOCK_DGRAM, *v4, four), _bound(socket.SOCK_DGRAM, *v6, six)],
            [_listener(*v4, four), _listener(*v6, six)],
        )


def open_inside(namespace: int, family: int, kind: int) -> socket.socket:
    """A fresh socket inside the namespace."""
    with inside(namespace):
        return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


Family = tuple[int, int, int]


def _bound(kind: int, family: int, level: int, freebind: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == socket.SOCK_DGRAM:
        # What all guests of the network may ask at once has room, while the loop is at something else.
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    sock.setsockopt(level, freebind, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    return sock


def _listener(family: int, level: int, freebind: int, address: tuple[Any, ...]) -> socket.socket:
    listener = _bound(socket.SOCK_STREAM, family, level, freebind, address)
    listener.listen(BACKLOG)
    return listener
