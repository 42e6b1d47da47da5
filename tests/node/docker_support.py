"""A room for containers of Docker's pane: guests with a process of their own, volumes that are plain folders."""

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from nacre.node.drivers import Attached
from nacre.node.images import ImageCache
from nacre.node.runtimes.containers import ContainerDriver
from nacre.protocol.containers import Container
from nacre.protocol.guests import Guest
from nacre.protocol.messages import Holding, Observation
from nacre.protocol.volumes import Volume
from tests.node.containers_support import Room, eventually
from tests.node.test_containers import tell


class Folders:
    """A VolumeDriver whose volumes are folders, and which notes who uses them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.users: set[tuple[str, str]] = set()

    async def start(self) -> None: ...

    async def apply(self, volume: Volume) -> Observation:
        (self.root / volume.id).mkdir(parents=True, exist_ok=True)
        return Observation("volume", volume.id, "active")

    async def remove(self, volume_id: str) -> Observation:
        return Observation("volume", volume_id, "gone")

    async def attach(self, volume_id: str, guest_id: str, timeout_s: float) -> Attached:
        path = self.root / volume_id
        if not path.is_dir():
            raise LookupError(f"get {volume_id}: no such volume")
        self.users.add((volume_id, guest_id))
        return Attached(Volume(volume_id, "p", volume_id), path)

    async def detach(self, volume_id: str, guest_id: str) -> None:
        self.users.discard((volume_id, guest_id))

    async def usage(self, volume_id: str) -> int:
        return 0

    async def survey(self) -> list[Holding]:
        return []

    async def close(self) -> None: ...


class DockerRoom(Room):
    """A room whose guests are containers."""

    volumes_at = Path()

    def __init__(self, state: Path, cloud_id: str) -> None:
        self.folders = Folders(self.volumes_at)
        super().__init__(state, cloud_id)

    def new_driver(self) -> ContainerDriver:
        return ContainerDriver(self.config, self.wires, ImageCache(self.config.state, self.source), self.folders)

    async def volume(self) -> str:
        volume_id = str(uuid.uuid4())
        await self.folders.apply(Volume(volume_id, "p", volume_id))
        return volume_id

    def container(self, *argv: str, changes: dict[str, Any] | None = None, **config: Any) -> Guest:
        """A guest that is to run this process."""
        return self.guest(container=Container(argv, **config), **(changes or {}))

    def sh(self, script: str, **config: Any) -> Guest:
        return self.container("sh", "-c", script, **config)

    async def ends(self, guest: Guest, boots: int = 1) -> Observation:
        """Start it, and wait until it has ended."""
        seen = await self.driver.apply(guest)
        if seen.state in ("error", "stopped"):
            return seen
        found = await eventually(
            lambda: [seen for seen in self.seen if (seen.id, seen.state, seen.boots) == (guest.id, "stopped", boots)], "its end"
        )
        return found[-1]

    async def says(self, guest: Guest) -> str:
        """Start it, wait for its end, and take what it said."""
        seen = await self.ends(guest)
        assert (seen.state, seen.fault) == ("stopped", ""), seen
        return (await self.driver.console(guest.id)).decode()


def docker(story: Callable[[Any], Coroutine[Any, Any, None]], kind: type[DockerRoom] = DockerRoom) -> None:
    """Run a story in such a room; afterwards nothing may be left on the machine."""
    with tempfile.TemporaryDirectory(prefix="nacre-volumes-") as folder:
        tell(story, type("Here", (kind,), {"volumes_at": Path(folder)}))  # type: ignore[arg-type]


def again(guest: Guest, **changes: Any) -> Guest:
    """The guest's next intent."""
    return msgspec.structs.replace(guest, **{"generation": guest.generation + 1, **changes})


def changed(guest: Guest, **config: Any) -> Guest:
    """The guest with another configuration."""
    assert guest.container is not None
    return again(guest, container=msgspec.structs.replace(guest.container, **config))


async def nothing_for(seconds: float) -> None:
    """Give what must not happen the time to happen."""
    await asyncio.sleep(seconds)
