"""Hosts: joining, snapshots for the scheduler, claims."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from nacre.cloud.errors import NotFound
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import HostView, Ratios
from nacre.protocol.messages import Hello
from nacre.store import Prepared
from nacre.store.schema import now

Row = dict[str, Any]


def register(conn: sa.Connection, hello: Hello) -> Row:
    """A host has opened its stream: make or refresh its row. Returns the row; `joined` says whether it is new, `rebooted` that its kernel is."""
    known = conn.execute(sa.select(hosts).where(hosts.c.id == hello.host_id)).mappings().first()
    facts = {
        "hostname": hello.hostname,
        "boot_id": hello.boot_id,
        "hypervisor_type": hello.hypervisor_type,
        "runtimes": list(hello.runtimes),
        "tunnel_ip": hello.tunnel_ip,
        "external": hello.external,
        "vcpus": hello.capacity.vcpus,
        "memory_mb": hello.capacity.memory_mb,
        "disk_gb": hello.capacity.disk_gb,
        "updated_at": now(),
    }
    if known is None:
        conn.execute(hosts.insert().values(id=hello.host_id, created_at=facts["updated_at"], **facts))
    else:
        if known["enrolled"]:
            # Under the name that it was given when it enrolled.
            del facts["hostname"]
        conn.execute(hosts.update().where(hosts.c.id == hello.host_id).values(facts))
    row = dict(conn.execute(sa.select(hosts).where(hosts.c.id == hello.host_id)).mappings().one())
    # One that has enrolled has a row before its node first speaks.
    row["joined"] = known is None or not known["boot_id"]
    row["rebooted"] = not row["joined"] and known is not None and known["boot_id"] != hello.boot_id
    return row


def get(conn: sa.Connection, host_id: str) -> Row:
    """Raises NotFound."""
    row = conn.execute(sa.select(hosts).where(hosts.c.id == host_id)).mappings().first()
    if row is None:
        raise NotFound.of("Host", host_id)
    return dict(row)


def ids(conn: sa.Connection) -> list[str]:
    """The ids of all hosts."""
    return list(conn.execute(sa.select(hosts.c.id)).scalars())


def snapshot(conn: sa.Connection, alive: Iterable[str] | None, ratios: Ratios) -> list[HostView]:
    """All hosts as the scheduler sees them. `alive` None takes every host for alive."""
    living = None if alive is None else frozenset(alive)
    columns = (
        hosts.c.id,
        hosts.c.hostname,
        hosts.c.enabled,
        hosts.c.forced_down,
        hosts.c.availability_zone,
        hosts.c.runtimes,
        hosts.c.vcpus,
        hosts.c.memory_mb,
        hosts.c.disk_gb,
        hosts.c.claimed_vcpus,
        hosts.c.claimed_memory_mb,
        hosts.c.claimed_disk_gb,
        hosts.c.guests,
        hosts.c.labels,
        hosts.c.acceptance,
    )
    return [
        HostView(
            id=row.id,
            hostname=row.hostname,
            enabled=row.enabled,
            alive=not row.forced_down and (living is None or row.id in living),
            availability_zone=row.availability_zone,
            runtimes=frozenset(row.runtimes),
            vcpus=row.vcpus * ratios.vcpus,
            memory_mb=row.memory_mb * ratios.memory_mb,
            disk_gb=row.disk_gb * ratios.disk_gb,
            claimed_vcpus=row.claimed_vcpus,
            claimed_memory_mb=row.claimed_memory_mb,
            claimed_disk_gb=row.claimed_disk_gb,
            guests=row.guests,
            labels=row.labels,
            accepted=row.acceptance == "accepted",
        )
        for row in conn.execute(sa.select(*columns))
    ]


_CLAIM = Prepared(
    hosts.update()
    .where(hosts.c.id == sa.bindparam("host"))
    .values(
        claimed_vcpus=hosts.c.claimed_vcpus + sa.bindparam("more_vcpus"),
        claimed_memory_mb=hosts.c.claimed_memory_mb + sa.bindparam("more_memory_mb"),
        claimed_disk_gb=hosts.c.claimed_disk_gb + sa.bindparam("more_disk_gb"),
        guests=hosts.c.guests + sa.bindparam("more_guests"),
        generation=hosts.c.generation + 1,
    )
)


def claim(conn: sa.Connection, host_id: str, *, vcpus: int, memory_mb: int, disk_gb: int, guests: int = 1) -> None:
    """Write a guest into the host's book; with negative figures, strike it out. The host's row is locked from here to the commit."""
    _CLAIM.run(conn, host=host_id, more_vcpus=vcpus, more_memory_mb=memory_mb, more_disk_gb=disk_gb, more_guests=guests)
