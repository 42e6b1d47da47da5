"""The image cache: formats, whiteouts, hostile bytes, one unpacking for many askers, eviction."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from nacre.node.images import ImageCache, ImageError
from nacre.protocol.guests import ImageRef
from tests.node.containers_support import Source, add, oci_archive

pytestmark = pytest.mark.root


def layer(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            add(tar, name, data)
    return out.getvalue()


def docker_archive(layers: list[bytes], config: dict[str, object]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "about.json", json.dumps({"config": config}).encode())
        for number, data in enumerate(layers):
            add(tar, f"{number}/layer.tar", data)
        names = [f"{number}/layer.tar" for number in range(len(layers))]
        add(tar, "manifest.json", json.dumps([{"Config": "about.json", "Layers": names}]).encode())
    return out.getvalue()


def test_every_format_gives_the_same_root(tmp_path: Path) -> None:
    plain, config = layer(hello=b"hi"), {"Cmd": ["run"], "Env": ["A=1"], "WorkingDir": "/w", "User": "5"}
    source = Source()
    forms = {
        "oci": source.add(oci_archive([gzip.compress(plain)], config)),
        "docker": source.add(docker_archive([plain], config)),
        "gzipped docker": source.add(gzip.compress(docker_archive([plain], config))),
        "plain": source.add(plain),
        "gzipped": source.add(gzip.compress(plain)),
    }

    async def story() -> None:
        cache = ImageCache(tmp_path, source)
        for form, ref in forms.items():
            image = await cache.ensure(ref)
            assert (image.lowers[0] / "hello").read_bytes() == b"hi", form
            if "oci" in form or "docker" in form:
                said = (image.config.cmd, image.config.env, image.config.working_dir, image.config.user)
                assert said == (["run"], ["A=1"], "/w", "5"), form

    asyncio.run(story())


def test_owners_modes_links_and_capabilities_stay_and_devices_do_not(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "dev/sda", kind=tarfile.BLKTYPE)
        member = tarfile.TarInfo("ping")
        member.mode, member.uid, member.gid, member.mtime, member.size = 0o4755, 7, 8, 1000, 1
        capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        member.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
        tar.addfile(member, io.BytesIO(b"x"))
        hard = tarfile.TarInfo("same")
        hard.type, hard.linkname = tarfile.LNKTYPE, "ping"
        tar.addfile(hard)

    async def story() -> None:
        source = Source()
        image = await ImageCache(tmp_path, source).ensure(source.add(out.getvalue()))
        seen = os.stat(image.lowers[0] / "ping")
        assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid, seen.st_mtime) == (0o4755, 7, 8, 1000)
        assert os.getxattr(image.lowers[0] / "ping", "security.capability") == capability
        assert (image.lowers[0] / "same").samefile(image.lowers[0] / "ping")
        assert not (image.lowers[0] / "dev" / "sda").exists()

    asyncio.run(story())


def test_many_askers_wait_for_one_fetch_and_a_crash_leaves_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        source = Source()
        ref = source.add(layer(a=b"a"))
        left = tmp_path / "images" / "partial-of-a-crash"
        left.mkdir(parents=True)
        cache = ImageCache(tmp_path, source)
        images = await asyncio.gather(*(cache.ensure(ref) for _ in range(20)))
        assert len(source.fetched) == 1
        assert len({image.lowers[0] for image in images}) == 1
        assert [entry.name for entry in (tmp_path / "images").iterdir()] == [ref.digest.removeprefix("sha256:")]
        await ImageCache(tmp_path, source).ensure(ref)
        assert len(source.fetched) == 1, "the next process finds it"

    asyncio.run(story())


def test_the_longest_unused_image_goes_first_and_a_used_one_never(tmp_path: Path) -> None:
    async def story() -> None:
        source = Source()
        refs = [source.add(layer(big=bytes([number]) * 200_000)) for number in range(4)]
        cache = ImageCache(tmp_path, source, bytes_max=450_000)
        cache.used = lambda: [refs[0]]
        for number, ref in enumerate(refs):
            image = await cache.ensure(ref)
            os.utime(image.lowers[0].parent / "image.json", (number, number))
        left = {entry.name for entry in (tmp_path / "images").iterdir()}
        assert left == {refs[0].digest.removeprefix("sha256:"), refs[3].digest.removeprefix("sha256:")}
        assert (await cache.ensure(refs[1])).lowers[0].is_dir()
        assert source.fetched.count(refs[1].digest) == 2

    asyncio.run(story())


def broken_images() -> dict[str, tuple[bytes, str]]:
    good = oci_archive([layer(a=b"a")], {})
    blob = hashlib.sha256(layer(a=b"a")).hexdigest()
    swapped = good.replace(b"a" + b"\0" * 511, b"b" + b"\0" * 511)
    assert blob.encode() in good
    assert swapped != good
    bad_index = io.BytesIO()
    with tarfile.open(fileobj=bad_index, mode="w") as tar:
        add(tar, "index.json", b"[]")
    return {
        "empty": (b"", "is broken"),
        "text": (b"hello " * 500, "is broken"),
        "cut": (gzip.compress(layer(a=os.urandom(5000)))[:3000], "is broken"),
        "swapped bytes": (swapped, "not those of its digest"),
        "no manifests": (bad_index.getvalue(), "is broken"),
        "zstd": (b"\x28\xb5\x2f\xfd" + b"0" * 600, "zstd"),
    }


@pytest.mark.parametrize("kind", list(broken_images()))
def test_broken_bytes_are_refused_with_the_cause(tmp_path: Path, kind: str) -> None:
    data, cause = broken_images()[kind]

    async def story() -> None:
        source = Source()
        ref = source.add(data)
        cache = ImageCache(tmp_path, source)
        with pytest.raises(ImageError, match=cause):
            await cache.ensure(ref)
        assert list((tmp_path / "images").iterdir()) == []
        with pytest.raises(ImageError):
            await cache.ensure(ref)

    asyncio.run(story())


def test_a_digest_that_is_none_makes_no_path(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(ImageError, match="not a sha256 digest"):
            await ImageCache(tmp_path, Source()).ensure(ImageRef("i", "sha256:../../etc", 1, "raw", "docker"))

    asyncio.run(story())
