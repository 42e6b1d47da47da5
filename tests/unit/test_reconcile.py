"""The reconciler: whatever comes while a thing is worked on, or in the very moment in which that ends, is done."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nacre.node.reconcile import Reconciler
from nacre.node.runtimes.simulated import SimulatedGuests, SimulatedNetwork, SimulatedVolumes
from nacre.protocol.guests import Guest, ImageRef, InstanceData, Limits
from nacre.protocol.messages import Desired, Gone, Item, Observation
from nacre.protocol.volumes import Volume

IDENT = "0" * 32
MOMENTS = range(8)
"""After how many steps of the event loop from the observation on the next intent comes: before the work's end, in it and after it."""
PATIENCE_S = 10.0


def created() -> Guest:
    image = ImageRef(IDENT, "sha256:" + "0" * 64, 1, "raw", "docker")
    return Guest(IDENT, "simulated", 1, "stopped", 0, image, Limits(1, 64, 0), InstanceData("one", "one", "p", "n"))


async def story(first: Desired, then: Desired, moment: int, met: Callable[[Observation], bool]) -> None:
    """`then` comes `moment` steps after the first observation, and is met all the same."""
    loop, done, seen = asyncio.get_running_loop(), asyncio.Event(), list[Observation]()

    def after(steps: int) -> None:
        if steps:
            loop.call_soon(after, steps - 1)
        else:
            reconciler.take(then)

    def report(observation: Observation) -> None:
        seen.append(observation)
        if len(seen) == 1:
            after(moment)
        elif met(observation):
            done.set()

    reconciler = Reconciler(SimulatedGuests(), SimulatedNetwork(), SimulatedVolumes(), report)
    try:
        reconciler.take(first)
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
    finally:
        await reconciler.close()


def desired(revision: int, **item: Any) -> Desired:
    kind = next(iter(item))
    return Desired(revision, False, (Item(kind, IDENT, revision, **item),), ())  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_start_that_comes_as_the_creation_ends_is_not_lost(moment: int) -> None:
    start = msgspec.structs.replace(created(), generation=2, power="running", boots=1)
    asyncio.run(story(desired(1, guest=created()), desired(2, guest=start), moment, lambda seen: seen.state == "running"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_volume_that_is_to_go_as_it_is_made_goes(moment: int) -> None:
    volume = Volume(IDENT, "p", "one")
    gone = Desired(2, False, (), (Gone("volume", IDENT, 2),))
    asyncio.run(story(desired(1, volume=volume), gone, moment, lambda seen: seen.state == "gone"))


class Stubborn(SimulatedNetwork):
    """Cannot undo anything at first; what failed it tries again with each call, as drivers do."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.stuck: list[Gone] = []

    async def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        self.stuck += gone
        if self.stuck and self.failures:
            self.failures -= 1
            return [Observation(each.kind, each.id, "error", fault="not now") for each in self.stuck]
        done, self.stuck = self.stuck, []
        return await super().apply(items, done, full=full)


def test_a_network_that_could_not_be_undone_is_undone_later_though_nobody_asks() -> None:
    async def undone() -> list[str]:
        said: list[str] = []
        over = asyncio.Event()

        def report(observation: Observation) -> None:
            said.append(observation.state)
            if observation.state == "gone":
                over.set()

        reconciler = Reconciler(SimulatedGuests(), Stubborn(2), SimulatedVolumes(), report)
        try:
            reconciler.take(Desired(1, False, (), (Gone("network", IDENT, 1),)))
            async with asyncio.timeout(PATIENCE_S * 3):
                await over.wait()
        finally:
            await reconciler.close()
        return said

    assert asyncio.run(undone()) == ["error", "error", "gone"]
