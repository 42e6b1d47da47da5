"""Facts of disks, partitions and mount points."""

import os
import re
from typing import Any

from nacre.node.facts.source import Source, share_text, size_text

DISKS_MAX = 128
MOUNTS_MAX = 64
SECTOR_BYTES = 512
_DISK = re.compile(r"(sd|vd|xvd|hd)[a-z]+|nvme\d+n\d+|mmcblk\d+|dasd[a-z]+|pmem\d+")
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "vfat", "tmpfs", "overlay", "erofs", "squashfs"})
"""File systems that are asked for their usage. One of the network, or of a process, may never answer."""


def disks(source: Source) -> dict[str, Any]:
    """The whole block devices that hold data."""
    found: dict[str, Any] = {}
    for name in source.names("sys/block"):
        if not _DISK.fullmatch(name) or len(found) >= DISKS_MAX:
            continue
        folder = f"sys/block/{name}"
        count = int(source.text(f"{folder}/size") or 0) * SECTOR_BYTES
        rotational = source.text(f"{folder}/queue/rotational")
        values = {
            "model": source.text(f"{folder}/device/model"),
            "vendor": source.text(f"{folder}/device/vendor"),
            "serial": source.text(f"{folder}/serial") or source.text(f"{folder}/device/serial"),
            "wwn": source.text(f"{folder}/wwid") or source.text(f"{folder}/device/wwid"),
            "type": {"0": "ssd", "1": "hdd"}.get(rotational, ""),
        }
        found[name] = {"size": size_text(count), "size_bytes": count} | {key: text for key, text in values.items() if text}
    return found


def partitions(source: Source) -> dict[str, Any]:
    mounts = {device: point for device, point, _, _ in _mounts(source)}
    found = {}
    for disk in disks(source):
        for name in source.names(f"sys/block/{disk}"):
            count = source.text(f"sys/block/{disk}/{name}/size") if name.startswith(disk) else ""
            if count:
                size = int(count) * SECTOR_BYTES
                mount = mounts.get(f"/dev/{name}")
                found[f"/dev/{name}"] = {"size": size_text(size), "size_bytes": size} | ({"mount": mount} if mount else {})
    return found


def mountpoints(source: Source) -> dict[str, Any]:
    """Where each device is mounted first (binds of it are left out); the usage is rounded to a percent, as it never rests."""
    found: dict[str, Any] = {}
    devices = set()
    for device, point, kind, options in _mounts(source):
        if kind not in _LOCAL or device in devices or len(found) >= MOUNTS_MAX or (not device.startswith("/") and point != "/"):
            continue
        devices.add(device)
        try:
            seen = os.statvfs(source.path(point.lstrip("/")))
        except OSError:
            continue
        total, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
        step = max(total // 100, 1)
        free = free // step * step
        used = total - free
        found[point] = {
            "device": device,
            "filesystem": kind,
            "options": options,
            "size": size_text(total),
            "size_bytes": total,
            "available": size_text(free),
            "available_bytes": free,
            "used": size_text(used),
            "used_bytes": used,
            "capacity": share_text(used, total),
        }
    return found


def _mounts(source: Source) -> list[tuple[str, str, str, list[str]]]:
    """(device, mount point, type, options) of proc(5)'s mounts, with octal escapes undone. A node's own mounts are under its state."""
    found = []
    for line in source.lines("proc/self/mounts"):
        fields = line.split(" ")
        if len(fields) >= 4:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
            found.append((fields[0], point, fields[2], fields[3].split(",")))
    return found
