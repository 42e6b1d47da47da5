"""/proc/cpuinfo as a server sees it: as many processors as its flavor gave, of those that the host has.

The kernel shows every process all processors of the host; what counts them by this file would take the host for its own.
"""

from functools import lru_cache
from pathlib import Path

SHOWN_AT = "/proc/cpuinfo"


@lru_cache(maxsize=1)
def _of_host() -> tuple[str, ...]:
    """What the host's own file says of each processor (proc(5)); empty where it says nothing by processor."""
    parts = Path(SHOWN_AT).read_text().split("\n\n")
    return tuple(part.strip("\n") for part in parts if part.lstrip("\n").startswith("processor"))


def write(file: Path, vcpus: int) -> bool:
    """Write the file in place, so that a running guest sees another number at once. False where this host's file cannot be cut."""
    parts = _of_host()[: max(1, vcpus)]
    if not parts:
        return False
    with file.open("w") as target:
        target.write("".join(f"{part}\n\n" for part in parts))
    file.chmod(0o444)
    return True
