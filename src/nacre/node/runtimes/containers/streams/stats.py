"""Figures of a guest: its cgroups' counters (version 1, 2 and hybrid hosts), its interfaces, its processes.

The documents are those of the Docker API (ContainerStats), without the sample before, which is the reader's to add.
"""

import asyncio
import contextlib
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from nacre.node.drivers import Talk
from nacre.node.runtimes.containers.streams.guests import Conflict, Guests, first_pid
from nacre.protocol.streams import Channel, Exit, Started

SAMPLE_EVERY_S = 1.0
PS_WAIT_S = 10.0
PS_ARGUMENTS = "-ef"
_NANOS = 1_000_000_000
_INTERFACE = ("bytes", "packets", "errors", "dropped")
_OPS = {"rbytes": "read", "wbytes": "write", "dbytes": "discard"}


def _numbers(path: Path | None) -> dict[str, int]:
    """A file of `name value` lines; empty where it is not there."""
    found = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            found[name] = int(value)
    return found


def _text(path: Path | None) -> str:
    try:
        return path.read_text() if path is not None else ""
    except OSError:
        return ""


def _number(path: Path | None) -> int:
    """0 where it is not there, or says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


class Stats:
    """Belongs to the driver's event loop; the reads are of a few files in memory."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests

    async def serve(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        """A document a second until the client goes, or one."""
        await talk.control(Started())
        watching = asyncio.create_task(_until_gone(talk))
        try:
            while not watching.done():
                await talk.send(Channel.STDOUT, msgspec.json.encode(self.sample(guest_id)))
                if not params.get("stream"):
                    break
                await asyncio.wait((watching,), timeout=SAMPLE_EVERY_S)
            await talk.control(Exit())
        finally:
            watching.cancel()

    def sample(self, guest_id: str) -> dict[str, Any]:
        """Raises LookupError once the guest is gone."""
        record, parts = self._guests.record(guest_id), self._guests.parts
        pid = parts.first_pid(guest_id) if record.phase == "running" else None
        if pid is None:
            return {"read": "0001-01-01T00:00:00Z", "pids_stats": {}, "cpu_stats": _NO_CPU, "memory_stats": {}, "blkio_stats": {}}
        at = parts.cgroups.folder
        v2 = parts.cgroups.v2_only
        limit = _number(_in(at("pids", guest_id), "pids.max"))
        found: dict[str, Any] = {
            "read": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z",
            "pids_stats": {"current": _number(_in(at("pids", guest_id), "pids.current")), **({"limit": limit} if limit else {})},
            "cpu_stats": _cpu_v2(at("cpu", guest_id)) if v2 else _cpu_v1(at("cpuacct", guest_id), at("cpu", guest_id)),
            "memory_stats": (_memory_v2 if v2 else _memory_v1)(at("memory", guest_id)),
            "blkio_stats": _block_v2(at("io", guest_id)) if v2 else _block_v1(at("blkio", guest_id)),
        }
        container = record.guest.container
        if container is None or container.network != "host":
            found["networks"] = interfaces(pid)
        return found


async def _until_gone(talk: Talk) -> None:
    while await talk.receive() is not None:
        pass


def _in(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _host_cpu() -> dict[str, int]:
    """Of the whole host: nanoseconds of all its processors, busy or not (proc(5), /proc/stat), and how many they are."""
    with open("/proc/stat") as file:
        ticks = sum(int(word) for word in file.readline().split()[1:9])
    return {"system_cpu_usage": ticks * _NANOS // os.sysconf("SC_CLK_TCK"), "online_cpus": len(os.sched_getaffinity(0))}


_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def _cpu_v2(folder: Path | None) -> dict[str, Any]:
    said = _numbers(_in(folder, "cpu.stat"))
    return {
        "cpu_usage": {
            "total_usage": said.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": said.get("system_usec", 0) * 1000,
            "usage_in_usermode": said.get("user_usec", 0) * 1000,
        },
        **_host_cpu(),
        "throttling_data": {
            "periods": said.get("nr_periods", 0),
            "throttled_periods": said.get("nr_throttled", 0),
            "throttled_time": said.get("throttled_usec", 0) * 1000,
        },
    }


def _cpu_v1(usage: Path | None, limits: Path | None) -> dict[str, Any]:
    said, throttled = _numbers(_in(usage, "cpuacct.stat")), _numbers(_in(limits, "cpu.stat"))
    tick = _NANOS // os.sysconf("SC_CLK_TCK")
    each = [int(word) for word in _text(_in(usage, "cpuacct.usage_percpu")).split()]
    return {
        "cpu_usage": {
            "total_usage": _number(_in(usage, "cpuacct.usage")),
            **({"percpu_usage": each} if each else {}),
            "usage_in_kernelmode": said.get("system", 0) * tick,
            "usage_in_usermode": said.get("user", 0) * tick,
        },
        **_host_cpu(),
        "throttling_data": {
            "periods": throttled.get("nr_periods", 0),
            "throttled_periods": throttled.get("nr_throttled", 0),
            "throttled_time": throttled.get("throttled_time", 0),
        },
    }


def _host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _memory_v2(folder: Path | None) -> dict[str, Any]:
    return {
        "usage": _number(_in(folder, "memory.current")),
        "stats": _numbers(_in(folder, "memory.stat")),
        "limit": _number(_in(folder, "memory.max")) or _host_memory(),
    }


def _memory_v1(folder: Path | None) -> dict[str, Any]:
    return {
        "usage": _number(_in(folder, "memory.usage_in_bytes")),
        "max_usage": _number(_in(folder, "memory.max_usage_in_bytes")),
        "failcnt": _number(_in(folder, "memory.failcnt")),
        "stats": _numbers(_in(folder, "memory.stat")),
        "limit": min(_number(_in(folder, "memory.limit_in_bytes")) or _host_memory(), _host_memory()),
    }


def _block_v2(folder: Path | None) -> dict[str, Any]:
    found = []
    for line in _text(_in(folder, "io.stat")).splitlines():
        device, *figures = line.split()
        major, _, minor = device.partition(":")
        for figure in figures:
            name, _, value = figure.partition("=")
            if name in _OPS:
                found.append({"major": int(major), "minor": int(minor), "op": _OPS[name], "value": int(value)})
    return {"io_service_bytes_recursive": found}


def _block_v1(folder: Path | None) -> dict[str, Any]:
    """Of the files that a kernel may have, the first that says something."""
    for name in ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"):
        found = []
        for line in _text(_in(folder, name)).splitlines():
            words = line.split()
            if len(words) == 3:
                major, _, minor = words[0].partition(":")
                found.append({"major": int(major), "minor": int(minor), "op": words[1], "value": int(words[2])})
        if found:
            return {"io_service_bytes_recursive": found}
    return {"io_service_bytes_recursive": []}


def interfaces(pid: int) -> dict[str, dict[str, int]]:
    """The counters of the network interfaces that the process sees, without the loopback (proc(5), /proc/PID/net/dev)."""
    found = {}
    for line in _text(Path(f"/proc/{pid}/net/dev")).splitlines()[2:]:
        name, _, rest = line.partition(":")
        figures = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(figures) >= 12:
            received, sent = figures[:4], figures[8:12]
            found[name.strip()] = {f"rx_{what}": value for what, value in zip(_INTERFACE, received, strict=True)} | {
                f"tx_{what}": value for what, value in zip(_INTERFACE, sent, strict=True)
            }
    return found


async def top(guests: Guests, guest_id: str, arguments: str) -> dict[str, Any]:
    """ps(1) with these arguments, of whose lines the guest's own are shown. Raises ValueError, Conflict."""
    first_pid(guests, guest_id, frozen_too=True)
    words = shlex.split(arguments or PS_ARGUMENTS)
    # A column under another title could pass for the one that says whose line it is.
    if any("=" in word and not word.startswith("--sort=") for word in words):
        raise ValueError(f"specifying titles of ps's columns is not allowed: {arguments}")
    own = {str(pid) for pid in guests.parts.cgroups.processes(guest_id)}
    if not own:
        raise Conflict(f"container {guest_id} is not running")
    process = await asyncio.create_subprocess_exec(
        *("ps", *words, "-q", ",".join(sorted(own))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", os.defpath), "COLUMNS": "4096", "LC_ALL": "C"},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PS_WAIT_S)
    except TimeoutError:
        process.kill()
        raise OSError("ps does not come to an end") from None
    if process.returncode:
        raise ValueError(f"ps: {err.decode(errors='replace').strip()[:500]}")
    titles, *lines = [line.split() for line in out.decode(errors="replace").splitlines() if line.strip()] or [[]]
    if "PID" not in titles:
        raise ValueError("Couldn't find PID field in ps output")
    place, last = titles.index("PID"), len(titles) - 1
    shown = [[*line[:last], " ".join(line[last:])] for line in lines if len(line) > place and line[place] in own]
    return {"Titles": titles, "Processes": shown}
