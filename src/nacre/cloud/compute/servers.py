"""Servers: https://docs.openstack.org/api-ref/compute/#servers-servers.

A create checks, claims and writes the intent in one transaction: the scheduler's plan, the host's book, the ports with their addresses,
the server, its timeline and the mark for the node. What the node then makes of it comes back as observations.
"""

import base64
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import find as find_page
from nacre.cloud.compute import accounting, decisions, injection, migrations, quotas, scheduling, server_groups, timeline, usage
from nacre.cloud.compute.rules import hostname_of, names_of, request_of, require_unlocked
from nacre.cloud.compute.specs import ServerSpec
from nacre.cloud.compute.states import TRANSITION_S_MAX, status_column
from nacre.cloud.compute.tables import flavor_access, flavors, keypairs, servers
from nacre.cloud.containers import events, mirror
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.desired import mark
from nacre.cloud.image import leaving
from nacre.cloud.image import operations as images
from nacre.cloud.network import servers as network
from nacre.cloud.scheduler import ExpressionError, NoValidHost, Ratios, Request, Strategy
from nacre.store import Listing, Page, Prepared, Query, texts
from nacre.store.listing import Criterion, columns_of
from nacre.store.schema import new_id, now

Row = dict[str, Any]

LISTING = Listing(
    sa.select(servers),
    {**columns_of(servers), "status": status_column()},
    key=servers.c.id,
    sort=(("created_at", "desc"),),
    custom={
        "ip": lambda criterion: _by_address(criterion, 4),
        "ip6": lambda criterion: _by_address(criterion, 6),
        "tags": lambda criterion: sa.and_(*(_has_tag(tag) for tag in criterion.value)),
        "tags_any": lambda criterion: sa.or_(*(_has_tag(tag) for tag in criterion.value)),
        "not_tags": lambda criterion: sa.not_(sa.and_(*(_has_tag(tag) for tag in criterion.value))),
        "not_tags_any": lambda criterion: sa.not_(sa.or_(*(_has_tag(tag) for tag in criterion.value))),
        "flavor": lambda criterion: servers.c.flavor["id"].as_string() == criterion.value,
    },
)

FLAVOR_KEPT = ("id", "name", "vcpus", "memory_mb", "disk_gb", "ephemeral_gb", "swap_mb", "extra_specs", "description")
"""What a server keeps of its flavor."""

_BY_ID = Prepared(sa.select(servers).where(servers.c.id == sa.bindparam("ident")))
_FLAVOR = Prepared(sa.select(flavors).where(flavors.c.id == sa.bindparam("ident")))
_INSERT = Prepared(servers.insert())
_DELETE = Prepared(servers.delete().where(servers.c.id == sa.bindparam("ident")))
_GONE = Prepared(
    servers.update()
    .where(servers.c.id == sa.bindparam("ident"))
    .values(
        gone=True,
        action="delete",
        generation=servers.c.generation + 1,
        request_id=sa.bindparam("request"),
        deadline=sa.bindparam("until"),
        updated_at=sa.bindparam("moment"),
    )
)


def create(
    conn: sa.Connection,
    ctx: Context,
    spec: ServerSpec,
    *,
    alive: frozenset[str] | None,
    ratios: Ratios | None = None,
    facts: scheduling.FactsOf | None = None,
    strategy: Strategy = "spread",
) -> list[Row]:
    """Make `min_count` to `max_count` servers: as many as the quota allows, all or none of those.

    Raises Invalid, NotFound, Conflict, OverQuota before anything is made. A server that no host can take is made all the same, in ERROR with
    the reason, as Nova does, unless the spec requires a host (then NoValidHost is raised).
    """
    if ctx.project_id is None:
        raise Forbidden("A server needs a project: use a project-scoped token.")
    flavor = spec.flavor or flavor_for(conn, ctx, spec.flavor_id)
    image = image_for(conn, ctx, spec.image_id, flavor)
    public_key = public_key_of(conn, ctx, spec.key_name)
    if spec.availability_zone and ":" in spec.availability_zone and not ctx.is_admin:
        raise Forbidden("Only an admin may choose the host.", field="availability_zone")
    count = _affordable(conn, ctx, flavor, spec)
    injection.check(conn, ctx.project_id, spec.files)
    requests = network.resolve(conn, ctx, spec.networks)
    if count > 1 and any(request.port_id for request in requests):
        raise Invalid("Unable to launch multiple instances with a single configured port ID.", field="networks")
    conditions = scheduling.conditions_of(spec.scheduler_hints) if spec.conditions is None else spec.conditions
    search = scheduling.Search(conn, ctx.project_id, alive=alive, ratios=ratios or Ratios(), facts=facts)
    group = _group(conn, ctx, spec, count)
    made = []
    reservation_id = f"r-{new_id()[:8]}"
    for index, name in enumerate(names_of(spec.name, count)):
        row = _row(ctx, spec, name, flavor, image, public_key, reservation_id, index)
        wanted = request_of(row, conditions, strategy, group=group, host_id=spec.host_id)
        made.append(_place(conn, ctx, spec, row, requests, search, wanted, group))
    placed = [row for row in made if row["host_id"]]
    for host_id in dict.fromkeys(row["host_id"] for row in placed):
        mark(conn, host_id, "guest", *(row["id"] for row in placed if row["host_id"] == host_id))
    if not spec.told:
        for row in made:
            events.of_server(conn, row, "create")
    usage.change(conn, ctx.project_id, instances=count, cores=count * flavor["vcpus"], ram=count * flavor["memory_mb"])
    return made


