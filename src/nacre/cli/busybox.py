"""The image `busybox`: a root file system of one static program, the same bytes each time, made in milliseconds."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import BinaryIO

import click

from nacre.cli import packages

DIRECTORIES = (
    *(
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("etc/init.d", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
    ),
    *(("sbin", 0o755), ("sys", 0o555), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/sbin", 0o755), ("var", 0o755)),
    *(("var/log", 0o755), ("var/run", 0o755), ("var/tmp", 0o1777), ("var/www", 0o755)),
)

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
    "etc/shells": "/bin/sh\n/bin/ash\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
    "etc/hostname": "busybox\n",
    "etc/resolv.conf": "",
    "etc/profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n",
    "etc/os-release": 'NAME="BusyBox"\nID=busybox\nPRETTY_NAME="BusyBox (Nacre)"\n',
}

MODES = {"etc/shadow": 0o600}


def find_program() -> Path:
    """Debian's statically linked busybox."""
    packages.ensure("node")
    found = shutil.which("busybox", path=":".join(packages.PLACES))
    if found is None:
        raise click.ClickException("busybox is missing: apt-get install busybox-static")
    return Path(found).resolve()


def applets(busybox: Path) -> list[str]:
    """Paths without a leading slash: `bin/ash`, `usr/bin/wget`."""
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    return sorted(path for path in set(listed) if path != "bin/busybox")


def entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """A member that says nothing of when and by whom it was made."""
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.mtime, info.uid, info.gid = mode, kind, 0, 0, 0
    info.uname = info.gname = "root"
    return info


def write_tar(target: BinaryIO, *, program: bool = True) -> None:
    """The root file system as a tar of about 2 MB, or (`program` false) its folders and files only."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in DIRECTORIES:
            tar.addfile(entry(name, mode, tarfile.DIRTYPE))
        if program:
            add_program(tar, find_program())
        for name, text in FILES.items():
            add_file(tar, name, text.encode(), MODES.get(name, 0o644))


def add_program(tar: tarfile.TarFile, busybox: Path) -> None:
    """The program, and a link to it for each of its applets."""
    add_file(tar, "bin/busybox", busybox.read_bytes(), 0o755)
    for path in applets(busybox):
        link = entry(path, 0o777, tarfile.SYMTYPE)
        link.linkname = "/bin/busybox"
        tar.addfile(link)


def add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = entry(name, mode)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
