"""Facts of the operating system, the processors, memory and the machine."""

import grp
import os
import platform
import pwd
import time
from typing import Any

from nacre.node.facts.source import Source, share_text, size_text

FAMILIES = {
    "Debian": {"debian", "ubuntu", "linuxmint", "raspbian", "kali", "devuan"},
    "RedHat": {"rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn", "scientific"},
    "Suse": {"suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed", "sled"},
    "Archlinux": {"arch", "manjaro"},
    "Gentoo": {"gentoo"},
    "Alpine": {"alpine"},
}
"""os.family -> the ids of os-release(5)."""
NAMES = {
    "debian": "Debian",
    "ubuntu": "Ubuntu",
    "rhel": "RedHat",
    "fedora": "Fedora",
    "centos": "CentOS",
    "rocky": "Rocky",
    "almalinux": "AlmaLinux",
    "ol": "OracleLinux",
    "amzn": "Amazon",
    "sles": "SLES",
    "opensuse-leap": "OpenSuSE",
    "arch": "Archlinux",
    "alpine": "Alpine",
    "linuxmint": "LinuxMint",
}
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "i386", "armv7l": "armhf", "ppc64le": "ppc64el"}
DMI = {
    "bios": {"release_date": "bios_date", "vendor": "bios_vendor", "version": "bios_version"},
    "board": {"manufacturer": "board_vendor", "product": "board_name", "serial_number": "board_serial"},
    "chassis": {"asset_tag": "chassis_asset_tag"},
    "product": {"name": "product_name", "serial_number": "product_serial", "uuid": "product_uuid"},
}
"""dmi.X.Y -> the file under /sys/class/dmi/id."""


def release(full: str) -> dict[str, str]:
    parts = full.split(".")
    return {"full": full, "major": parts[0]} | ({"minor": parts[1]} if len(parts) > 1 else {})


def operating_system(source: Source) -> dict[str, Any]:
    known = source.pairs("etc/os-release", "=") or source.pairs("usr/lib/os-release", "=")
    ident = known.get("ID", "linux")
    family = next((name for name, ids in FAMILIES.items() if ids & {ident, *known.get("ID_LIKE", "").split()}), "Linux")
    name = NAMES.get(ident, known.get("NAME", "Linux").split(" ")[0])
    full = known.get("VERSION_ID", "")
    if ident == "debian":
        full = source.text("etc/debian_version") or full
    machine = platform.machine()
    version = release(full) if full else {}
    distro = {
        "codename": known.get("VERSION_CODENAME", ""),
        "description": _description(known, full),
        "id": name,
        "release": version,
    }
    return {
        "architecture": DEBIAN_ARCHITECTURES.get(machine, machine) if family == "Debian" else machine,
        "distro": distro,
        "family": family,
        "hardware": machine,
        "name": name,
        "release": version,
        "selinux": selinux(source),
    }


def _description(known: dict[str, str], full: str) -> str:
    return known.get("PRETTY_NAME") or f"{known.get('NAME', 'Linux')} {full}".strip()


def selinux(source: Source) -> dict[str, Any]:
    """`enforced` is there on hosts without SELinux too, so that an expression may ask for false."""
    enforce = source.text("sys/fs/selinux/enforce")
    if not enforce:
        return {"enabled": False, "enforced": False}
    configured = source.pairs("etc/selinux/config", "=")
    return {
        "enabled": True,
        "enforced": enforce == "1",
        "current_mode": "enforcing" if enforce == "1" else "permissive",
        "config_mode": configured.get("SELINUX", ""),
        "config_policy": configured.get("SELINUXTYPE", ""),
        "policy_version": source.text("sys/fs/selinux/policyvers"),
    }


def kernel(source: Source) -> dict[str, Any]:
    """As uname(2) has it: 6.1.0-18-amd64 is of version 6.1.0 and major version 6.1."""
    full = platform.release()
    version = full.split("-")[0]
    return {
        "kernel": platform.system(),
        "kernelrelease": full,
        "kernelversion": version,
        "kernelmajversion": ".".join(version.split(".")[:2]),
    }


