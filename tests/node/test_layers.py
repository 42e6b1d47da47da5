"""Images in layers: each unpacked once for all images, put together by the kernel, evicted when nobody needs it."""

import asyncio
import io
import os
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import msgspec
import pytest

from nacre.node import images
from nacre.node.images import ImageCache, ImageError
from tests.node.containers_support import Source, add, busybox_layer
from tests.node.docker_support import DockerRoom, docker
from tests.node.test_images import layer

pytestmark = pytest.mark.root


def owned(*entries: tuple[str, int, int]) -> bytes:
    """A layer of directories (ending with a slash) and files: name, mode, owner."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, mode, uid in entries:
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.mode, member.uid, member.gid, member.mtime = mode, uid, uid, 1000
            tar.addfile(member)
    return out.getvalue()


def test_what_upper_layers_hide_replace_and_imply_is_what_a_guest_sees() -> None:
    lower = owned(
        ("srv/", 0o750, 7),
        ("srv/data/", 0o700, 8),
        ("srv/data/old", 0o600, 8),
        ("gone", 0o644, 0),
        ("full/", 0o755, 0),
        ("full/x", 0o644, 0),
        ("again/", 0o755, 0),
        ("again/was", 0o644, 0),
        ("bare/", 0o700, 9),
    )
    # It has files in srv/data and new/deep, and no entry for either; what aufs left in an image is nobody's.
    upper = layer(**{
        "srv/data/new": b"new", "new/deep/file": b"", ".wh.gone": b"", "full/.wh..wh..opq": b"", "full/y": b"",
        "again/now": b"", ".wh.again": b"", ".wh..wh.plnk": b"", "bare/z": b"",
    })  # fmt: skip
    top = owned(("bare/", 0o711, 10))

    async def story(room: DockerRoom) -> None:
        image = room.source.add_layers([busybox_layer(), lower, upper, top])
        guest = room.sh(
            "stat -c '%n %a %u' srv srv/data srv/data/* new new/deep bare; ls full again; ls -d gone; ls -A / | grep wh"
        )
        said = await room.says(msgspec.structs.replace(guest, image=image))
        lines = {line for line in said.replace("\r", "").splitlines() if line}
        assert {"srv 750 7", "srv/data 700 8", "srv/data/new 644 0", "srv/data/old 600 8"} <= lines
        assert {"new 755 0", "new/deep 755 0", "bare 711 10"} <= lines
        assert {"y", "now"} <= lines
        assert not {"x", "was", "gone", ".wh.gone"} & lines

    docker(story)


def test_layers_are_fetched_once_and_shared(tmp_path: Path) -> None:
    async def story() -> None:
        source = Source()
        base, one, two = layer(base=b"b" * 100_000), layer(one=b"1"), layer(two=b"2")
        first, second = source.add_layers([base, one], {"Cmd": ["a"]}), source.add_layers([base, two, base], {"Cmd": ["b"]})
        cache = ImageCache(tmp_path, source)
        images = await asyncio.gather(*(cache.ensure(ref) for ref in (first, second) * 10))
        assert len(source.fetched) == 3
        assert images[0].lowers[0] == images[1].lowers[-1], "a layer that comes twice counts where it is uppermost"
        assert [len(image.lowers) for image in images[:2]] == [2, 2]
        assert [image.config.cmd for image in images[:2]] == [["a"], ["b"]]
        await ImageCache(tmp_path, source).ensure(first)
        assert len(source.fetched) == 3, "the next process finds them"

    asyncio.run(story())


def test_a_layer_that_some_guest_uses_stays(tmp_path: Path) -> None:
    async def story() -> None:
        source = Source()
        layers = [layer(big=bytes([number]) * 200_000) for number in range(4)]
        shared, other = source.add_layers([layers[0], layers[1]]), source.add_layers([layers[0], layers[2], layers[3]])
        cache = ImageCache(tmp_path, source, bytes_max=450_000)
        cache.used = lambda: [shared]
        await cache.ensure(shared)
        await cache.ensure(other)
        cache.used = lambda: [other]
        await cache.ensure(source.add_layers([layer(big=b"9" * 200_000)]))
        left = {entry.name for entry in (tmp_path / "images").iterdir()}
        assert {f"layer-{one.digest.removeprefix('sha256:')}" for one in other.layers} <= left
        assert f"layer-{shared.layers[1].digest.removeprefix('sha256:')}" not in left

    asyncio.run(story())


def test_clearing_what_a_crash_left_takes_nobodys_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "images" / "partial-left"
    left.mkdir(parents=True)
    clear = images._clear

    def late(root: Path) -> None:
        time.sleep(0.3)
        clear(root)

    monkeypatch.setattr(images, "_clear", late)

    async def story() -> None:
        source = Source()
        await ImageCache(tmp_path, source).ensure(source.add_layers([layer(**{f"l{number}": b""}) for number in range(8)]))

    asyncio.run(story())
    assert not left.exists()
    assert len(list((tmp_path / "images").iterdir())) == 8


def test_an_image_of_very_many_layers() -> None:
    async def story(room: DockerRoom) -> None:
        layers = [busybox_layer(), *(layer(**{f"l{number}": b"", "which": str(number).encode()}) for number in range(126))]
        guest = msgspec.structs.replace(room.sh("cat which; ls -d l* | wc -l"), image=room.source.add_layers(layers))
        assert (await room.says(guest)).split() == ["125126"]
        over = msgspec.structs.replace(guest, image=room.source.add_layers([*layers, *(layer(a=b"%d" % n) for n in range(200))]))
        with pytest.raises(ImageError, match="more than 250 layers"):
            await room.driver._images.ensure(over.image)

    docker(story)


def test_hostile_layers_make_nothing_outside_of_their_folder(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "away", link=str(tmp_path))
        add(tar, "away/.wh.victim")
        add(tar, "away/.wh..wh..opq")
        add(tar, "../../../escaped", b"x")
        add(tar, "dev/null", kind=tarfile.CHRTYPE)
        member = tarfile.TarInfo("marked")
        member.type, member.pax_headers = tarfile.DIRTYPE, {"SCHILY.xattr.trusted.overlay.opaque": "y"}
        tar.addfile(member)
    victim = tmp_path / "victim"
    victim.write_text("here")

    async def story() -> None:
        source = Source()
        cache = ImageCache(tmp_path / "state", source)
        rootfs = (await cache.ensure(source.add_layers([out.getvalue()]))).lowers[0]
        assert (rootfs / "escaped").is_file()
        assert not (rootfs / "dev" / "null").exists()
        assert os.listxattr(rootfs / "marked") == []
        cut = source.add_layers([layer(fine=b"a"), b"\x1f\x8b" + os.urandom(500)])
        with pytest.raises(ImageError, match="is broken"):
            await cache.ensure(cut)
        assert not list((tmp_path / "state" / "images").glob("partial-*"))
        assert victim.read_text() == "here"
        assert not (tmp_path / "escaped").exists()
        image = await cache.ensure(source.add_layers([layer(**{"bin/.wh.sh": b""})]))
        seen = os.lstat(image.lowers[0] / "bin" / "sh")
        assert stat.S_ISCHR(seen.st_mode)
        assert seen.st_rdev == 0

    asyncio.run(story())


def test_a_layer_in_zstd(tmp_path: Path) -> None:
    packed = subprocess.run(["zstd", "-q", "-c"], input=layer(a=b"z" * 3_000_000), check=True, capture_output=True).stdout

    async def story() -> None:
        source = Source()
        image = await ImageCache(tmp_path, source).ensure(source.add_layers([packed]))
        assert (image.lowers[0] / "a").stat().st_size == 3_000_000
        with pytest.raises(ImageError, match="zstd cannot decompress"):
            await ImageCache(tmp_path, source).ensure(source.add_layers([packed[:100] + b"?" * 100]))

    asyncio.run(story())
