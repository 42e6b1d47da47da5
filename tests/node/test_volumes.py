"""A host's volumes: made, copied, limited, used and removed, over restarts and kills; and volume plugins, good, slow and dead."""

import asyncio
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nacre.node.config import NodeConfig
from nacre.node.drivers import VISIT, Attached
from nacre.node.upkeep import VolumeUpkeep
from nacre.node.volumes import HostVolumes, purge
from nacre.node.volumes.plugins import Plugins
from nacre.node.volumes.throttle import block_io
from nacre.protocol.messages import Desired, Gone, Item, Observation
from nacre.protocol.volumes import Volume, VolumeState
from tests.node.containers_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

POOL_BYTES = 512 << 20
TOO_SMALL = 1 << 20
"""No pool is made so small: volumes are directories then."""
KILLS = 8


@pytest.fixture
def config() -> Iterator[NodeConfig]:
    state = Path(f"/var/tmp/nacre-volumes-{uuid.uuid4().hex[:8]}")
    state.mkdir()
    made = NodeConfig("host-1", "cafe", str(state), "", 0)
    yield made
    asyncio.run(purge(made))
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
    assert str(state) not in subprocess.run(["losetup", "--list"], capture_output=True, text=True).stdout
    assert not list(state.iterdir()), "purge leaves nothing"
    state.rmdir()


