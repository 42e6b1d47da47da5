"""What is on the host of a guest or of all of them, by looking at the kernel and the disk, and how to leave nothing."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nacre.node.config import NodeConfig
from nacre.node.runtimes.containers import bundle, kernel
from nacre.node.runtimes.containers.cgroups import MONITORS, Cgroups
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.launcher import Launcher
from nacre.node.runtimes.containers.layout import SCRATCH_ID, Layout
from nacre.node.runtimes.containers.slots import Slots
from nacre.protocol.messages import Holding

PURGE_TRIES_MAX = 50
PURGE_PAUSE_S = 0.05


def look(containers: Containers, used: Mapping[int, str]) -> list[Holding]:
    """Everything that belongs to guests. `used` says whose a slot is; slots that wait in the pool are nobody's."""
    containers.trash.settle()
    return [holding for holding in _look(containers, used) if holding.id != SCRATCH_ID]


def _look(containers: Containers, used: Mapping[int, str]) -> Iterator[Holding]:
    layout = containers.layout
    for entry in kernel.mounts():
        path = Path(entry.target)
        if path.is_relative_to(layout.guests) and path != layout.guests:
            yield _holding(path.relative_to(layout.guests).parts[0], "mount", entry.target)
        elif path.is_relative_to(layout.slots) and path != layout.slots:
            slot = int(path.relative_to(layout.slots).parts[0])
            if slot in used or not containers.slots.is_pooled(slot):
                yield _holding(used.get(slot, f"slot-{slot}"), "namespace", entry.target)
    for name in sorted(containers.cgroups.names() - {MONITORS}):
        for path in containers.cgroups.paths(name):
            yield _holding(name, "cgroup", str(path))
        for pid in containers.cgroups.processes(name):
            yield _holding(name, "process", str(pid))
    for pid, guest_id in containers.runtime_processes():
        yield _holding(guest_id, "process", str(pid))
    for folder in (layout.guests, layout.crun_root):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path not in (layout.busybox, layout.trash):
                yield _holding(path.name, "file", str(path))
    for guest_id, path in containers.trash.left():
        yield _holding(guest_id, "file", str(path))


def _holding(guest_id: str, what: str, name: str) -> Holding:
    return Holding("guest", guest_id, what, name)


async def purge(config: NodeConfig) -> None:
    """Leave nothing of this cloud's guests: in the kernel and on the disk. The node must be down. Raises OSError."""
    await asyncio.to_thread(_purge, config)


def _purge(config: NodeConfig) -> None:
    layout = Layout(config)
    cut_power(config)
    for folder in (layout.guests, layout.slots, layout.state / "images"):
        shutil.rmtree(folder, ignore_errors=not folder.exists())
    layout.ids.unlink(missing_ok=True)


def cut_power(config: NodeConfig) -> None:
    """Leave nothing of this cloud's guests in the kernel: all their processes end at once. Their disks stay. Blocks; the node must be down.
    Raises OSError."""
    layout = Layout(config)
    cgroups = Cgroups(layout.cgroup)
    with contextlib.suppress(OSError):  # No cgroups on this host: no guests either.
        cgroups.detect()
    containers = Containers(layout, cgroups, Slots(layout), Launcher(layout, "", ""), bundle.Host("", 0, False, False))
    for _ in range(PURGE_TRIES_MAX):
        processes = containers.runtime_processes()
        for pid, _guest_id in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not processes:
            break
        time.sleep(PURGE_PAUSE_S)
    cgroups.remove_all()
    containers.slots.purge()
    roots = (layout.guests, layout.slots, layout.run)
    for entry in reversed(kernel.mounts()):
        if any(Path(entry.target).is_relative_to(root) for root in roots):
            kernel.unmount_all(Path(entry.target))
    shutil.rmtree(layout.run, ignore_errors=not layout.run.exists())
