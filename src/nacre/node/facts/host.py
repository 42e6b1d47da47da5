"""What a host says of itself in its Hello beside the facts."""

import os
import shutil
import socket
from pathlib import Path

from nacre.protocol.messages import Capacity

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's id of this boot (random(4))."""
    return BOOT_ID.read_text().strip()


def hostname() -> str:
    return socket.gethostname()


def capacity(state_dir: Path) -> Capacity:
    """CPUs, memory (MB) and the size of the file system under `state_dir` (GB)."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(state_dir)
    return Capacity(vcpus=os.cpu_count() or 1, memory_mb=pages * page_bytes // 2**20, disk_gb=disk.total // 2**30)
