"""A busybox image, a driver and guests for the tests of real containers."""

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from nacre.node.config import NodeConfig
from nacre.node.drivers import Plugged
from nacre.node.images import ImageCache
from nacre.node.runtimes.containers import ContainerDriver
from nacre.protocol.guests import Guest, ImageRef, InstanceData, Layer, Limits
from nacre.protocol.messages import Gone, Holding, Item, Observation
from nacre.protocol.networks import Port
from tests.cgroups import cgroups

WAIT_S = 60.0
BUSYBOX = Path("/bin/busybox")


async def eventually(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Wait until the condition holds; its value."""
    for _ in range(int(timeout_s / 0.02)):
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {timeout_s:.0f} s: {what}")


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", *, mode: int = 0o644, link: str = "", kind: bytes = b"") -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(data)
    if link:
        member.type, member.linkname, member.size = tarfile.SYMTYPE, link, 0
    if kind:
        member.type = kind
    tar.addfile(member, io.BytesIO(data))


def busybox_layer() -> bytes:
    """A root file system of busybox and its applets, as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var"):
            add(tar, folder, mode=0o1777 if folder == "tmp" else 0o755, kind=tarfile.DIRTYPE)
        add(tar, "bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
        applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                add(tar, f"bin/{applet}", link="busybox")
        add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var:/bin/sh\n")
        add(tar, "etc/group", b"root:x:0:\nweb:x:33:\n")
    return out.getvalue()


def oci_archive(layers: list[bytes], config: dict[str, Any]) -> bytes:
    """An OCI archive of these layers."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        blobs[name] = data
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    described = [blob(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]
    document = {"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": []}}
    about = blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "config": about, "layers": described}).encode(), "manifest")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for name, data in blobs.items():
            add(tar, f"blobs/sha256/{name}", data)
    return out.getvalue()


class Source:
    """An ImageSource that holds images in memory and counts what was fetched."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def add(self, data: bytes) -> ImageRef:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.bytes[digest] = data
        return ImageRef(str(uuid.uuid4()), digest, len(data), "raw", "docker")

    def add_layers(self, layers: list[bytes], config: dict[str, Any] | None = None) -> ImageRef:
        """An image in layers, from the lowest up."""
        refs = [self.add(data) for data in layers]
        name = hashlib.sha256("".join(ref.digest for ref in refs).encode()).hexdigest()
        listed = tuple(Layer(ref.digest, ref.size_bytes) for ref in refs)
        return ImageRef(str(uuid.uuid4()), f"sha256:{name}", 0, "raw", "docker", layers=listed, config={"config": config or {}})

    async def fetch(self, digest: str, target: Path) -> None:
        self.fetched.append(digest)
        if digest not in self.bytes:
            raise OSError(f"the control plane has no bytes {digest}")
        target.write_bytes(self.bytes[digest])


class Wires:
    """A NetworkDriver that makes a bridge of the asked name in the guest's namespace, and notes what it did."""

    def __init__(self) -> None:
        self.plugged: dict[str, tuple[Path, str]] = {}

    async def start(self) -> None: ...

    async def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        return []

    async def plug(self, port_id: str, netns: Path, interface: str) -> Plugged:
        self.plugged[port_id] = (netns, interface)
        for words in (f"link add {interface} type bridge", f"addr add 10.9.8.7/24 dev {interface}", f"link set {interface} up"):
            await self._run(netns, words)
        return Plugged(port_id, interface, "02:00:00:00:00:01", 1450, ("10.9.8.7/24",), ("10.9.8.2",), "example.org.")

    async def unplug(self, port_id: str) -> None:
        netns, interface = self.plugged.pop(port_id)
        await self._run(netns, f"link del {interface}")

    async def part(self, port_id: str) -> None:
        self.plugged.pop(port_id)  # The link goes with the namespace.

    async def _run(self, netns: Path, words: str) -> None:
        process = await asyncio.create_subprocess_exec("nsenter", f"--net={netns}", "ip", *words.split())
        assert await process.wait() == 0, words

    async def await_port(self, port_id: str, timeout_s: float) -> Port:
        return Port(port_id, "n", "02:00:00:00:00:01")

    async def survey(self) -> list[Holding]:
        return []

    async def close(self) -> None: ...


class Room:
    """A node's worth of containers: a driver on a state directory of its own."""

    def __init__(self, state: Path, cloud_id: str) -> None:
        self.config = NodeConfig("host-1", cloud_id, str(state), "", 0)
        self.source, self.wires, self.seen = Source(), Wires(), list[Observation]()
        self.busybox = self.source.add(busybox_layer())
        self.driver = self.new_driver()

    def new_driver(self) -> ContainerDriver:
        return ContainerDriver(self.config, self.wires, ImageCache(self.config.state, self.source))

    async def start(self) -> None:
        await self.driver.start(self.seen.append)

    async def restart(self) -> None:
        await self.driver.close()
        self.seen.clear()
        self.driver = self.new_driver()
        await self.start()

    def guest(self, user_data: str = "", **changes: Any) -> Guest:
        instance = InstanceData("one", "one", "p", "nova", user_data=user_data.encode())
        limits = changes.pop("limits", Limits(vcpus=1, memory_mb=64, disk_gb=1))
        image = changes.pop("image", self.busybox)
        guest = Guest(str(uuid.uuid4()), "container", 1, "running", 1, image, limits, instance)
        return msgspec.structs.replace(guest, **changes)

    def command_image(self, *command: str, **config: Any) -> ImageRef:
        """busybox with a command of its own."""
        return self.source.add(oci_archive([busybox_layer()], {"Cmd": list(command), **config}))

    async def console_shows(self, guest: Guest, text: str) -> bytes:
        async def shown() -> bytes:
            log = await self.driver.console(guest.id)
            return log if text.encode() in log else b""

        try:
            found: bytes = await eventually(shown, f"{text!r} on the console")
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {(await self.driver.console(guest.id))[-2000:]!r}") from None
        return found

    def pid(self, guest: Guest) -> int:
        return int((self.config.state / "guests" / guest.id / "pid").read_text())

    def inside(self, guest: Guest, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest's namespaces as its root."""
        enter = ["nsenter", "-t", str(self.pid(guest)), "-a", "-S", "0", "-G", "0", *command]
        return subprocess.run(enter, capture_output=True, text=True)


def traces(cloud_id: str, state: Path) -> list[str]:
    """What is on this machine of the cloud's guests, looked up without the driver's help."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {state}/guests/" in line]
    found += [str(path) for path in cgroups(f"nacre-{cloud_id}/*-*-*-*-*")]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"nacre-{cloud_id}/crun".encode() in entry.read_bytes():
                found.append(str(entry))
        except OSError:
            continue
    found += [str(path) for path in (state / "guests").glob("*-*")]
    found += [str(path) for path in Path(f"/run/nacre-{cloud_id}/crun").glob("*")]
    return found


def remove_state(state: Path) -> None:
    if os.path.isdir(state):
        shutil.rmtree(state)
