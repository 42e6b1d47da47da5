"""What the node must know of a guest after any crash: one JSON file per guest, replaced by a rename.

The record says what was asked for and how far it got; whether the guest runs is always looked up in the kernel.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from nacre.node.drivers import Plugged
from nacre.node.runtimes.containers.layout import GuestPaths, Layout, is_guest_id
from nacre.node.runtimes.containers.slots import write_whole
from nacre.protocol.guests import Guest

Phase = Literal["building", "stopped", "created", "starting", "running", "stopping", "freezing", "checkpointed", "thawing"]
"""building: folders and mounts are being made; created: the container waits to be started, and need not be there after a crash;
starting: conmon and crun are at work, whatever they left is cleared away before the next try;
running: the container was started, and runs still unless its exit is found;
stopping: it was told to end, so its end is no surprise, and the next node finishes it;
freezing: CRIU writes it down: then it is `checkpointed`, or it could not, and it runs on;
checkpointed: all that it was lies in its folder, nothing runs;
thawing: CRIU brings it back, it runs as soon as its pid is written down."""


class Seat(Struct, frozen=True):
    """Where a guest lives: its slot, and the slot whose user namespace and ids it has (its own, unless it shares another's)."""

    slot: int
    home: int


class Record(Struct, omit_defaults=True):
    """What was asked for, how far it got, and what was seen of it."""

    guest: Guest
    """The intent that was last applied."""
    slot: int
    home: int | None = None
    """The slot of the guest whose namespaces it shares: its files bear the ids of that one for good."""
    phase: Phase = "building"
    met: int = 0
    """The generation that was met last."""
    boots: int = 0
    boot_id: str = ""
    """The host's boot in which the container was started."""
    plugged: tuple[Plugged, ...] = ()
    ended: bool = False
    """The guest's first process ended without being asked to; only a newer intent starts it again."""
    exit_code: int | None = None
    last_exit_code: int | None = None
    """Of the end before this run."""
    fault: str = ""
    failed: bool = False
    """The last start failed, and is not tried again before somebody asks for it."""
    started_at: float | None = None
    finished_at: float | None = None
    oom_killed: bool = False
    restarting: bool = False
    """The restart policy will start it again, or is at it."""
    halted: bool = False
    """It was killed on demand: the restart policy leaves it alone until the next start."""
    restart_count: int = 0
    restart_pause_s: float = 0.0
    health: str = ""
    failing_streak: int = 0
    password_hash: str = ""
    """Root's password that its own system has by us."""
    injected: bool = False
    """The files of its maker are in its root file system."""
    restored: bool = False
    """It runs on from a checkpoint, and has not been started since."""
    fetched: str = ""
    """The migration under which its disk came here from another host."""
    attached: tuple[str, ...] = ()
    """The volumes that are held for it."""

    @property
    def seat(self) -> Seat:
        return Seat(self.slot, self.slot if self.home is None else self.home)

    @property
    def slots(self) -> set[int]:
        return {self.seat.slot, self.seat.home}


def load(paths: GuestPaths) -> Record | None:
    """None when the guest has no record: it was never made, or removed all but its folder."""
    try:
        return msgspec.json.decode(paths.record.read_bytes(), type=Record)
    except FileNotFoundError:
        return None


def save(paths: GuestPaths, record: Record) -> None:
    write_whole(paths.record, msgspec.json.encode(record))


def load_all(layout: Layout) -> dict[str, Record]:
    found = {}
    for guest_id in layout.guest_ids():
        record = load(layout.guest(guest_id))
        if record is not None and is_guest_id(record.guest.id):
            found[guest_id] = record
    return found
