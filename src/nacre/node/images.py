"""The image cache: archives and layers fetched and unpacked once, kept by digest, unshifted, evicted when space is needed.

images/<hex>/rootfs is an unpacked archive, images/<hex>/image.json what its config says. images/layer-<hex> is one layer, shared
by all images that have it; images/over-<hex> lies over the layers of an image where they need it (see nacre.node.implied).
A folder gets its final name by a rename once it is whole; whatever a crash left has another name and is thrown away at the
next start.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from nacre.node import implied
from nacre.node.drivers import ImageSource
from nacre.protocol.guests import ImageRef

CACHE_BYTES_MAX = 40 << 30
"""Images that no guest uses are evicted, the longest unused first, when all together are larger."""
UNPACKING_MAX = 2
UNPACK_WAIT_S = 1800.0
LAYERS_MAX = 250
"""An overlay takes 500 layers; what names them must fit a page (mount(2))."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PARTIAL, _LAYER, _OVER = "partial-", "layer-", "over-"


class ImageError(Exception):
    """The image cannot be had or is broken; the text says which and why."""


class ImageConfig(Struct, rename="pascal"):
    """The part of an OCI image's config that a guest obeys (image-spec, `config.md`)."""

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""


class UnpackedImage(Struct):
    digest: str
    lowers: tuple[Path, ...]
    """The directories whose overlay is the root file system, from the lowest up."""
    config: ImageConfig


class _Meta(Struct):
    config: ImageConfig
    size_bytes: int
    implied: list[str] = []
    """A layer's directories that it has no entry for, each byte of a name a character."""


class _Folder(Struct):
    path: Path
    meta: _Meta

    @property
    def lower(self) -> implied.Lower:
        names = (os.fsdecode(name.encode("latin-1")) for name in self.meta.implied)
        return implied.Lower(self.path / "rootfs", frozenset(names))


Fill = Callable[[Path, Path], Awaitable[_Meta]]
"""What makes a folder's root file system: given a scratch directory and `rootfs` in it."""


class ImageCache:
    """Belongs to one event loop."""

    def __init__(self, state: Path, source: ImageSource, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._root = state.resolve() / "images"
        self._source = source
        self._bytes_max = bytes_max
        self._tasks: dict[str, asyncio.Task[_Folder]] = {}
        self._bound = asyncio.Semaphore(UNPACKING_MAX)
        self._known: dict[str, _Folder] = {}
        self.used: Callable[[], Iterable[ImageRef]] = tuple
        """The images that guests on this host use; set by the runtime."""
        self._swept = False
        self._housekeeping = asyncio.Lock()

    async def ensure(self, ref: ImageRef) -> UnpackedImage:
        """The unpacked image. Askers of one archive or layer wait for one fetch. Raises ImageError."""
        for digest in (ref.digest, *(layer.digest for layer in ref.layers)):
            if _DIGEST.fullmatch(digest) is None:
                raise ImageError(f"image {ref.id}: {digest!r} is not a sha256 digest")
        if not ref.layers:
            folder = await self._folder(ref, _hex(ref.digest), self._archive(ref))
            return UnpackedImage(ref.digest, (folder.path / "rootfs",), folder.meta.config)
        if len(ref.layers) > LAYERS_MAX:
            raise ImageError(f"image {ref.id} has more than {LAYERS_MAX} layers")
        digests = _stacked(ref)
        # All are waited for, also when one fails: nothing is at work any more on an image that is refused.
        works = (self._folder(ref, _LAYER + _hex(one), self._layer(ref, one)) for one in digests)
        folders: list[_Folder] = []
        for done in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
            folders.append(done)
        if any(folder.meta.implied for folder in folders[1:]):
            lowers = [folder.lower for folder in folders]
            folders.append(await self._folder(ref, _over(digests), _restate(lowers)))
        return UnpackedImage(ref.digest, tuple(folder.path / "rootfs" for folder in folders), _config_of(ref, ref.config))

    async def _folder(self, ref: ImageRef, name: str, fill: Fill) -> _Folder:
        found = self._known.get(name)
        if found is not None:
            return found
        task = self._tasks.get(name)
        if task is None:
            task = asyncio.create_task(self._make(ref, name, fill))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))
        return await asyncio.shield(task)

    async def _make(self, ref: ImageRef, name: str, fill: Fill) -> _Folder:
        async with self._bound:
            try:
                await self._sweep()
                found = await asyncio.to_thread(self._load, name)
                if found is None:
                    await self._fill(name, fill)
                    found = await asyncio.to_thread(self._load, name)
                if found is None:
                    raise ImageError(f"image {ref.id} is gone from the cache right after it was unpacked")
                self._known[name] = found
                await self._evict(ref)
            except OSError as error:
                raise ImageError(f"image {ref.id}: {error.strerror or error}") from error
            return found

    async def _sweep(self) -> None:
        """Once, and all wait for it before anything is made: what is partial later is somebody's work."""
        async with self._housekeeping:
            if not self._swept:
                await asyncio.to_thread(_clear, self._root)
                self._swept = True

    def _load(self, name: str) -> _Folder | None:
        file = self._root / name / "image.json"
        try:
            meta = msgspec.json.decode(file.read_bytes(), type=_Meta)
        except FileNotFoundError:
            return None
        os.utime(file)
        return _Folder(self._root / name, meta)

    async def _fill(self, name: str, fill: Fill) -> None:
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=_PARTIAL, dir=self._root))
        try:
            rootfs = scratch / "whole" / "rootfs"
            rootfs.mkdir(parents=True)
            rootfs.chmod(0o755)
            meta = await fill(scratch, rootfs)
            await asyncio.to_thread(_finish, scratch, meta, self._root / name)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, True)

    def _archive(self, ref: ImageRef) -> Fill:
        async def fill(scratch: Path, rootfs: Path) -> _Meta:
            await self._source.fetch(ref.digest, scratch / "image")
            return _Meta(_config_of(ref, await _unpack(ref, scratch, rootfs)), 0)

        return fill

    def _layer(self, ref: ImageRef, digest: str) -> Fill:
        async def fill(scratch: Path, rootfs: Path) -> _Meta:
            await self._source.fetch(digest, scratch / "image")
            said = await _unpack(ref, scratch, rootfs, "layer")
            return _Meta(ImageConfig(), 0, said["implied"])

        return fill

    async def _evict(self, ref: ImageRef) -> None:
        async with self._housekeeping:
            entries = await asyncio.to_thread(_entries, self._root)
            total = sum(size for _, _, size in entries)
            for _, folder, size in entries:
                if total <= self._bytes_max:
                    return
                # Asked of each right before it goes: while another was thrown away somebody may have come for this one.
                if folder.name in {*_names(ref), *self._tasks}.union(*(_names(used) for used in self.used())):
                    continue
                self._known.pop(folder.name, None)
                gone = folder.rename(self._root / f"{_PARTIAL}{folder.name}")
                await asyncio.to_thread(shutil.rmtree, gone)
                total -= size


