"""This host's lease, as the node measures it: from when it sent what the API has answered, by a clock that nobody sets.

While it is out, guests that may be made anew elsewhere are cut off from their networks. They get them back when the lease has been renewed and
the node has heard, after that, that they are still its own. The bound that makes this safe is in docs/decisions/0030.
"""

import asyncio
import logging
import time

from nacre.node.drivers import NetworkDriver
from nacre.protocol.messages import Desired, Item

HELLO = 0
"""The counter of the Hello, which renews the lease as beats do, which count from 1."""
MARGIN_S = 1.0
"""The node gives its lease up so much sooner than the API takes it for out: what is set in the kernel takes its time."""
LOOK_EVERY_S = 0.5
LEAVING_MAX = 1000
"""Things that went are remembered as such: many more than are ever on their way at once."""
SENT_MAX = 64
"""Beats without an answer that are remembered."""

log = logging.getLogger("nacre.node")


def boottime_s() -> float:
    """Seconds since the machine's boot, those that it slept included (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _fenced_ports(item: Item) -> tuple[str, ...]:
    """The ports by which a thing that may have been made anew on another host would be heard."""
    if item.guest is not None and item.guest.fenced:
        return item.guest.ports
    if item.router is not None and item.router.ha and item.router.gateway is not None:
        return (item.router.gateway.port_id,)
    return ()


class Lease:
    """Belongs to the agent's loop."""

    def __init__(self, network: NetworkDriver) -> None:
        self._network = network
        self._lease_s = 0.0
        self._sent_s: dict[int, float] = {}
        self._until_s = 0.0
        self._ports: dict[str, tuple[str, ...]] = {}
        """Guest id -> its ports, of those that are fenced; of a router that is ha the port of its gateway."""
        self._leaving: dict[str, tuple[str, ...]] = {}
        """The same of what was fenced and is to go: it must not speak once more before it is gone."""
        self._is_out = True
        """It was out, or is, and the node has not heard since what is its own."""

    def sent(self, counter: int) -> None:
        """A beat (or the Hello) is about to be sent."""
        if counter == HELLO:
            self._sent_s.clear()
        self._sent_s[counter] = boottime_s()
        if len(self._sent_s) > SENT_MAX:
            del self._sent_s[min(self._sent_s)]

    def begin(self, lease_s: float, *, renewed: bool = True) -> None:
        """The API has answered the Hello, which has `renewed` the lease. What is fenced speaks again as soon as it is known what is wanted
        here."""
        self._lease_s = lease_s
        if renewed:
            self._note(HELLO)

    async def renew(self, counter: int) -> None:
        if self._note(counter) and self._ports and not self._is_out:
            await self._network.fence(self._fenced(), self._until_s, self._cut())

    def _note(self, counter: int) -> bool:
        """Whether the lease lasts longer by that beat."""
        sent_s = self._sent_s.get(counter)
        if sent_s is None or not self._lease_s:
            return False
        if self._until_s < boottime_s():
            self._is_out = True
        self._sent_s = {other: at_s for other, at_s in self._sent_s.items() if other > counter}
        self._until_s = max(self._until_s, sent_s + self._lease_s - MARGIN_S)
        return True

    async def learn(self, desired: Desired) -> None:
        """What is desired here, before any of it is made so: an API process that says so holds the lease for running."""
        before, cut_before = dict(self._ports), self._cut()
        if desired.full:
            self._ports.clear()
        for item in desired.items:
            self._ports.pop(item.id, None)
            self._leaving.pop(item.id, None)
            if ports := _fenced_ports(item):
                self._ports[item.id] = ports
        leaving = {gone.id for gone in desired.gone} | (
            (before.keys() - {item.id for item in desired.items}) if desired.full else set()
        )
        for thing_id in leaving & before.keys():
            self._ports.pop(thing_id, None)
            self._leaving[thing_id] = before[thing_id]
        while len(self._leaving) > LEAVING_MAX:
            del self._leaving[next(iter(self._leaving))]
        was_out, self._is_out = self._is_out, self._until_s < boottime_s()
        if self._lease_s and ((before, cut_before) != (self._ports, self._cut()) or (was_out and self._ports)):
            await self._network.fence(self._fenced(), self._until_s, self._cut())

    def _fenced(self) -> frozenset[str]:
        return frozenset(port_id for ports in self._ports.values() for port_id in ports)

    def _cut(self) -> frozenset[str]:
        return frozenset(port_id for ports in self._leaving.values() for port_id in ports)

    async def watch(self) -> None:
        """The kernel cuts by itself when the time is up. It does not count the time that the machine sleeps, which this does."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._lease_s and not self._is_out and self._until_s < boottime_s():
                self._is_out = True
                if self._ports:
                    log.warning(
                        "this host's lease is out: %d guests and routers are cut off from their networks", len(self._ports)
                    )
                    await self._network.fence(self._fenced(), 0.0, self._cut())
