"""Networks: https://docs.openstack.org/api-ref/network/v2/#networks."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import address_scopes, driven, marks, qos, quotas, rbac, walls
from nacre.cloud.network.common import Readable, chosen, forget_tags, grouped, project_of, rows_among, rows_of, stamped, touch
from nacre.cloud.network.tables import (
    fixed_ips,
    floating_ips,
    network_sequences,
    networks,
    pools,
    ports,
    rbac_policies,
    routers,
    subnets,
)
from nacre.store import Page, Query, insert

VNI_MIN, VNI_MAX = 1_001, 16_777_215
"""VXLAN's range, without numbers that other tools like to use."""
VNI_ATTEMPTS_MAX = 4_096
MTU_PHYSICAL = 1_500
HEADERS_V4, HEADERS_V6 = 50, 70
"""What VXLAN adds to a packet inside: Ethernet, VXLAN, UDP and IP (RFC 7348)."""
MTU_TUNNEL = MTU_PHYSICAL - HEADERS_V4
PHYSICAL = frozenset({"public"})


visible = rbac.visible(networks, "network")
"""A project's own, and those that it may use as shared or external ones."""


_SUBNETS = chosen(
    sa.select(subnets.c.network_id, subnets.c.id, subnets.c.ip_version, subnets.c.subnetpool_id).order_by(
        subnets.c.created_at, subnets.c.id
    ),
    subnets.c.network_id,
)


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    """The subnets, and the address scopes of the pools that they come from."""
    found = rows_among(conn, _SUBNETS, [row["id"] for row in rows])
    scopes = address_scopes.of_pools(conn, {subnet["subnetpool_id"] for subnet in found} - {None})
    by_network = grouped(found, "network_id")
    for row in rows:
        mine = by_network.get(row["id"], ())
        row["subnets"] = [subnet["id"] for subnet in mine]
        row |= {f"ipv{version}_address_scope": None for version in (4, 6)}
        for subnet in mine:
            row[f"ipv{subnet['ip_version']}_address_scope"] = scopes.get(subnet["subnetpool_id"])


_READ = Readable("Network", networks, visible, _complete, extra={"status": sa.literal("ACTIVE")})
plain = _READ.plain


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    return _seen_by(conn, ctx, [_READ.get(conn, ctx, ident)])[0]


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    page = _READ.find(conn, ctx, query)
    _seen_by(conn, ctx, page.rows)
    return page


def _seen_by(conn: sa.Connection, ctx: Context, rows: list[Row]) -> list[Row]:
    """A network is `shared` for whom it is shared with, be it everyone or this project alone."""
    foreign = [row for row in rows if not row["shared"] and row["project_id"] != ctx.project_id]
    if foreign and ctx.project_id is not None:
        mine = set(conn.execute(rbac.granted(ctx, "network", rbac.SHARED)).scalars())
        for row in foreign:
            row["shared"] = row["id"] in mine
    return rows


