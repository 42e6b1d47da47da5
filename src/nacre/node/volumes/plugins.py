"""Docker's plugins on this host, used as Docker uses them (Engine documentation, "Docker Plugin API" and "Volume plugins").

A plugin is found by its name: a socket under /run/docker/plugins, or a file that says where it listens. It is activated with its first
use. Every call has an end: what cannot be reached is tried again for a while, what does not answer is given up, both with an OSError.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

SOCKETS = Path("/run/docker/plugins")
SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
ACCEPT = "application/vnd.docker.plugins.v1.2+json"
LONG_TIMEOUT_S = 120.0
"""Create and Mount."""
TIMEOUT_S = 60.0
RETRY_FOR_S = 30.0
"""How long a plugin that does not take connections is tried, after 1, 2, 4 ... seconds."""
REPLY_BYTES_MAX = 1 << 20
OURS = re.compile(r"local|nacre.*")
"""Names under which no plugin is used: the node's own volumes, and what Nacre itself serves to other engines on this host."""


class Tls(Struct, frozen=True, rename="pascal"):
    """`TLSConfig` of a plugin's .json file."""

    insecure_skip_verify: bool = False
    ca_file: str = msgspec.field(name="CAFile", default="")
    cert_file: str = ""
    key_file: str = ""


class Address(Struct, frozen=True):
    url: str
    """unix:// and a path, or tcp://, http:// or https:// and host:port."""
    tls: Tls | None = None


class _Spec(Struct, frozen=True):
    addr: str = msgspec.field(name="Addr")
    tls: Tls | None = msgspec.field(name="TLSConfig", default=None)


class Refused(OSError):
    """The plugin has answered, and did not do it."""


class NotSupported(Refused):
    """The plugin answers 404: it has no such method."""