def _clear(root: Path) -> None:
    """What a crash left half made goes."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in root.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left)


def _entries(root: Path) -> list[tuple[float, Path, int]]:
    """What the cache holds as (last use, folder, bytes), the longest unused first."""
    entries = []
    for file in root.glob("*/image.json"):
        meta = msgspec.json.decode(file.read_bytes(), type=_Meta)
        entries.append((file.stat().st_mtime, file.parent, meta.size_bytes))
    return sorted(entries)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _stacked(ref: ImageRef) -> list[str]:
    """The image's layers from the lowest up, each once: under itself a layer has nothing that would be seen."""
    return list(dict.fromkeys(layer.digest for layer in reversed(ref.layers)))[::-1]


def _over(digests: list[str]) -> str:
    return _OVER + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _names(ref: ImageRef) -> list[str]:
    """The cache's folders that an image may need."""
    if not ref.layers:
        return [_hex(ref.digest)]
    digests = _stacked(ref)
    return [*(_LAYER + _hex(digest) for digest in digests), _over(digests)]


def _config_of(ref: ImageRef, document: dict[str, Any]) -> ImageConfig:
    """Raises ImageError."""
    try:
        return msgspec.convert(document.get("config") or {}, type=ImageConfig)
    except (msgspec.ValidationError, AttributeError) as error:
        raise ImageError(f"image {ref.id} is broken: its config: {error}") from error


def _restate(lowers: list[implied.Lower]) -> Fill:
    async def fill(scratch: Path, rootfs: Path) -> _Meta:
        sources = await asyncio.to_thread(implied.restated, lowers)
        await asyncio.to_thread(implied.make, rootfs, sources)
        return _Meta(ImageConfig(), 0)

    return fill


async def _unpack(ref: ImageRef, scratch: Path, rootfs: Path, *mode: str) -> dict[str, Any]:
    """What the unpacker says of it. Raises ImageError."""
    script = Path(__file__).with_name("unpack.py")
    argv = [sys.executable, "-I", str(script), str(scratch / "image"), str(rootfs), str(scratch), *mode]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        output, errors = await asyncio.wait_for(process.communicate(), UNPACK_WAIT_S)
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise ImageError(f"image {ref.id} was not unpacked within {UNPACK_WAIT_S:.0f} s") from None
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["the unpacker was killed"]
        raise ImageError(f"image {ref.id} is broken: {lines[-1]}")
    try:
        found: dict[str, Any] = msgspec.json.decode(output)
    except msgspec.DecodeError as error:
        raise ImageError(f"image {ref.id} is broken: its config: {error}") from error
    return found


def _finish(scratch: Path, meta: _Meta, target: Path) -> None:
    whole = scratch / "whole"
    meta.size_bytes = _tree_bytes(whole / "rootfs")
    (whole / "image.json").write_bytes(msgspec.json.encode(meta))
    # What is renamed must be on the disk first: a power cut may not leave a whole name with empty files.
    os.sync()
    whole.rename(target)


def _tree_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
