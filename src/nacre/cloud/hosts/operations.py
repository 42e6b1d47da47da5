"""Hosts: joining, snapshots for the scheduler, claims."""

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from nacre.cloud.errors import NotFound
from nacre.cloud.hosts import fleet, views
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import HostView, Ratios
from nacre.cloud.scheduler.conditions import slots_of
from nacre.protocol.messages import Hello
from nacre.store import Prepared
from nacre.store.schema import now

Row = dict[str, Any]


def register(conn: sa.Connection, hello: Hello, stream: str = "") -> Row:
    """A host has opened its stream: make or refresh its row. Returns the row; `joined` says whether it is new, `rebooted` that its kernel is."""
    known = conn.execute(sa.select(hosts).where(hosts.c.id == hello.host_id)).mappings().first()
    facts = {
        "hostname": hello.hostname,
        "boot_id": hello.boot_id,
        "hypervisor_type": hello.hypervisor_type,
        "runtimes": list(hello.runtimes),
        "tunnel_ip": hello.tunnel_ip,
        "external": hello.external,
        "underlay_mtu": hello.underlay_mtu,
        "stream": stream,
        "architecture": str(hello.facts.get("architecture") or ""),
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
    fleet.changed(conn, hello.host_id)
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


_STREAM = Prepared(sa.select(hosts.c.stream).where(hosts.c.id == sa.bindparam("host")))


def stream_of(conn: sa.Connection, host_id: str) -> str | None:
    """The id of the latest stream that its node has opened; None where there is no such host."""
    row = _STREAM.first(conn, host=host_id)
    return None if row is None else str(row["stream"])


def snapshot(conn: sa.Connection, alive: Iterable[str] | None, ratios: Ratios) -> list[HostView]:
    """All hosts as the scheduler sees them. `alive` None takes every host for alive."""
    return views.read(conn, None if alive is None else frozenset(alive), ratios)


def view_of(conn: sa.Connection, host_id: str, alive: Collection[str] | None, ratios: Ratios) -> list[HostView]:
    """The one host, in a list, with its row locked to the commit; none where it is not there."""
    _LOCK.run(conn, host=host_id)
    return views.read(conn, alive, ratios, (host_id,))


_BOOKS = [hosts.c.id, *(hosts.c[name] for name in fleet.BOOKS)]
_CLAIMING = (
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
_ROOM = (
    hosts.c.enabled.is_(True),
    hosts.c.forced_down.is_(False),
    hosts.c.acceptance == "accepted",
    *(
        hosts.c[f"claimed_{name}"] + sa.bindparam(f"more_{name}")
        <= sa.cast(hosts.c[name], sa.Float(53)) * sa.bindparam(f"ratio_{name}", type_=sa.Float(53))
        for name in ("vcpus", "memory_mb", "disk_gb")
    ),
    hosts.c.guests < sa.bindparam("guests_max"),
)
"""What the filters of health and room say, and the label of slots, as the row is now."""
_CLAIM = Prepared(_CLAIMING.returning(*_BOOKS))
_TAKE = Prepared(_CLAIMING.where(*_ROOM).returning(*_BOOKS))
_HOLD = Prepared(sa.select(hosts.c.id).where(hosts.c.id == sa.bindparam("host"), *_ROOM).with_for_update())
_LOCK = Prepared(hosts.update().where(hosts.c.id == sa.bindparam("host")).values(generation=hosts.c.generation))
GUESTS_MAX = 2**31


def claim(conn: sa.Connection, host_id: str, *, vcpus: int, memory_mb: int, disk_gb: int, guests: int = 1) -> None:
    """Write a guest into the host's book; with negative figures, strike it out. The host's row is locked from here to the commit.

    Nothing is asked: whoever gives a host more has seen that it fits with the row locked (`take`, `hold`).
    """
    size = {"more_vcpus": vcpus, "more_memory_mb": memory_mb, "more_disk_gb": disk_gb, "more_guests": guests}
    row = _CLAIM.first(conn, host=host_id, **size)
    if row is not None:
        fleet.claimed(conn, row)


def take(conn: sa.Connection, host: HostView, *, vcpus: int, memory_mb: int, disk_gb: int) -> bool:
    """Claim the host for one more guest, if it fits there still: whatever was planned, the row decides. Says whether it did."""
    row = _TAKE.first(conn, more_guests=1, **_bounds(host, vcpus, memory_mb, disk_gb))
    if row is None:
        return False
    fleet.claimed(conn, row)
    return True


def hold(conn: sa.Connection, host: HostView, *, vcpus: int, memory_mb: int, disk_gb: int) -> bool:
    """Lock the host's row to the commit, if one more guest fits there still: the claim comes later in the transaction."""
    return _HOLD.first(conn, **_bounds(host, vcpus, memory_mb, disk_gb)) is not None


def _bounds(host: HostView, vcpus: int, memory_mb: int, disk_gb: int) -> Row:
    ratios, slots = host.ratios, slots_of(host)
    return {
        "host": host.id,
        "more_vcpus": vcpus,
        "more_memory_mb": memory_mb,
        "more_disk_gb": disk_gb,
        "ratio_vcpus": ratios.vcpus,
        "ratio_memory_mb": ratios.memory_mb,
        "ratio_disk_gb": ratios.disk_gb,
        "guests_max": GUESTS_MAX if slots is None else min(slots, GUESTS_MAX),
    }