class Found:
    """The host's plugins for one kind of thing. Belongs to one event loop."""

    implements = ""
    """What a plugin must say that it implements; its methods' names begin with it."""
    kind = ""
    """What it is called where it fails."""

    def __init__(
        self,
        sockets: Path = SOCKETS,
        specs: tuple[Path, ...] = SPECS,
        *,
        timeout_s: float = TIMEOUT_S,
        long_timeout_s: float = LONG_TIMEOUT_S,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self._sockets, self._specs = sockets, specs
        self._timeout_s, self._long_timeout_s, self._retry_for_s = timeout_s, long_timeout_s, retry_for_s
        self._activated: set[str] = set()

    def names(self) -> list[str]:
        """Every plugin that can be found, whether it answers or not."""
        return sorted({name for name, _ in self._files() if not OURS.fullmatch(name)})

    def _files(self) -> Iterator[tuple[str, Path]]:
        for folder, endings in ((self._sockets, (".sock",)), *((specs, (".spec", ".json")) for specs in self._specs)):
            for path in (*folder.glob("*"), *folder.glob("*/*")) if folder.is_dir() else ():
                if path.suffix in endings and (path.parent == folder or path.stem == path.parent.name):
                    yield path.stem, path

    def find(self, name: str) -> Address:
        """Sockets win over files that name an address. Raises OSError when there is no such plugin, or its file makes no sense."""
        if OURS.fullmatch(name) or "/" in name or name.startswith("."):
            raise OSError(f"{name} is not the name of a {self.kind}")
        for path in (self._sockets / f"{name}.sock", self._sockets / name / f"{name}.sock"):
            if path.is_socket():
                return Address(f"unix://{path}")
        for folder in self._specs:
            for path in (folder / f"{name}.spec", folder / f"{name}.json", folder / name / f"{name}.spec"):
                if path.is_file():
                    return _read(path)
        raise OSError(f"error looking up {self.kind} {name}: plugin {name!r} not found on this host")

    async def _call(self, plugin: str, method: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        address = await asyncio.to_thread(self.find, plugin)
        if address.url not in self._activated:
            reply = await self._post(plugin, address, "Plugin.Activate", {}, self._timeout_s)
            if self.implements not in (reply.get("Implements") or ()):
                raise OSError(f"plugin {plugin} does not implement {self.implements}; it says {reply.get('Implements')!r}")
            await self._met(plugin, address)
            self._activated.add(address.url)
        try:
            return await self._post(plugin, address, method, body, timeout_s)
        except ConnectionError:
            # Another process may answer next time: it is asked again what it is.
            self._activated.discard(address.url)
            raise

    async def _post(self, plugin: str, address: Address, method: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        pause_s, began = 1.0, time.monotonic()
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    return await _exchange(f"{self.kind} {plugin}", address, method, body)
            except TimeoutError:
                raise OSError(f"{self.kind} {plugin} did not answer to {method} within {timeout_s:g} s") from None
            except aiohttp.ClientConnectorError as error:
                tried_s = time.monotonic() - began
                if tried_s + pause_s > self._retry_for_s:
                    raise ConnectionError(f"{self.kind} {plugin} cannot be reached at {address.url}: {error}") from None
            except aiohttp.ClientError as error:
                raise ConnectionError(f"{self.kind} {plugin} broke off {method}: {error or type(error).__name__}") from None
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _met(self, plugin: str, address: Address) -> None:
        """It was activated: what else its kind asks it before it is used."""


class Plugins(Found):
    """Volume plugins."""

    implements, kind = "VolumeDriver", "volume plugin"

    async def create(self, plugin: str, name: str, options: dict[str, str]) -> None:
        await self._call(plugin, "VolumeDriver.Create", {"Name": name, "Opts": options}, self._long_timeout_s)

    async def remove(self, plugin: str, name: str) -> None:
        await self._call(plugin, "VolumeDriver.Remove", {"Name": name}, self._timeout_s)

    async def knows(self, plugin: str, name: str) -> bool:
        reply = await self._call(plugin, "VolumeDriver.List", {}, self._timeout_s)
        return any(isinstance(one, dict) and one.get("Name") == name for one in reply.get("Volumes") or ())

    async def mount(self, plugin: str, name: str, user: str) -> Path:
        """Where the volume lies on this host."""
        reply = await self._call(plugin, "VolumeDriver.Mount", {"Name": name, "ID": user}, self._long_timeout_s)
        path = Path(str(reply.get("Mountpoint") or ""))
        if not path.is_absolute() or not await asyncio.to_thread(path.is_dir):
            raise OSError(f"volume plugin {plugin}: it says that {name} is mounted at {str(path)!r}, where there is no directory")
        return path

    async def unmount(self, plugin: str, name: str, user: str) -> None:
        await self._call(plugin, "VolumeDriver.Unmount", {"Name": name, "ID": user}, self._timeout_s)


def _read(path: Path) -> Address:
    text = path.read_text()
    if path.suffix == ".spec":
        return Address(text.strip())
    try:
        spec = msgspec.json.decode(text, type=_Spec)
    except msgspec.DecodeError as error:
        raise OSError(f"{path} does not say where the plugin listens: {error}") from None
    return Address(spec.addr, spec.tls)


async def _exchange(who: str, address: Address, method: str, body: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(address.url)
    connector: aiohttp.BaseConnector
    if parts.scheme == "unix":
        connector, base = aiohttp.UnixConnector(parts.path), "http://plugin.moby.localhost"
    elif parts.scheme in ("tcp", "http", "https") and parts.netloc:
        secure = address.tls is not None or parts.scheme == "https"
        connector = aiohttp.TCPConnector(ssl=_context(address.tls or Tls())) if secure else aiohttp.TCPConnector()
        base = f"{'https' if secure else 'http'}://{parts.netloc}"
    else:
        raise OSError(f"{who}: {address.url!r} is no address; it begins with unix:// or tcp://")
    headers = {"Accept": ACCEPT, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector) as session:
        request = session.post(f"{base}/{method}", data=msgspec.json.encode(body), headers=headers, allow_redirects=False)
        async with request as response:
            raw = await _read_reply(response, who, method)
            return _judge(who, method, response.status, raw)


async def _read_reply(response: aiohttp.ClientResponse, who: str, method: str) -> bytes:
    found = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        found += chunk
        if len(found) > REPLY_BYTES_MAX:
            raise OSError(f"{who}: its answer to {method} is longer than {REPLY_BYTES_MAX} bytes")
    return bytes(found)


def _judge(who: str, method: str, status: int, raw: bytes) -> dict[str, Any]:
    """The answer's fields. Raises OSError with the plugin's own words where it says that something failed."""
    try:
        reply = msgspec.json.decode(raw) if raw.strip() else {}
    except msgspec.DecodeError:
        reply = None
    said = reply.get("Err") if isinstance(reply, dict) else None
    if status == 404 and not said:
        raise NotSupported(f"{method}: {raw[:500].decode(errors='replace').strip() or 'status 404'} ({who})")
    if status != 200 or said:
        raise Refused(f"{method}: {said or raw[:500].decode(errors='replace').strip() or f'status {status}'} ({who})")
    if not isinstance(reply, dict):
        raise OSError(f"{who}: its answer to {method} is not a JSON object")
    return reply


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file or None)
    if tls.insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    return context
