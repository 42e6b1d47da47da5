"""A node's container driver as a process of its own that dies in the middle of a removal: `removal_worker.py STATE CLOUD_ID GUEST_ID STEP`.

Makes the guest, with a port, then removes it and kills itself right after the named step.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacre.node.runtimes.containers.bindings import Bindings
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.slots import Slots
from nacre.node.runtimes.containers.trash import Trash
from tests.node.containers_support import Room

STEPS: dict[str, tuple[type, str]] = {
    "parted": (Bindings, "unplug"),
    "cleared": (Containers, "clear"),
    "unmounted": (Containers, "unmount"),
    "slot-destroyed": (Slots, "destroy"),
    "unmade": (Containers, "unmake"),
    "let-go": (Bindings, "let_go"),
    "renamed": (Trash, "take"),
}
"""step -> the method after which the process dies, in the order of a removal."""


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _then_die(method: Callable[..., Any]) -> Callable[..., Any]:
    if asyncio.iscoroutinefunction(method):

        async def awaited(*arguments: Any, **named: Any) -> None:
            await method(*arguments, **named)
            _die()

        return awaited

    def called(*arguments: Any, **named: Any) -> None:
        method(*arguments, **named)
        _die()

    return called


async def work(state: Path, cloud_id: str, guest_id: str, step: str) -> None:
    room = Room(state, cloud_id)
    await room.start()
    seen = await room.driver.apply(room.guest(id=guest_id, ports=("port-1",)))
    assert seen.state == "running", seen.fault
    owner, name = STEPS[step]
    setattr(owner, name, _then_die(getattr(owner, name)))
    # The files of the guest are still there when it dies after the rename: whoever deletes them has not begun.
    Trash._submit = lambda *_: None  # type: ignore[method-assign]
    print("up", flush=True)
    await room.driver.remove(guest_id)
    raise AssertionError(f"the removal has no step {step}")


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), *sys.argv[2:]))
