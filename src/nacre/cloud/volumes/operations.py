"""Volumes: make, find, remove, prune. A volume is an intent on a host; its node makes it and says so.

A name that is there already is that volume. A copy is made of the volume as it is when its host comes to it; both lie on one host.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.containers.tables import containers
from nacre.cloud.containers.tables import events as container_events
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.hosts.desired import mark
from nacre.cloud.volumes import placing, quotas
from nacre.cloud.volumes.rules import OURS, Options, VolumeName, parse_name, parse_options, shorten
from nacre.cloud.volumes.tables import volumes
from nacre.store import elements
from nacre.store.schema import new_hex_id, new_id, now

Row = dict[str, Any]

AMBIGUOUS_SHOWN_MAX = 5
DRIVER_LENGTH_MAX = 128


@dataclass(frozen=True)
class VolumeSpec:
    """What is asked for. `name` empty: one is made up."""

    name: str = ""
    driver: str = ""
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    anonymous: bool = False
    """It goes with the container for which it was made, if that is removed with its volumes."""


def create(conn: sa.Connection, ctx: Context, spec: VolumeSpec, *, alive: frozenset[str] | None) -> Row:
    """The volume of that name, made if it is not there. `alive` None takes every host for alive.

    Raises Invalid, NotFound (driver, host, source), Conflict (the name is another kind of volume's), OverQuota.
    """
    if ctx.project_id is None:
        raise Forbidden("A volume needs a project: use a project-scoped token.")
    text = spec.name or new_hex_id() + new_hex_id()
    plugin = plugin_of(conn, spec.driver, text)
    name = VolumeName(text, text) if plugin else parse_name(text)
    options = Options() if plugin else parse_options(text, spec.options)
    known = _by_base(conn, ctx, name.base) if spec.name else None
    if known is not None:
        _check_same(known, spec, name, options, plugin)
        if options.host:
            return placing.move(conn, known, placing.by_hostname(conn, text, options.host, alive), used=True)
        return known
    row = _row(ctx, spec, name, options, plugin)
    if name.snapshot_of:
        row |= _copied(conn, ctx, text, name.snapshot_of, options)
    if options.host:
        host_id = placing.by_hostname(conn, text, options.host, alive)
        if row["host_id"] not in (None, host_id):
            raise Conflict(f"create {text}: the volume of which it is a copy is not on the host {options.host}")
        row |= {"host_id": host_id, "used": True}
    row["host_id"] = row["host_id"] or placing.choose(conn, plugin, alive)
    quotas.check(conn, ctx.project_id, row["size_bytes"])
    conn.execute(volumes.insert().values(row))
    if row["host_id"]:
        mark(conn, row["host_id"], "volume", row["id"])
    tell(conn, row, "create")
    return row


def plugin_of(conn: sa.Connection, driver: str, volume: str) -> str:
    """The plugin behind a driver's name, empty for the nodes' own. Raises NotFound."""
    if driver in ("", "local", "nacre"):
        return ""
    if len(driver) <= DRIVER_LENGTH_MAX and placing.has_plugin(conn, driver):
        return driver
    if driver in OURS:
        return ""
    driver = driver[:DRIVER_LENGTH_MAX]
    raise NotFound(f'create {shorten(volume)}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def _check_same(known: Row, spec: VolumeSpec, name: VolumeName, options: Options, plugin: str) -> None:
    """Whoever asks for a volume that is there must mean that volume. Raises Conflict."""
    if spec.driver and known["plugin"] != plugin:
        raise Conflict(f"create {name.text}: conflict: volume {known['name']} exists already, with driver {known['driver']}")
    asked = {profile for profile in (name.profile, options.profile) if profile is not None}
    has = known["profile"] or "default"
    if asked - {has}:
        raise Conflict(f"create {name.text}: conflict: volume {known['name']} exists already, with profile {has}")
    if options.size_bytes is not None and options.size_bytes != known["size_bytes"]:
        raise Conflict(f"create {name.text}: conflict: volume {known['name']} exists already, with another size")


def _row(ctx: Context, spec: VolumeSpec, name: VolumeName, options: Options, plugin: str) -> Row:
    if name.profile and options.profile and name.profile != options.profile:
        raise Invalid(f"create {name.text}: the name asks for profile {name.profile}, the options for {options.profile}")
    return {
        "id": new_id(),
        "project_id": ctx.project_id,
        "name": name.text,
        "base": name.base,
        "driver": spec.driver or "local",
        "plugin": plugin,
        "profile": name.profile or options.profile or "",
        "size_bytes": options.size_bytes,
        "source_id": "",
        "options": spec.options,
        "labels": spec.labels,
        "anonymous": spec.anonymous,
        "used": False,
        "host_id": None,
        "gone": False,
        "observed": None,
        "state": None,
        "fault": "",
        "created_at": now(),
    }


def _copied(conn: sa.Connection, ctx: Context, text: str, prefix: str, options: Options) -> Row:
    """What a copy has of its source. Raises NotFound, Conflict (ambiguous)."""
    wanted = prefix.replace("-", "")
    rows = [row for row in _of_project(conn, ctx) if row["id"].replace("-", "").startswith(wanted)]
    if not rows:
        raise NotFound(f'create {text}: no volume has an id that begins with "{prefix}"')
    if len(rows) > 1:
        those = ", ".join(f"{row['id']} ({row['name']})" for row in rows[:AMBIGUOUS_SHOWN_MAX])
        raise Conflict(f'create {text}: {len(rows)} volumes have ids that begin with "{prefix}": {those}; give more of the id')
    source = rows[0]
    if source["plugin"]:
        raise Invalid(f"create {text}: there are no snapshots of volume {source['name']}: driver {source['driver']} makes it")
    if source["host_id"] is None:
        raise Conflict(f"create {text}: volume {source['name']} is on no host yet: there is nothing to copy")
    placing.move(conn, source, source["host_id"], used=True)
    return {
        "source_id": source["id"],
        "host_id": source["host_id"],
        "profile": options.profile or source["profile"],
        "size_bytes": options.size_bytes or source["size_bytes"],
    }


def _of_project(conn: sa.Connection, ctx: Context) -> list[Row]:
    where = (volumes.c.project_id == ctx.project_id, volumes.c.gone.is_(False))
    return [dict(row) for row in conn.execute(sa.select(volumes).where(*where).order_by(volumes.c.name)).mappings()]


def _by_base(conn: sa.Connection, ctx: Context, base: str) -> Row | None:
    where = (volumes.c.project_id == ctx.project_id, volumes.c.base == base, volumes.c.gone.is_(False))
    row = conn.execute(sa.select(volumes).where(*where)).mappings().first()
    return dict(row) if row is not None else None


def get(conn: sa.Connection, ctx: Context, name: str) -> Row:
    """By its name, as it was given, without what stands behind the @, or with the profile that it has. Raises NotFound."""
    base, at, suffix = name.partition("@")
    row = _by_base(conn, ctx, name) or _by_base(conn, ctx, base)
    if row is None or (at and name != row["name"] and suffix != (row["profile"] or "default")):
        raise NotFound(f"get {shorten(name)}: no such volume", code="VolumeNotFound")
    return row


def find(conn: sa.Connection, ctx: Context) -> list[Row]:
    """The project's volumes by name; `users` holds the ids of the containers that use each."""
    using = users(conn, ctx)
    return [{**row, "users": using.get(row["id"], [])} for row in _of_project(conn, ctx)]


def users(conn: sa.Connection, ctx: Context) -> dict[str, list[str]]:
    """Volume id -> the servers of the project whose containers mount it; those that are to be removed do not count."""
    each = elements(containers.c.spec, "mounts")
    volume_id = each.c.value["volume_id"].as_string()
    statement = (
        sa.select(volume_id, containers.c.server_id)
        .select_from(containers.join(servers, servers.c.id == containers.c.server_id).join(each, sa.true()))
        .where(containers.c.project_id == ctx.project_id, servers.c.gone.is_(False), volume_id.is_not(None))
        .distinct()
        .order_by(containers.c.server_id)
    )
    found: dict[str, list[str]] = {}
    for ident, server_id in conn.execute(statement):
        found.setdefault(ident, []).append(server_id)
    return found


def remove(conn: sa.Connection, ctx: Context, name: str, *, force: bool = False) -> None:
    """The intent `gone`. Raises NotFound (not if forced), Conflict while a container uses it, or a copy of it is still to be made."""
    try:
        row = get(conn, ctx, name)
    except NotFound:
        if force:
            return
        raise
    using = users(conn, ctx).get(row["id"])
    if using:
        those = ", ".join(map(docker_id, using))
        raise Conflict(f"remove {row['name']}: volume is in use - [{those}]", code="VolumeInUse")
    copies = unmade_copies(conn, row["id"])
    if copies:
        raise Conflict(
            f"remove {row['name']}: volume is in use - a copy of it is being made: {', '.join(copies)}", code="VolumeInUse"
        )
    discard(conn, row)


def unmade_copies(conn: sa.Connection, volume_id: str) -> list[str]:
    where = (volumes.c.source_id == volume_id, volumes.c.gone.is_(False), volumes.c.observed.is_distinct_from("active"))
    return list(conn.execute(sa.select(volumes.c.name).where(*where)).scalars())


def discard(conn: sa.Connection, row: Row) -> None:
    """Its name is free at once; the row goes when its host says that nothing is left."""
    tell(conn, row, "destroy")
    if row["host_id"] is None:
        conn.execute(volumes.delete().where(volumes.c.id == row["id"]))
        return
    conn.execute(volumes.update().where(volumes.c.id == row["id"]).values(gone=True, base=f"@{row['id']}"))
    mark(conn, row["host_id"], "volume", row["id"])


def prune(conn: sa.Connection, ctx: Context, names: Sequence[str]) -> list[Row]:
    """Of these volumes, those that nothing uses are removed. Returns them."""
    using = users(conn, ctx)
    removed = []
    for row in _of_project(conn, ctx):
        if row["name"] in names and row["id"] not in using and not unmade_copies(conn, row["id"]):
            discard(conn, row)
            removed.append(row)
    return removed


def tell(conn: sa.Connection, row: Row, action: str) -> None:
    """Write the event that `docker events` shows."""
    event = {"project_id": row["project_id"], "type": "volume", "action": action, "actor_id": row["name"]}
    conn.execute(container_events.insert().values(**event, attributes={"driver": row["driver"]}, at=now()))
