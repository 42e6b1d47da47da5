"""Looking up cgroups on a machine where other clouds come and go."""

import fnmatch
import os
from pathlib import Path


def cgroups(pattern: str) -> list[Path]:
    """What matches `NAME` or `NAME/...` anywhere below /sys/fs/cgroup. A `**` of pathlib fails when a folder of others goes meanwhile."""
    name, _, rest = pattern.partition("/")
    found = list[Path]()
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        for one in fnmatch.filter(below, name):
            found += Path(folder, one).glob(rest) if rest else [Path(folder, one)]
    return found
