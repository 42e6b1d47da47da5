"""What a host's lease keeps: the outside of routers that are ha, and nothing of one that is about to go."""

import asyncio

from nacre.node import lease as leases
from nacre.node.runtimes.simulated import SimulatedNetwork
from nacre.protocol.messages import Desired, Gone, Item
from nacre.protocol.networks import Router, RouterGateway


class Network(SimulatedNetwork):
    """Remembers what it was told last."""

    told: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    async def fence(self, port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()) -> None:
        self.told = (port_ids, cut)


def item(ident: str, *, ha: bool) -> Item:
    gateway = RouterGateway(f"port-of-{ident}", "public", "fa:16:3e:00:00:01", ("198.51.100.5/24",))
    return Item("router", ident, 1, router=Router(ident, gateway=gateway, ha=ha))


def test_what_may_be_moved_is_fenced_and_what_was_moved_is_cut() -> None:
    async def story() -> None:
        network = Network()
        lease = leases.Lease(network)
        lease.sent(leases.HELLO)
        lease.begin(15.0)
        await lease.learn(Desired(1, True, (item("one", ha=True), item("two", ha=False), item("three", ha=True))))
        assert network.told == ({"port-of-one", "port-of-three"}, frozenset())
        await lease.learn(Desired(2, False, (), (Gone("router", "one", 2),)))
        assert network.told == ({"port-of-three"}, {"port-of-one"})
        await lease.learn(Desired(2, False, ()))
        assert network.told == ({"port-of-three"}, {"port-of-one"}), "until it is gone, whatever else comes"
        # A full answer that does not list what was there says the same as Gone.
        await lease.learn(Desired(3, True, (item("two", ha=False),)))
        assert network.told == (frozenset(), {"port-of-one", "port-of-three"})
        await lease.learn(Desired(4, False, (item("one", ha=True), item("three", ha=False))))
        assert network.told == ({"port-of-one"}, frozenset()), "what comes back is heard again, ha or not"

    asyncio.run(story())