def _group(conn: sa.Connection, ctx: Context, spec: ServerSpec, count: int) -> Row | None:
    """The server group that the hints name."""
    ident = spec.scheduler_hints.get("group")
    return server_groups.for_create(conn, ctx, str(ident), count) if ident else None


def _place(
    conn: sa.Connection,
    ctx: Context,
    spec: ServerSpec,
    row: Row,
    requests: list[network.NetworkRequest],
    search: scheduling.Search,
    wanted: Request,
    group: Row | None,
) -> Row:
    """Choose a host, claim it, allocate the ports and insert the server with its intent."""
    started = now()
    try:
        found = search.place(wanted, row)
    except (NoValidHost, ExpressionError) as error:
        if spec.require_host:
            raise
        row |= {"fault": str(error), "fault_code": 500, "fault_at": now(), "deadline": None, "observed_generation": 1}
        _INSERT.run(conn, **row)
        timeline.begin(conn, ctx, row, "create")
        timeline.event(conn, row, "conductor__schedule_and_build_instances", started, now(), error=str(error))
        timeline.finish(conn, row, now(), error=str(error))
        if isinstance(error, NoValidHost):
            decisions.record(conn, row, "create", wanted, error.plan)
        return row
    host = found.best[0]
    decisions.record(conn, row, "create", wanted, found)
    row |= {"host_id": host.id, "availability_zone": host.availability_zone}
    _INSERT.run(conn, **row)
    if group is not None:
        server_groups.join(conn, group["id"], row["id"])
        group["occupied"][host.id] = group["occupied"].get(host.id, 0) + 1
    network.allocate(
        conn,
        ctx,
        server_id=row["id"],
        project_id=row["project_id"],
        hostname=row["hostname"],
        host_id=host.id,
        requests=requests,
        security_groups=spec.security_groups,
    )
    timeline.begin(conn, ctx, row, "create")
    timeline.event(conn, row, "conductor__schedule_and_build_instances", started, now())
    return row


def _row(
    ctx: Context, spec: ServerSpec, name: str, flavor: Row, image: Row, public_key: str | None, reservation_id: str, index: int
) -> Row:
    ident = spec.id or new_id()
    moment = now()
    return {
        "id": ident,
        "project_id": ctx.project_id,
        "user_id": ctx.user_id,
        "name": name,
        "description": spec.description,
        "hostname": spec.hostname or hostname_of(name, ident),
        "reservation_id": reservation_id,
        "launch_index": index,
        "flavor": flavor,
        "old_flavor": None,
        "vcpus": flavor["vcpus"],
        "memory_mb": flavor["memory_mb"],
        "disk_gb": flavor["disk_gb"] + flavor["ephemeral_gb"],
        "image_id": image["id"],
        "image": image,
        "key_name": spec.key_name,
        "public_key": public_key,
        "metadata": spec.metadata,
        "tags": spec.tags,
        "user_data": spec.user_data,
        "files": spec.files,
        "password_hash": spec.password_hash,
        "encrypted_password": "",
        "config_drive": spec.config_drive,
        "disk_config": spec.disk_config,
        "access_ip_v4": spec.access_ip_v4,
        "access_ip_v6": spec.access_ip_v6,
        "availability_zone": (spec.availability_zone or "").partition(":")[0],
        "requested_zone": spec.availability_zone,
        "scheduler_hints": spec.scheduler_hints,
        "host_id": None,
        "power": spec.power,
        "gone": False,
        "action": "create",
        "request_id": ctx.request_id,
        "generation": 1,
        "boots": 1 if spec.power == "running" else 0,
        "rebuilds": 0,
        "reboot": "soft",
        "rescue": None,
        "deadline": moment + TRANSITION_S_MAX,
        "locked": False,
        "locked_reason": None,
        "observed_state": None,
        "observed_generation": 0,
        "observed_boots": 0,
        "exit_code": None,
        "fault": None,
        "fault_code": None,
        "fault_at": None,
        "launched_at": None,
        "created_at": moment,
        "updated_at": moment,
    }


