"""What a volume may be called, and what may be asked of it: pure rules.

`NAME@PROFILE` asks for a profile's limits, `NAME@snapshot-PREFIX` for a copy of the volume whose id begins with PREFIX. NAME alone
names the volume from then on. Sizes as Flocker's plugin takes them: 10G, 100MiB, counted in 1024s.
"""

import re
from dataclasses import dataclass

from nacre.cloud.errors import Invalid

OURS = ("local", "nacre", "flocker")
"""Drivers that are the nodes' own volumes. Where a host has a real plugin of the name `flocker`, that one is meant."""
_BASE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]{0,35}")
_SIZE = re.compile(r"(\d{1,15})\s*([KMGTP]?)(?:I?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}
SNAPSHOT = "snapshot-"
NAME_LENGTH_MAX = 255
SIZE_BYTES_MIN = 1 << 20
SIZE_BYTES_MAX = 1 << 50


@dataclass(frozen=True)
class Profile:
    """Rates that hold for reads and for writes, each by itself. None is without limit."""

    iops: int | None = None
    bytes_s: int | None = None


PROFILES: dict[str, Profile] = {
    "gold": Profile(iops=20_000, bytes_s=400 << 20),
    "silver": Profile(iops=3_000, bytes_s=128 << 20),
    "bronze": Profile(iops=500, bytes_s=32 << 20),
    "default": Profile(),
}
"""Gold and silver begin where EBS's provisioned and general volumes do, to which Flocker mapped them; bronze is a single disk's."""


@dataclass(frozen=True)
class VolumeName:
    """`profile` is None where the name asks for none; `snapshot_of` is the beginning of an id."""

    text: str
    base: str
    profile: str | None = None
    snapshot_of: str = ""


@dataclass(frozen=True)
class Options:
    """What `docker volume create -o` may ask of the nodes' own volumes."""

    profile: str | None = None
    size_bytes: int | None = None
    host: str = ""
    """The host on which it must lie, and stay, by its name."""


def parse_name(text: str) -> VolumeName:
    """Raises Invalid."""
    base, at, suffix = text.partition("@")
    if len(text) > NAME_LENGTH_MAX or not _BASE.fullmatch(base):
        raise Invalid(
            f'create {shorten(text)}: "{shorten(text)}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" '
            "are allowed. If you intended to pass a host directory, use absolute path",
            field="Name",
        )
    if not at:
        return VolumeName(text, base)
    if suffix.startswith(SNAPSHOT):
        prefix = suffix.removeprefix(SNAPSHOT).lower()
        if not _PREFIX.fullmatch(prefix):
            raise Invalid(
                f'create {text}: "{suffix}" names no volume: after {SNAPSHOT} comes the beginning of a volume\'s id', field="Name"
            )
        return VolumeName(text, base, snapshot_of=prefix)
    return VolumeName(text, base, profile=check_profile(text, suffix))


def shorten(text: str) -> str:
    return text if len(text) <= NAME_LENGTH_MAX else text[:NAME_LENGTH_MAX] + "..."


def check_profile(name: str, profile: str) -> str:
    """Raises Invalid for one that is not known, naming those that are."""
    if profile not in PROFILES:
        raise Invalid(
            f'create {name}: unknown profile "{profile}"; known are {", ".join(PROFILES)}, '
            f"and {SNAPSHOT}ID for a copy of the volume whose id begins so",
            field="Name",
        )
    return profile


def parse_options(name: str, options: dict[str, str]) -> Options:
    """Raises Invalid, naming the option."""
    unknown = sorted(options.keys() - {"profile", "size", "host"})
    if unknown:
        raise Invalid(f'create {name}: invalid option: "{unknown[0]}"; known are profile, size and host', field="DriverOpts")
    profile = check_profile(name, options["profile"]) if options.get("profile") else None
    size_bytes = parse_size(name, options["size"]) if options.get("size") else None
    return Options(profile, size_bytes, options.get("host", ""))


def parse_size(name: str, text: str) -> int:
    """`10G`, `100MiB`, `1073741824`. Raises Invalid."""
    found = _SIZE.fullmatch(text.strip())
    size_bytes = int(found[1]) << _UNITS[found[2].upper()] if found else 0
    if not SIZE_BYTES_MIN <= size_bytes <= SIZE_BYTES_MAX:
        raise Invalid(
            f'create {name}: invalid size "{text}": a number with K, M, G or T (of 1024), from 1M to 1024T', field="DriverOpts"
        )
    return size_bytes
