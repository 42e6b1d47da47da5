"""A container's volumes and host paths, made ready for the runtime: each as an id-mapped mount in the guest's own folder.

They lie in the host's mount namespace only while the container is made; then it has copies of its own. For whoever looks into a container
that does not run they are mounts that lie nowhere, to be put where that one alone sees them.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from nacre.node.drivers import Attached
from nacre.node.runtimes.containers import copyup, inside, kernel
from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.protocol.containers import Container, Mount


def wanted(container: Container | None) -> list[str]:
    """The ids of the container's volumes."""
    entries = container.mounts if container else ()
    return list(dict.fromkeys(entry.volume_id for entry in entries if entry.kind == "volume"))


def prepare(
    paths: GuestPaths, container: Container, attached: Mapping[str, Attached], user_namespace: Path, base_id: int
) -> dict[str, Path]:
    """Where each mount's content lies ready, by target; volumes that are empty get what the image has there. Raises OSError."""
    release(paths)
    found = {}
    for number, entry in enumerate(container.mounts):
        if entry.kind == "tmpfs":
            continue
        place = paths.volumes / str(number)
        source = _open(entry, attached)
        try:
            _make_place(place, source)
            if entry.kind == "volume" and entry.copy_up and not entry.subpath:
                _fill(source, inside.follow(paths.rootfs, entry.target), base_id)
            _show(source, place, user_namespace)
        finally:
            os.close(source)
        found[entry.target] = place
    return found


def release(paths: GuestPaths) -> None:
    """Take the mounts away."""
    if paths.volumes.is_dir():
        for place in paths.volumes.iterdir():
            kernel.unmount_all(place)


@contextlib.contextmanager
def trees(container: Container, attached: Mapping[str, Attached], user_namespace: Path) -> Iterator[list[tuple[str, int]]]:
    """(target, a descriptor of the mount) of each volume and host path, those that bear others first. Raises OSError."""
    with contextlib.ExitStack() as closing:
        found = []
        for entry in sorted(container.mounts, key=lambda entry: entry.target.rstrip("/").count("/")):
            if entry.kind == "tmpfs":
                continue
            source = _open(entry, attached)
            try:
                tree = _tree(source, user_namespace, writable=not entry.read_only)
            finally:
                os.close(source)
            closing.callback(os.close, tree)
            found.append((entry.target, tree))
        yield found


def _tree(source: int, user_namespace: Path, *, writable: bool) -> int:
    try:
        return kernel.idmapped_tree(source, user_namespace, writable=writable)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return kernel.plain_tree(source, writable=writable)  # As in `_show`.


def _open(entry: Mount, attached: Mapping[str, Attached]) -> int:
    if entry.kind == "volume":
        # Another guest may be at work in the volume: whatever it makes of the path, it does not lead out.
        return kernel.open_in_root(attached[entry.volume_id].path, entry.subpath)
    try:
        return os.open(entry.host_path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError as error:
        text = f'invalid mount config for type "bind": bind source path does not exist: {entry.host_path}'
        raise FileNotFoundError(error.errno, text) from error


def _fill(source: int, content: Path | None, base_id: int) -> None:
    if content is None or not content.is_dir():
        return
    folder = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copyup.copy_up(content, folder, base_id)
    finally:
        os.close(folder)


def _make_place(place: Path, source: int) -> None:
    """A mount point of the source's kind: a folder or a file."""
    place.parent.mkdir(mode=0o711, exist_ok=True)
    if stat.S_ISDIR(os.fstat(source).st_mode):
        if place.is_file():
            place.unlink()
        place.mkdir(exist_ok=True)
    else:
        if place.is_dir():
            place.rmdir()
        place.touch()


def _show(source: int, place: Path, user_namespace: Path) -> None:
    try:
        kernel.mount_idmapped_fd(source, place, user_namespace, writable=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A file system that cannot map ids (NFS, FUSE): its files keep the host's ids, and root's are nobody's in the guest.
        kernel.mount(f"/proc/self/fd/{source}", place, flags=kernel.MS_BIND)