def flavor_for(conn: sa.Connection, ctx: Context, flavor_id: str) -> Row:
    """What of the flavor goes along with the server. Raises Invalid, also for a private one that the project may not use."""
    row = _FLAVOR.first(conn, ident=flavor_id)
    if row is not None and not row["is_public"] and not ctx.is_admin:
        access = (flavor_access.c.flavor_id == flavor_id, flavor_access.c.project_id == ctx.project_id)
        if conn.execute(sa.select(flavor_access).where(*access)).first() is None:
            row = None
    if row is None or row["disabled"]:
        raise Invalid(f"Flavor {flavor_id} could not be found.", field="flavorRef", code="FlavorNotFound")
    return {name: row[name] for name in FLAVOR_KEPT}


def image_for(conn: sa.Connection, ctx: Context, image_id: str | None, flavor: Row) -> Row:
    """What of the image goes along with the server. Raises Invalid, NotFound."""
    if image_id is None:
        raise Invalid("Boot from volume is not available: name an image.", field="imageRef")
    row = images.for_server(conn, ctx, image_id)
    if row["min_ram"] > flavor["memory_mb"]:
        raise Invalid("Flavor's memory is too small for requested image.", field="flavorRef", code="FlavorMemoryTooSmall")
    if flavor["disk_gb"] and row["min_disk"] > flavor["disk_gb"]:
        raise Invalid("Flavor's disk is smaller than the minimum size specified in image metadata.", field="flavorRef")
    return kept_image(row)


IMAGE_KEPT = ("id", "name", "digest", "size", "disk_format", "container_format", "docker_id", "layers", "config")


def kept_image(row: Row) -> Row:
    """What a server keeps of its image (of one as `images.for_server` gives it)."""
    return {
        **{name: row[name] for name in IMAGE_KEPT},
        "properties": {k: str(v) for k, v in (row["properties"] or {}).items()},
    }


def public_key_of(conn: sa.Connection, ctx: Context, name: str | None) -> str | None:
    """The caller's keypair of that name. Raises Invalid."""
    if name is None:
        return None
    where = (keypairs.c.user_id == ctx.user_id, keypairs.c.name == name)
    key = conn.execute(sa.select(keypairs.c.public_key, keypairs.c.type).where(*where)).first()
    if key is None:
        raise Invalid("Invalid key_name provided.", field="key_name")
    # A certificate is nothing that sshd would take.
    return str(key.public_key) if key.type == "ssh" else None


