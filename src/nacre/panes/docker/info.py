"""GET /info: the whole cloud as one engine, as the project sees it."""

import platform
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers import listing
from nacre.cloud.containers.refusals import RUNTIMES
from nacre.cloud.containers.states import status_of
from nacre.cloud.context import Context
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.image.tables import images
from nacre.cloud.scheduler import Strategy
from nacre.panes.docker import nodes
from nacre.panes.docker.dialect import ENGINE_VERSION
from nacre.panes.docker.render import STORAGE_DRIVER
from nacre.panes.edge import Call, Reply, Route
from nacre.store.schema import now

Row = dict[str, Any]

STOPPED = ("created", "exited", "removing")
VOLUME_DRIVERS = ("local",)
NETWORK_DRIVERS = ("bridge", "host", "none")
LOG_DRIVERS = ("json-file", "none")
SECURITY_OPTIONS = ("name=seccomp,profile=builtin", "name=userns")

INACTIVE: Row = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}
"""`Swarm`: an engine outside of swarm mode."""

PROMISES: tuple[str, ...] = (
    "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "IPv4Forwarding",
)
"""What the hosts can do; the CLI warns of those that are false."""


def _counted(conn: sa.Connection, ctx: Context, alive: frozenset[str], strategy: Strategy) -> Row:
    own = listing.of_project(conn, ctx)
    states: Counter[str] = Counter(status_of(row) for row in own)
    return {
        "Containers": states.total(),
        "ContainersRunning": states["running"] + states["restarting"],
        "ContainersPaused": states["paused"],
        "ContainersStopped": sum(states[name] for name in STOPPED),
        "Images": _images(conn, ctx),
        "SystemStatus": nodes.table(conn, ctx, own, alive, strategy, now()),
        **_capacity(conn),
    }


def _images(conn: sa.Connection, ctx: Context) -> int:
    own = sa.or_(images.c.owner == ctx.project_id, images.c.visibility == "public")
    select = sa.select(sa.func.count()).where(images.c.container_format == "docker", images.c.status == "active", own)
    return int(conn.execute(select).scalar() or 0)


def _capacity(conn: sa.Connection) -> Row:
    sums = sa.select(sa.func.sum(hosts.c.vcpus), sa.func.sum(hosts.c.memory_mb)).where(hosts.c.enabled)
    vcpus, memory_mb = conn.execute(sums).one()
    return {"NCPU": int(vcpus or 0), "MemTotal": int(memory_mb or 0) << 20}


async def info(call: Call) -> Reply:
    settings = call.cloud.settings
    counted = await call.read(_counted, call.cloud.hosts.alive(), settings.strategy)
    return Reply(
        {
            "ID": settings.cloud_id,
            **counted,
            "Driver": STORAGE_DRIVER,
            "DriverStatus": [],
            "Plugins": {"Volume": VOLUME_DRIVERS, "Network": NETWORK_DRIVERS, "Authorization": None, "Log": LOG_DRIVERS},
            **dict.fromkeys(PROMISES, True),
            "OomKillDisable": False,
            "Debug": False,
            "NFd": 0,
            "NGoroutines": 0,
            "NEventsListener": 0,
            "SystemTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "KernelVersion": platform.release(),
            "OperatingSystem": _system(),
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": platform.machine(),
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"], "IndexConfigs": {}, "Mirrors": []},
            "GenericResources": None,
            "DockerRootDir": "",
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "Name": f"nacre-{settings.cloud_id}",
            "Labels": [],
            "ExperimentalBuild": False,
            "ServerVersion": ENGINE_VERSION,
            "Runtimes": {name: {"path": name} for name in RUNTIMES if name},
            "DefaultRuntime": "runc",
            "Swarm": INACTIVE,
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "nacre-init",
            "SecurityOptions": list(SECURITY_OPTIONS),
            "Warnings": [],
        }
    )


@lru_cache
def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


ROUTES: tuple[Route, ...] = (Route("GET", "/info", info, "docker:system", "Show the engine: counts, capacity, drivers"),)
