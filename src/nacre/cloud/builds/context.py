"""A build's context: the tar that the client sends, kept in the spool while the build lasts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from nacre.cloud.builds import dockerfile
from nacre.cloud.builds.dockerfile import Dockerfile
from nacre.cloud.builds.ignore import Ignored
from nacre.cloud.builds.trees import Tree, clean, members
from nacre.cloud.core import Cloud
from nacre.cloud.errors import Invalid, TooLarge
from nacre.cloud.image import archives
from nacre.cloud.image.spool import keep_file

BYTES_MAX = 8 << 30
"""A context at most, as it is sent and unpacked."""
IGNORE = ".dockerignore"
IGNORE_BYTES_MAX = 1 << 20


class BuildContext:
    """The files of a build, and its Dockerfile."""

    def __init__(self, tree: Tree, file: Dockerfile) -> None:
        self.tree = tree
        self.dockerfile = file


async def receive(cloud: Cloud, chunks: AsyncIterator[bytes], scratch: Path, name: str) -> BuildContext:
    """Keep the body in `scratch` and read it. Raises Invalid, TooLarge, InsufficientStorage."""
    sent = scratch / "context"
    limit = min(BYTES_MAX, cloud.settings.image_size_max_bytes)
    await keep_file(cloud, _bounded(chunks, limit), sent)
    return await asyncio.to_thread(_read, sent, scratch / "context.tar", limit, name)


async def _bounded(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The build context is larger than {limit} bytes.")
        yield chunk


def plain(path: Path, target: Path, limit: int) -> Path:
    """The tar itself: `path`, or what was compressed in it, written to `target`. Raises Invalid."""
    try:
        with path.open("rb") as file:
            reader = archives.decompressed(file)
            if reader is file:
                return path
            size = 0
            with target.open("wb") as copy:
                while chunk := reader.read(archives.READ_BYTES):
                    size += len(chunk)
                    if size > limit:
                        raise Invalid(f"the archive is larger than {limit} bytes when unpacked")
                    copy.write(chunk)
    except archives.BrokenArchive as error:
        raise Invalid(str(error)) from None
    except archives.HOSTILE as error:
        raise Invalid(f"the archive is broken: {type(error).__name__}: {error}") from None
    return target


def _read(sent: Path, target: Path, limit: int, name: str) -> BuildContext:
    found = members(plain(sent, target, limit), layer=False)
    whole = Tree()
    whole.add(found)
    text = whole.read(name, dockerfile.BYTES_MAX)
    if text is None:
        raise Invalid(f"Cannot locate specified Dockerfile: {name}")
    ignored = Ignored((whole.read(IGNORE, IGNORE_BYTES_MAX) or b"").decode(errors="replace"))
    tree = whole
    if ignored:
        tree = Tree()
        for path, node in whole.walk(""):
            # A folder that is left out is there all the same when something in it is not: `put` makes it.
            if path and not ignored.leaves_out(path):
                tree.put(path, node)
    return BuildContext(tree, dockerfile.parse(text, name))


def dockerfile_name(text: str) -> str:
    """The query's `dockerfile`: within the context."""
    return clean(text) or "Dockerfile"