def processors(source: Source) -> dict[str, Any]:
    models, cores, sockets, flags, siblings = [], set(), set(), "", 1
    mhz = 0.0
    for line in source.lines("proc/cpuinfo"):
        key, _, value = (part.strip() for part in line.partition(":"))
        match key:
            case "model name" | "Processor":
                models.append(value)
            case "physical id":
                sockets.add(value)
            case "core id":
                cores.add((len(sockets), value))
            case "siblings":
                siblings = int(value)
            case "cpu MHz":
                mhz = max(mhz, float(value))
            case "flags" | "Features":
                flags = value
    count = os.cpu_count() or 1
    per_socket = max(1, len(cores) // max(1, len(sockets)))
    return {
        "count": count,
        "physicalcount": max(1, len(sockets)),
        "cores": per_socket,
        "threads": max(1, siblings // per_socket),
        "models": models,
        "isa": platform.machine(),
        "extensions": [platform.machine(), *(level for level in _levels(set(flags.split())))],
    } | ({"speed": f"{mhz / 1000:.2f} GHz" if mhz >= 1000 else f"{mhz:.2f} MHz"} if mhz else {})


_LEVELS = (
    ("x86_64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86_64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}),
    ("x86_64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def _levels(flags: set[str]) -> list[str]:
    """The levels of the x86-64 psABI that the processor has."""
    found = []
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        found.append(name)
    return found


def memory(source: Source) -> dict[str, Any]:
    """Of the system and of swap (none: not there), as /proc/meminfo has it."""
    known = {name: int(value.split()[0]) * 1024 for name, value in source.pairs("proc/meminfo", ":").items() if value}
    total = known.get("MemTotal", 0)
    free = known.get("MemAvailable", known.get("MemFree", 0) + known.get("Buffers", 0) + known.get("Cached", 0))
    found = {"system": _usage(total, free)}
    if known.get("SwapTotal"):
        found["swap"] = _usage(known["SwapTotal"], known.get("SwapFree", 0))
    return found


def _usage(total: int, free: int) -> dict[str, Any]:
    return {
        "total": size_text(total),
        "total_bytes": total,
        "available": size_text(free),
        "available_bytes": free,
        "used": size_text(total - free),
        "used_bytes": total - free,
        "capacity": share_text(total - free, total),
    }


def load_averages(source: Source) -> dict[str, float]:
    values = source.text("proc/loadavg").split()[:3]
    return {name: float(value) for name, value in zip(("1m", "5m", "15m"), values, strict=False)}


def uptime(source: Source) -> dict[str, Any]:
    """To the minute: what changes with every second would be sent with every beat."""
    seconds = int(float(source.text("proc/uptime").split(" ")[0] or 0)) // 60 * 60
    days, hours = seconds // 86_400, seconds // 3600
    text = f"{days} day{'s' if days > 1 else ''}" if days else f"{hours}:{seconds // 60 % 60:02} hours"
    return {"seconds": seconds, "hours": hours, "days": days, "uptime": text}


def dmi(source: Source) -> dict[str, Any]:
    """What the firmware says; empty parts are left out."""
    found: dict[str, Any] = {}
    for part, rows in DMI.items():
        values = {name: text for name, file in rows.items() if (text := source.text(f"sys/class/dmi/id/{file}"))}
        if values:
            found[part] = values
    manufacturer = source.text("sys/class/dmi/id/sys_vendor")
    return found | ({"manufacturer": manufacturer} if manufacturer else {})


def identity(source: Source) -> dict[str, Any]:
    uid, gid = os.geteuid(), os.getegid()
    try:
        user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
    except KeyError:
        user, group = str(uid), str(gid)
    return {"uid": uid, "user": user, "gid": gid, "group": group, "privileged": uid == 0}


def domain(source: Source, hostname: str) -> str:
    """What follows the host's name in it, in /etc/hosts or in resolv.conf(5). No name server is asked: it may not answer."""
    short, _, rest = hostname.partition(".")
    if rest:
        return rest
    for line in source.lines("etc/hosts"):
        for name in line.partition("#")[0].split()[1:]:
            if name.startswith(f"{short}."):
                return name.removeprefix(f"{short}.")
    known = source.pairs("etc/resolv.conf", " ")
    return (known.get("domain") or known.get("search", "")).split(" ")[0].strip(".")


def timezone(source: Source) -> str:
    return time.tzname[0]


def filesystems(source: Source) -> str:
    """Those that lie on block devices, as /proc/filesystems has them, with commas between."""
    names = {line.strip() for line in source.lines("proc/filesystems") if not line.startswith("nodev")}
    return ",".join(sorted(names - {"fuseblk"}))


def fips(source: Source) -> bool:
    return source.text("proc/sys/crypto/fips_enabled") == "1"
