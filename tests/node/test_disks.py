"""A guest's disk as it goes from one host to another: whatever an overlay's upper folder may hold is the same there."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STREAMS = Path(__file__).parents[2] / "src/nacre/node/runtimes/containers/streams"
HERE, THERE = 300 * 65536, 512 * 65536
CAPABILITY_3 = struct.pack("<IIIII", 0x03000001, 1 << 10, 0, 0, 0)
GIGABYTE = 1 << 30


def helper(request: dict[str, Any], data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    fd = os.memfd_create("request")
    os.write(fd, json.dumps(request).encode())
    code = f"import sys; sys.path.insert(0, {str(STREAMS)!r}); import helping; helping.run('disks', {fd})"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], input=data, capture_output=True, pass_fds=(fd,), check=False)


def folders(tmp_path: Path, name: str) -> dict[str, str]:
    found = {each: str(tmp_path / name / each) for each in ("upper", "logs", "checkpoint")}
    for path in found.values():
        os.makedirs(path)
    return found


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    """With all that may lie in one."""
    root = tmp_path / "here/upper"
    folders(tmp_path, "here")
    (root / "etc").mkdir(mode=0o750)
    os.chown(root / "etc", HERE + 5, HERE + 6)
    (root / "etc/passwd").write_text("root\n")
    os.chown(root / "etc/passwd", HERE, HERE)
    (root / "etc/passwd").chmod(0o4755)
    os.setxattr(root / "etc/passwd", "security.capability", CAPABILITY_3 + struct.pack("<I", HERE))
    os.setxattr(root / "etc/passwd", "user.mark", b"\x00\xff=\n")
    os.link(root / "etc/passwd", root / "etc/shadow-link")
    os.symlink("/etc/passwd", root / "link")
    os.chown(root / "link", HERE + 1, HERE + 1, follow_symlinks=False)
    os.mkfifo(root / "pipe", 0o620)
    os.mknod(root / "removed", 0o020000, os.makedev(0, 0))
    (root / "opaque").mkdir()
    os.setxattr(root / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(root / "opaque", "trusted.overlay.origin", b"of this host")
    with (root / "holes").open("wb") as file:
        file.seek(GIGABYTE)
        file.write(b"in the middle")
        file.truncate(2 * GIGABYTE)
    (root / ("long-" * 40 + "name")).write_text("long")
    (root / "etc/näme \udcff").write_text("odd")
    for path in (root / "opaque", root / "holes", root / "pipe", root / ("long-" * 40 + "name"), root / "etc/näme \udcff"):
        os.chown(path, HERE + 65535, HERE + 65535)
    os.utime(root / "etc/passwd", ns=(1_700_000_000_123_456_789,) * 2)
    os.utime(root / "etc", ns=(1_600_000_000_987_654_321,) * 2)
    (tmp_path / "here/logs/kept-0").write_text("said before\n")
    return root


def seen(root: Path, base: int) -> dict[str, tuple[Any, ...]]:
    """All that matters of each file, with the guest's own ids."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            about = path.lstat()
            keys = [] if path.is_symlink() else [key for key in os.listxattr(path) if key.startswith(("user.", "trusted."))]
            content = path.read_bytes() if path.is_file() and about.st_size < 4096 and not path.is_symlink() else about.st_size
            target = os.readlink(path) if path.is_symlink() else ""
            attributes = {key: os.getxattr(path, key) for key in keys if key != "trusted.overlay.origin"}
            ids = (about.st_uid - base, about.st_gid - base) if not path.is_char_device() else (0, 0)
            size = 0 if path.is_dir() else content
            found[str(path.relative_to(root))] = (about.st_mode, ids, about.st_mtime_ns, size, target, attributes, about.st_rdev)
    return found


def test_a_disk_is_the_same_on_another_host(tmp_path: Path, upper: Path) -> None:
    record = {"boots": 3, "injected": True}
    packed = helper(
        {"work": "pack", **{n: str(tmp_path / "here" / n) for n in ("upper", "logs")}, "base": HERE, "record": record}
    )
    assert (packed.returncode, packed.stderr) == (0, b"")
    assert len(packed.stdout) < 1 << 20, "holes are left out"
    there = folders(tmp_path, "there")
    unpacked = helper({"work": "unpack", **there, "base": THERE}, packed.stdout)
    assert (unpacked.returncode, unpacked.stderr) == (0, b"")
    assert json.loads(unpacked.stdout) == record
    assert seen(Path(there["upper"]), THERE) == seen(upper, HERE)
    assert Path(there["logs"], "kept-0").read_text() == "said before\n"
    moved = Path(there["upper"])
    assert os.getxattr(moved / "etc/passwd", "security.capability") == CAPABILITY_3 + struct.pack("<I", THERE)
    assert os.path.samefile(moved / "etc/passwd", moved / "etc/shadow-link")
    assert "trusted.overlay.origin" not in os.listxattr(moved / "opaque")
    holes = moved / "holes"
    assert holes.stat().st_blocks * 512 < 1 << 20
    with holes.open("rb") as file:
        file.seek(GIGABYTE)
        assert file.read(14) == b"in the middle\0"


def test_a_disk_that_is_cut_off_or_leads_out_is_refused(tmp_path: Path, upper: Path) -> None:
    packed = helper(
        {"work": "pack", **{n: str(tmp_path / "here" / n) for n in ("upper", "logs")}, "base": HERE, "record": {}}
    ).stdout
    for number, data in enumerate(
        (packed[:700], packed[: len(packed) // 2], b"no tar at all" * 100, _leading_out("upper/../out"))
    ):
        there = folders(tmp_path, f"cut-{number}")
        refused = helper({"work": "unpack", **there, "base": THERE}, data)
        assert refused.returncode != 0, number
        assert json.loads(refused.stderr.splitlines()[-1])["message"]
        assert not (tmp_path / f"cut-{number}/out").exists()
    there = folders(tmp_path, "by-link")
    assert helper({"work": "unpack", **there, "base": THERE}, _leading_out("upper/away/out", link=str(tmp_path))).returncode != 0
    assert not (tmp_path / "out").exists()


def _leading_out(name: str, link: str = "") -> bytes:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if link:
            away = tarfile.TarInfo("upper/away")
            away.type, away.linkname = tarfile.SYMTYPE, link
            tar.addfile(away)
        tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()
