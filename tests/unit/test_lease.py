"""The node's lease: from when it sent what was answered, by its own clock; who was cut off speaks only after the node knows what is its own."""

import asyncio
from typing import Any

import pytest

from nacre.node import lease as leases
from nacre.node.lease import HELLO, MARGIN_S, Lease
from nacre.protocol.guests import Guest, ImageRef, InstanceData, Limits
from nacre.protocol.messages import Desired, Gone, Item

LEASE_S = 15.0
LAST_S = LEASE_S - MARGIN_S


class Fences:
    """A network driver as far as a lease needs one, and a clock."""

    def __init__(self) -> None:
        self.said: list[tuple[frozenset[str], float]] = []
        self.cut: frozenset[str] = frozenset()
        self.now_s = 1000.0

    async def fence(self, port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()) -> None:
        self.said.append((port_ids, until_s))
        self.cut = cut

    def take(self) -> list[tuple[frozenset[str], float]]:
        said, self.said = self.said, []
        return said


@pytest.fixture
def fences(monkeypatch: pytest.MonkeyPatch) -> Fences:
    fences = Fences()
    monkeypatch.setattr(leases, "boottime_s", lambda: fences.now_s)
    return fences


def desired(*guests: Item, full: bool = False, gone: tuple[str, ...] = ()) -> Desired:
    return Desired(1, full, guests, tuple(Gone("guest", ident, 1) for ident in gone))


def guest(ident: str, *ports: str, fenced: bool = True) -> Item:
    image, data = ImageRef("i", "sha256:0", 1, "raw", "docker"), InstanceData("n", "h", "p", "z")
    spec = Guest(ident, "container", 1, "running", 1, image, Limits(1, 1, 1), data, ports=ports, fenced=fenced)
    return Item("guest", ident, 1, guest=spec)


def run(story: Any) -> None:
    asyncio.run(story)


def test_only_fenced_guests_are_fenced_and_each_answered_beat_prolongs_it(fences: Fences) -> None:
    async def story() -> None:
        lease = Lease(fences)  # type: ignore[arg-type]
        lease.sent(HELLO)
        fences.now_s += 2.0
        lease.begin(LEASE_S)
        assert fences.take() == [], "nothing is known yet of what is wanted here"
        await lease.learn(desired(guest("a", "p1", "p2"), guest("b", "p3", fenced=False), full=True))
        assert fences.take() == [(frozenset({"p1", "p2"}), 1000.0 + LAST_S)], "from when the Hello was sent"
        lease.sent(1)
        fences.now_s += 3.0
        lease.sent(2)
        await lease.renew(1)
        assert fences.take() == [(frozenset({"p1", "p2"}), 1002.0 + LAST_S)]
        await lease.renew(1)
        assert fences.take() == [], "an answer counts once"
        await lease.learn(desired(guest("a", "p1"), gone=("b",)))
        assert fences.take() == [(frozenset({"p1"}), 1002.0 + LAST_S)]
        await lease.learn(desired(gone=("a",)))
        assert fences.take() == [(frozenset(), 1002.0 + LAST_S)]

    run(story())


def test_a_lease_that_was_out_gives_nobody_back_before_it_is_known_who_is_still_here(fences: Fences) -> None:
    async def story() -> None:
        lease = Lease(fences)  # type: ignore[arg-type]
        lease.sent(HELLO)
        lease.begin(LEASE_S)
        await lease.learn(desired(guest("a", "p1"), guest("b", "p2"), full=True))
        fences.take()
        fences.now_s += LEASE_S
        lease.sent(1)
        await lease.renew(1)
        assert fences.take() == []
        await lease.learn(desired(gone=("a",)))
        assert fences.take() == [(frozenset({"p2"}), fences.now_s + LAST_S)], "the stale one stays cut off"
        assert fences.cut == {"p1"}
        fences.now_s += LEASE_S
        lease.sent(HELLO)
        lease.begin(LEASE_S)
        assert fences.take() == []
        await lease.learn(desired())
        assert fences.take() == [(frozenset({"p2"}), fences.now_s + LAST_S)]

    run(story())


def test_an_api_that_knows_no_leases_fences_nobody(fences: Fences) -> None:
    async def story() -> None:
        lease = Lease(fences)  # type: ignore[arg-type]
        lease.sent(HELLO)
        lease.begin(0.0)
        await lease.learn(desired(guest("a", "p1"), full=True))
        lease.sent(1)
        await lease.renew(1)
        assert fences.take() == []

    run(story())