def _affordable(conn: sa.Connection, ctx: Context, flavor: Row, spec: ServerSpec) -> int:
    """How many of `max_count` the project's quota and the user's allow. Raises OverQuota when that is less than `min_count`."""
    project_id = str(ctx.project_id)
    limits = quotas.limits_of(conn, project_id)
    if 0 <= limits["metadata_items"] < len(spec.metadata):
        raise Forbidden(f"Maximum number of metadata items exceeds {limits['metadata_items']}", field="metadata")
    each = {"instances": 1, "cores": flavor["vcpus"], "ram": flavor["memory_mb"]}
    count = spec.max_count
    for bounds, used in quotas.bounds(conn, project_id, ctx.user_id, limits):
        for name, size in each.items():
            if bounds[name] >= 0 and size:
                count = min(count, max(0, bounds[name] - used[name]) // size)
        if count < spec.min_count:
            usage.check(used, {name: size * spec.min_count for name, size in each.items()}, bounds)
    return count


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """Raises NotFound, also for another project's server."""
    row = _BY_ID.first(conn, ident=ident)
    if row is None or not ctx.sees(row["project_id"]):
        raise NotFound(f"Instance {ident} could not be found.", code="InstanceNotFound")
    return row


def changeable(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """The server, when it may be changed now. Raises NotFound, Conflict (locked)."""
    row = get(conn, ctx, ident)
    require_unlocked(row, ctx.is_admin)
    return row


def find(conn: sa.Connection, ctx: Context, query: Query, *, all_projects: bool = False) -> Page:
    """The project's servers, or everybody's."""
    where = () if all_projects else (servers.c.project_id == ctx.project_id,)
    return find_page(conn, LISTING, query, *where)


def with_addresses(conn: sa.Connection, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Per server its ports, in order, with their addresses and groups."""
    return network.addresses(conn, [row["id"] for row in rows])


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    """Change name, description, hostname, access_ip_v4, access_ip_v6, disk_config, pinned_zone. Raises Conflict for another zone."""
    row = get(conn, ctx, ident)
    changes = {**values, "updated_at": now()}
    if "pinned_zone" in changes:
        changes["requested_zone"] = _pinned(row, changes.pop("pinned_zone"))
    conn.execute(servers.update().where(servers.c.id == ident).values(changes))
    if values.get("name", row["name"]) != row["name"]:
        mirror.renamed(conn, row, values["name"])
    if row["host_id"] and {"name", "hostname"} & values.keys():
        mark(conn, row["host_id"], "guest", ident)
    return {**row, **changes}


def _pinned(row: Row, zone: str | None) -> str | None:
    """The zone to which a server is pinned: none, or the one where it is. Raises Conflict."""
    if zone is None or (row["requested_zone"] and row["requested_zone"].partition(":")[0] == zone):
        return row["requested_zone"] if zone else None
    if zone != row["availability_zone"] or (row["requested_zone"] or "").partition(":")[0]:
        raise Conflict(
            f"Instance {row['id']} can only be pinned to the availability zone where it is, once it is pinned to none."
        )
    return zone


def set_metadata(conn: sa.Connection, ctx: Context, ident: str, metadata: dict[str, str], *, replace: bool) -> dict[str, str]:
    """Replace or add to the metadata, which the guest sees at once by its metadata service."""
    row = changeable(conn, ctx, ident)
    merged = metadata if replace else {**row["metadata"], **metadata}
    limit = quotas.limits_of(conn, row["project_id"])["metadata_items"]
    if 0 <= limit < len(merged):
        raise Forbidden(f"Maximum number of metadata items exceeds {limit}", field="metadata")
    _write_guest(conn, row, {"metadata": merged})
    return merged


def delete_metadata(conn: sa.Connection, ctx: Context, ident: str, key: str) -> None:
    row = changeable(conn, ctx, ident)
    if key not in row["metadata"]:
        raise NotFound("Metadata item was not found", code="MetadataItemNotFound")
    _write_guest(conn, row, {"metadata": {name: value for name, value in row["metadata"].items() if name != key}})


def set_tags(conn: sa.Connection, ctx: Context, ident: str, tags: list[str]) -> list[str]:
    row = changeable(conn, ctx, ident)
    kept = list(dict.fromkeys(tags))
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(tags=kept, updated_at=now()))
    return kept


def _write_guest(conn: sa.Connection, row: Row, changes: Row) -> None:
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(**changes, updated_at=now()))
    if row["host_id"]:
        mark(conn, row["host_id"], "guest", row["id"])


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """The intent `gone`. The row goes when the node says that nothing is left; at once where no node ever knew of it. Again: no change."""
    row = changeable(conn, ctx, ident)
    if row["gone"]:
        return
    timeline.begin(conn, ctx, row, "delete")
    mirror.leaving(conn, row)
    if row["host_id"] is None:
        forget(conn, row)
        return
    moment = now()
    migrations.abandon(conn, row)
    _GONE.run(conn, ident=ident, request=ctx.request_id, until=moment + TRANSITION_S_MAX, moment=moment)
    mark(conn, row["host_id"], "guest", ident)


def forget(conn: sa.Connection, row: Row) -> None:
    """Nothing of the server is left anywhere: give back its ports, its claim and its place in the quota, and drop the row."""
    mirror.gone(conn, row)  # Before the ports go: it tells which networks the server leaves.
    network.release(conn, row["id"])
    accounting.ended(conn, row)
    _DELETE.run(conn, ident=row["id"])
    let_go(conn, row)
    if row["host_id"]:
        size = {"vcpus": -row["vcpus"], "memory_mb": -row["memory_mb"], "disk_gb": -row["disk_gb"]}
        hosts.claim(conn, row["host_id"], guests=-1, **size)
    usage.change(conn, row["project_id"], instances=-1, cores=-row["vcpus"], ram=-row["memory_mb"])


def let_go(conn: sa.Connection, row: Row, *, own: bool = True, rescue: bool = True) -> None:
    """The server (as its row was) does not name its own image, or that of its rescue, any more."""
    if own:
        leaving.leave(conn, row["image"])
    if rescue and row["rescue"] is not None:
        leaving.leave(conn, row["rescue"]["image"])


def user_data_of(row: Row) -> bytes:
    """The user data's own bytes."""
    return base64.b64decode(row["user_data"]) if row["user_data"] else b""


def _has_tag(tag: str) -> sa.ColumnElement[bool]:
    each = texts(servers.c.tags)
    return sa.exists(sa.select(1).select_from(each).where(each.c.value == tag))


def _by_address(criterion: Criterion, version: int) -> sa.ColumnElement[bool]:
    return servers.c.id.in_(network.servers_with_address(criterion.value, version))