def story(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs in a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def volume(name: str = "data", **changes: Any) -> Volume:
    return Volume(str(uuid.uuid4()), "p", name, **changes)


async def started(config: NodeConfig, pool_bytes: int = POOL_BYTES, plugins: Plugins | None = None) -> HostVolumes:
    driver = HostVolumes(config, plugins, pool_bytes)
    await driver.start()
    return driver


async def write(driver: HostVolumes, made: Volume, name: str, data: bytes) -> Path:
    path = (await driver.attach(made.id, "writer", 5)).path / name
    await asyncio.to_thread(path.write_bytes, data)
    return path


@story
async def test_a_volume_with_a_size_is_copied_at_one_moment_and_limits_who_writes(config: NodeConfig) -> None:
    driver = await started(config)
    first = volume(size_bytes=32 << 20)
    seen = await driver.apply(first)
    assert (seen.state, seen.volume) == ("active", VolumeState("btrfs", size_limited=True)), seen.fault
    path = await write(driver, first, "table", b"as it was")
    copy = volume("copy", source_id=first.id, size_bytes=8 << 20)
    assert (await driver.apply(copy)).state == "active"
    path.write_bytes(b"changed since")
    where = (await driver.attach(copy.id, "reader", 5)).path
    assert where.name == copy.id, "the id is in the path"
    assert (where / "table").read_bytes() == b"as it was"
    with pytest.raises(OSError, match="quota exceeded"):
        await write(driver, copy, "big", os.urandom(20 << 20))
    await write(driver, first, "big", os.urandom(20 << 20))
    assert 20 << 20 <= await driver.usage(first.id) < 32 << 20
    await driver.detach(first.id, "writer")
    assert (await driver.remove(first.id)).state == "gone"
    assert (where / "table").read_bytes() == b"as it was", "a copy outlives its source"


@story
async def test_where_there_is_no_btrfs_volumes_are_directories_and_say_so(config: NodeConfig) -> None:
    driver = await started(config, TOO_SMALL)
    first, copy = volume(size_bytes=8 << 20), volume("copy")
    seen = await driver.apply(first)
    assert seen.volume == VolumeState("directory")
    path = await write(driver, first, "table", b"as it was" * 1000)
    assert (await driver.apply(Volume(copy.id, "p", "copy", source_id=first.id))).state == "active"
    path.write_bytes(b"changed since")
    assert ((await driver.attach(copy.id, "reader", 5)).path / "table").read_bytes() == b"as it was" * 1000
    assert await driver.usage(copy.id) >= 9000


@story
async def test_who_uses_a_volume_is_known_after_a_restart_and_keeps_it(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nacre.node.volumes.driver.USERS_WAIT_S", 0.2)
    first = volume()
    driver = await started(config)
    await driver.apply(first)
    await write(driver, first, "x", b"kept")
    await driver.attach(first.id, f"somebody{VISIT}1", 5)
    again = await started(config)
    users = config.state / "volumes" / "references" / first.id
    await eventually(lambda: [user.name for user in users.iterdir()] == ["writer"], "who looked into it ended with the node")
    refused = await again.remove(first.id)
    assert (refused.state, refused.fault) == ("error", "it is still used by writer")
    with pytest.raises(LookupError):
        await again.attach(str(uuid.uuid4()), "guest", 0.1)
    removal = asyncio.create_task(again.remove(first.id))
    await again.detach(first.id, "writer")
    await again.detach(first.id, "writer")
    assert (await removal).state == "gone"
    with pytest.raises(LookupError):
        await again.attach(first.id, "guest", 0.1)
    assert (await again.remove(first.id)).state == "gone"
    assert await again.survey() == []


@story
async def test_a_guest_that_makes_subvolumes_of_its_own_does_not_keep_its_volume(config: NodeConfig) -> None:
    driver = await started(config)
    first = volume()
    await driver.apply(first)
    path = (await driver.attach(first.id, "guest", 5)).path
    for words in (f"create {path}/a", f"create {path}/a/b", f"snapshot -r {path}/a/b {path}/a/c"):
        await asyncio.to_thread(subprocess.run, ["btrfs", "--quiet", "subvolume", *words.split()], check=True)
    await driver.detach(first.id, "guest")
    assert (await driver.remove(first.id)).state == "gone"


@story
async def test_a_full_disk_is_a_fault_with_words(config: NodeConfig) -> None:
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", config.state], check=True)
    try:
        driver = await started(config)
        seen = await driver.apply(volume())
        assert seen.state == "error"
        assert "MiB left" in seen.fault
        with pytest.raises(OSError, match="MiB left"):
            await driver.attach(seen.id, "guest", 5)
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-R", config.state], check=True)


@story
async def test_desired_volumes_are_made_before_their_copies_and_strangers_go(config: NodeConfig) -> None:
    driver = await started(config)
    stranger, first = volume("stranger"), volume()
    copy = volume("copy", source_id=first.id)
    await driver.apply(stranger)
    seen: dict[str, Observation] = {}
    upkeep = VolumeUpkeep(driver, lambda observation: seen.update({observation.id: observation}))
    items = tuple(Item("volume", one.id, 1, volume=one) for one in (copy, first))
    upkeep.take(Desired(1, True, items))
    await eventually(lambda: {seen[one.id].state for one in (first, copy) if one.id in seen} == {"active"}, "both made")
    await eventually(lambda: stranger.id in seen and seen[stranger.id].state == "gone", "the stranger gone")
    upkeep.take(Desired(2, False, (), (Gone("volume", first.id, 2), Gone("volume", copy.id, 2))))
    await eventually(lambda: {one.state for one in seen.values()} == {"gone"}, "all gone")
    assert await driver.survey() == []
    await upkeep.close()


CHILD = """
import asyncio, sys, uuid
from nacre.node.config import NodeConfig
from nacre.node.volumes import HostVolumes
from nacre.protocol.volumes import Volume

async def main():
    driver = HostVolumes(NodeConfig("host-1", "cafe", sys.argv[1], "", 0), pool_bytes=int(sys.argv[2]))
    await driver.start()
    print("started", flush=True)
    while True:
        first, copy = str(uuid.uuid4()), str(uuid.uuid4())
        await driver.apply(Volume(first, "p", "first", size_bytes=8 << 20))
        await driver.attach(first, "guest", 1)
        await driver.apply(Volume(copy, "p", "copy", source_id=first))
        print("copied", flush=True)
        await driver.detach(first, "guest")
        await driver.remove(first)

asyncio.run(main())
"""


@story
async def test_a_record_that_a_kill_left_half_written_is_taken_away(config: NodeConfig) -> None:
    records = config.state / "volumes" / "records"
    records.mkdir(parents=True)
    (records / f"{volume().id}.json.new").write_bytes(b'{"volume": {"id"')
    assert await (await started(config, TOO_SMALL)).survey() == []


@pytest.mark.parametrize("pool_bytes", [POOL_BYTES, TOO_SMALL], ids=["btrfs", "directory"])
@story
async def test_killed_at_any_point_it_goes_on_and_everything_can_be_removed(config: NodeConfig, pool_bytes: int) -> None:
    dice = random.Random(7)
    for number in range(KILLS):
        arguments = (sys.executable, "-c", CHILD, config.state_dir, str(pool_bytes))
        child = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
        assert child.stdout is not None
        # The first one comes so far that there is a copy, however slow the machine is; the others are killed anywhere.
        while number == 0 and await child.stdout.readline() != b"copied\n":
            pass
        if dice.random() < 0.8:
            await child.stdout.readline()
        await asyncio.sleep(dice.random() * 0.15)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    driver = await started(config, pool_bytes)
    found = {holding.id for holding in await driver.survey()}
    assert found, "something was made between the kills"
    for ident in found:
        await driver.detach(ident, "guest")
        assert (await driver.remove(ident)).state == "gone"
    assert await driver.survey() == []


def test_the_rates_of_several_volumes_on_one_device_add_up() -> None:
    def attached(**rates: int) -> Attached:
        return Attached(volume(**rates), Path("/x"), "7:3")

    gold, bronze = attached(read_iops=100, write_bytes_s=1000), attached(read_iops=5, write_bytes_s=50)
    assert block_io([gold, bronze, bronze]) == {
        "throttleReadIOPSDevice": [{"major": 7, "minor": 3, "rate": 105}],
        "throttleWriteBpsDevice": [{"major": 7, "minor": 3, "rate": 1050}],
    }
    assert block_io([gold, attached()]) == {}, "one without limits lifts them"
    assert block_io([]) == {}


class Plugin:
    """A volume plugin on a unix socket, as Docker's documentation describes it. It notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, list[tuple[str, Any]]()
        self.volumes: dict[str, set[str]] = {}
        self.implements, self.wrong, self.slow_s = ["VolumeDriver"], "", 0.0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        method = request.path.removeprefix("/")
        self.calls.append((method, body))
        assert request.headers["Host"] == "plugin.moby.localhost"
        if method == "Plugin.Activate":
            return web.json_response({"Implements": self.implements})
        await asyncio.sleep(self.slow_s)
        if self.wrong:
            return web.json_response({"Err": self.wrong})
        name = body.get("Name", "")
        path = self.folder / name
        match method.removeprefix("VolumeDriver."):
            case "Create":
                path.mkdir(parents=True, exist_ok=True)
                self.volumes.setdefault(name, set())
            case "Mount":
                self.volumes[name].add(body["ID"])
                return web.json_response({"Mountpoint": str(path), "Err": ""})
            case "Unmount":
                self.volumes[name].discard(body["ID"])
            case "Remove":
                shutil.rmtree(path)
                del self.volumes[name]
            case "List":
                return web.json_response({"Volumes": [{"Name": name} for name in self.volumes]})
        return web.json_response({})

    @asynccontextmanager
    async def served(self, socket: Path) -> AsyncIterator["Plugin"]:
        app = web.Application()
        app.router.add_post("/{method}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        socket.parent.mkdir(parents=True, exist_ok=True)
        await web.UnixSite(runner, str(socket)).start()
        yield self
        await runner.cleanup()


def plugins_in(folder: Path, **limits: float) -> Plugins:
    return Plugins(folder / "run", (folder / "etc",), **{"timeout_s": 5.0, "long_timeout_s": 5.0, "retry_for_s": 0.5, **limits})


@story
async def test_a_plugin_on_the_host_bears_volumes(config: NodeConfig, tmp_path: Path) -> None:
    plugins = plugins_in(tmp_path)
    driver = await started(config, TOO_SMALL, plugins)
    async with Plugin(tmp_path / "data").served(tmp_path / "run" / "rexray.sock") as plugin:
        assert driver.facts() == {"volume_drivers": ["local", "rexray"]}
        first = volume("db.1", driver="rexray", options={"iops": "7"})
        assert (await driver.apply(first)).volume == VolumeState("plugin")
        assert plugin.calls == [("Plugin.Activate", {}), ("VolumeDriver.Create", {"Name": "db.1", "Opts": {"iops": "7"}})]
        attached = await driver.attach(first.id, "guest", 5)
        assert attached.path == tmp_path / "data" / "db.1"
        again = await started(config, TOO_SMALL, plugins)
        assert (await again.apply(first)).state == "active"
        await again.detach(first.id, "guest")
        assert plugin.volumes == {"db.1": set()}
        assert (await again.remove(first.id)).state == "gone"
        assert plugin.volumes == {}
        assert await again.survey() == []


@story
async def test_a_plugin_that_is_wrong_slow_or_dead_is_a_fault_with_words(config: NodeConfig, tmp_path: Path) -> None:
    driver = await started(config, TOO_SMALL, plugins_in(tmp_path, timeout_s=0.5, long_timeout_s=0.5))

    async def fault(name: str) -> str:
        return (await driver.apply(volume(driver=name))).fault

    assert await fault("nobody") == "error looking up volume plugin nobody: plugin 'nobody' not found on this host"
    assert "is not the name of a volume plugin" in await fault("../etc")
    async with Plugin(tmp_path / "data").served(tmp_path / "run" / "odd" / "odd.sock") as plugin:
        plugin.wrong = "no space on the array"
        assert await fault("odd") == "VolumeDriver.Create: no space on the array (volume plugin odd)"
        plugin.wrong, plugin.slow_s = "", 30.0
        assert await fault("odd") == "volume plugin odd did not answer to VolumeDriver.Create within 0.5 s"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "dead.spec").write_text(f"unix://{tmp_path}/nothing.sock\n")
    assert "volume plugin dead cannot be reached" in await fault("dead")
    (tmp_path / "etc" / "bad.json").write_text('{"Name": "bad"}')
    assert "does not say where the plugin listens" in await fault("bad")
    async with Plugin(tmp_path / "data").served(tmp_path / "other.sock") as plugin:
        plugin.implements = ["NetworkDriver"]
        (tmp_path / "etc" / "net.json").write_text(f'{{"Name": "net", "Addr": "unix://{tmp_path}/other.sock"}}')
        assert "does not implement VolumeDriver" in await fault("net")
    # A guest is not kept from its end by a plugin that died.
    async with Plugin(tmp_path / "data").served(tmp_path / "run" / "mortal.sock"):
        first = volume("mortal", driver="mortal")
        await driver.apply(first)
        await driver.attach(first.id, "guest", 5)
    await driver.detach(first.id, "guest")
    assert "cannot be reached" in (await driver.remove(first.id)).fault