def may_use(conn: sa.Connection, ctx: Context, network: Row) -> bool:
    """Whether the caller may put ports on a network that it sees: one that is external alone leads out, and no more."""
    if ctx.is_admin or network["project_id"] == ctx.project_id or network["shared"]:
        return True
    select = rbac.granted(ctx, "network", rbac.SHARED).where(rbac_policies.c.object_id == network["id"])
    return conn.execute(select).first() is not None


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    project_id = project_of(ctx, values)
    row = stamped(project_id, _provider(values))
    limit = _largest_mtu(conn, row)
    row["mtu"] = _checked_mtu(values.get("mtu") or limit, limit)
    row["vni"] = _vni(conn, values.get("vni"))
    qos.usable(conn, ctx, values.get("qos_policy_id"))
    conn.execute(networks.insert(), row)
    quotas.charge(conn, project_id, "network")
    rbac.share(conn, "network", row, on=bool(row.get("shared")))
    rbac.share(conn, "network", row, on=bool(row.get("external")), action=rbac.EXTERNAL)
    return _READ.some(conn, networks.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    if not {"name", "description"}.issuperset(values):
        driven.refuse(row, "A change of more than name and description is")
    for name, column in (("network_type", "network_type"), ("physical", "physical"), ("vni", "vni")):
        if name in values and values[name] != row[column]:
            raise Invalid("Plugin does not support updating provider attributes.", field=f"provider:{name}")
    if values.get("mtu") is not None:
        _checked_mtu(values["mtu"], _largest_mtu(conn, row))
    _check_sharing(conn, row, values)
    if values.get("qos_policy_id") != row["qos_policy_id"]:
        qos.usable(conn, ctx, values.get("qos_policy_id"))
    for name, action in (("shared", rbac.SHARED), ("external", rbac.EXTERNAL)):
        if name in values:
            rbac.share(conn, "network", row, on=values[name], action=action)
    touch(conn, networks, ident, values)
    gathered = marks.Marks()
    marks.network_changed(conn, gathered, ident)
    if "qos_policy_id" in values:
        qos.mark_network(conn, gathered, ident)
    gathered.flush(conn)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Its subnets and the floating IPs of it that nobody uses go with it. Raises Conflict while it has other ports."""
    row = plain(conn, ctx, ident, owned=True)
    _drop_unused_floating_ips(conn, ident)
    if conn.execute(sa.select(ports.c.id).where(ports.c.network_id == ident).limit(1)).first() is not None:
        raise Conflict(
            f"Unable to complete operation on network {ident}. There are one or more ports still in use on the network.",
            code="NetworkInUse",
        )
    gone = conn.execute(sa.select(subnets.c.id, subnets.c.project_id).where(subnets.c.network_id == ident)).all()
    for subnet_id, project_id in gone:
        quotas.refund(conn, project_id, "subnet")
        forget_tags(conn, subnet_id)
    conn.execute(pools.delete().where(pools.c.subnet_id.in_([subnet_id for subnet_id, _ in gone])))
    conn.execute(subnets.delete().where(subnets.c.network_id == ident))
    conn.execute(networks.delete().where(networks.c.id == ident))
    walls.forget(conn, ident)
    rbac.forget(conn, "network", ident)
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "network")


def _drop_unused_floating_ips(conn: sa.Connection, ident: str) -> None:
    select = sa.select(floating_ips.c.id, floating_ips.c.project_id, floating_ips.c.floating_port_id)
    unused = conn.execute(select.where(floating_ips.c.floating_network_id == ident, floating_ips.c.port_id.is_(None))).all()
    for floating_id, project_id, port_id in unused:
        conn.execute(floating_ips.delete().where(floating_ips.c.id == floating_id))
        conn.execute(ports.delete().where(ports.c.id == port_id))
        forget_tags(conn, floating_id)
        quotas.refund(conn, project_id, "floatingip")


def _provider(values: Row) -> Row:
    """Tenant networks are VXLAN; a flat one needs the name of a physical network. Raises Invalid."""
    kind = values.get("network_type") or ("flat" if values.get("physical") else "vxlan")
    if kind not in ("vxlan", "flat"):
        raise Invalid(f"Network type {kind} is not supported: use vxlan or flat.", field="provider:network_type")
    physical = values.get("physical")
    if kind == "flat":
        if physical not in PHYSICAL:
            raise Invalid(f"Physical network {physical} is unknown.", field="provider:physical_network")
        if values.get("vni") is not None:
            raise Invalid("A flat network has no segmentation id.", field="provider:segmentation_id")
    elif physical is not None:
        raise Invalid("A vxlan network has no physical network.", field="provider:physical_network")
    if values.get("is_default") and not values.get("external"):
        raise Invalid("Only an external network can be the default one.", field="is_default")
    return {**values, "network_type": kind, "physical": physical}


def _largest_mtu(conn: sa.Connection, network: Row) -> int:
    """What every host's underlay leaves for a packet inside; MTU_TUNNEL where no host has said anything of its own."""
    if network["physical"]:
        return MTU_PHYSICAL
    said = sa.select(hosts.c.tunnel_ip, hosts.c.underlay_mtu).where(hosts.c.tunnel_ip.is_not(None), hosts.c.underlay_mtu > 0)
    return min(
        (row.underlay_mtu - (HEADERS_V6 if ":" in row.tunnel_ip else HEADERS_V4) for row in conn.execute(said)),
        default=MTU_TUNNEL,
    )


def _checked_mtu(mtu: int, limit: int) -> int:
    if mtu > limit:
        raise Invalid(f"Requested MTU is too big, maximum is {limit}.", field="mtu", code="InvalidInput")
    return mtu


def _vni(conn: sa.Connection, asked: int | None) -> int:
    """The number that was asked for, or the next one in turn that no network has."""
    if asked is not None:
        if conn.execute(sa.select(networks.c.id).where(networks.c.vni == asked)).first() is not None:
            raise Conflict(f"Unable to create the network. The VXLAN id {asked} is in use.", code="TunnelIdInUse")
        return asked
    turn = insert(network_sequences).values(name="vni", value=VNI_MIN)
    step = sa.case((network_sequences.c.value >= VNI_MAX, VNI_MIN), else_=network_sequences.c.value + 1)
    statement = turn.on_conflict_do_update(index_elements=["name"], set_={"value": step}).returning(network_sequences.c.value)
    for _ in range(VNI_ATTEMPTS_MAX):
        vni: int = conn.execute(statement).scalar_one()
        if conn.execute(sa.select(networks.c.id).where(networks.c.vni == vni)).first() is None:
            return vni
    raise Conflict("Unable to create the network. No tenant network is available for allocation.", code="NoNetworkAvailable")


def _check_sharing(conn: sa.Connection, row: Row, values: Row) -> None:
    """Sharing cannot be taken back from those who use it."""
    if row["shared"] and values.get("shared") is False:
        let = sa.select(rbac_policies.c.target_project).where(
            rbac_policies.c.object_id == row["id"], rbac_policies.c.action == rbac.SHARED
        )
        others = sa.select(ports.c.id).where(
            ports.c.network_id == row["id"], ports.c.project_id.not_in([row["project_id"], ""]), ports.c.project_id.not_in(let)
        )
        if conn.execute(others.limit(1)).first() is not None:
            raise Conflict(
                f"Unable to reconfigure sharing settings for network {row['id']}. Multiple tenants are using it.",
                code="InvalidSharedSetting",
            )
    if row["external"] and values.get("external") is False:
        used = conn.execute(sa.select(routers.c.id).where(routers.c.external_network_id == row["id"]).limit(1)).first()
        if used is not None:
            raise Conflict(
                f"External network {row['id']} cannot be updated to be made non-external, since it has existing gateway ports.",
                code="ExternalNetworkInUse",
            )


def availability(conn: sa.Connection, ctx: Context, ident: str | None = None) -> list[Row]:
    """How many addresses each network's pools hold, and how many of them are taken (network-ip-availability)."""
    where = () if ident is None else (networks.c.id == ident,)
    found = [dict(row) for row in conn.execute(sa.select(networks).where(*where)).mappings()]
    if ident is not None and not found:
        raise _READ.missing(ident)
    select = sa.select(subnets.c.id, subnets.c.network_id, subnets.c.name, subnets.c.cidr, subnets.c.ip_version)
    of_networks = rows_of(conn, select, subnets.c.network_id, (row["id"] for row in found))
    sizes: dict[str, int] = {}
    ranges = sa.select(pools.c.subnet_id, pools.c.first_key, pools.c.last_key)
    for pool in rows_of(conn, ranges, pools.c.subnet_id, (row["id"] for row in of_networks)):
        size = int(pool["last_key"], 16) - int(pool["first_key"], 16) + 1
        sizes[pool["subnet_id"]] = sizes.get(pool["subnet_id"], 0) + size
    counts = sa.select(fixed_ips.c.subnet_id, sa.func.count().label("used")).group_by(fixed_ips.c.subnet_id)
    used = {row["subnet_id"]: row["used"] for row in rows_of(conn, counts, fixed_ips.c.subnet_id, sizes)}
    by_network = grouped(of_networks, "network_id")
    for row in found:
        row["subnets"] = [
            {**subnet, "total_ips": sizes.get(subnet["id"], 0), "used_ips": used.get(subnet["id"], 0)}
            for subnet in by_network.get(row["id"], ())
        ]
    return found
