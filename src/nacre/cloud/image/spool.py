"""Where bytes wait that are not yet blobs: folders of this process beside the blobs, on the same file system, which go with it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nacre.cloud.core import Cloud
from nacre.cloud.errors import TooLarge
from nacre.cloud.image import rules


@asynccontextmanager
async def spool(cloud: Cloud) -> AsyncIterator[Path]:
    """A folder for one transfer, on the file system of the blobs; gone at the end."""
    path = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=cloud.blobs.spool))
    try:
        yield path
    finally:
        await asyncio.to_thread(shutil.rmtree, path, True)


async def keep_file(cloud: Cloud, chunks: AsyncIterator[bytes], path: Path, size: int = 0) -> int:
    """Append a stream to a file that has `size` bytes. Returns its size; raises TooLarge, InsufficientStorage."""
    limit = cloud.settings.image_size_max_bytes
    try:
        with path.open("ab") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"The image data is larger than the limit of {limit} bytes.")
                await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        raise rules.InsufficientStorage(f"The data could not be kept: {error.strerror}") from error
    return size
