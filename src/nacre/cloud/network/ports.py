"""Ports: https://docs.openstack.org/api-ref/network/v2/#ports."""

from collections.abc import Iterable

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid
from nacre.cloud.network import driven, fixedips, ipam, marks, networks, qos, quotas, security_groups
from nacre.cloud.network.common import Readable, chosen, forget_tags, grouped, project_of, rows_among, rows_of, stamped, touch
from nacre.cloud.network.tables import fixed_ips, floating_ips, forwards, port_groups, ports, routers
from nacre.cloud.network.tables import networks as networks_table
from nacre.store import Criterion, Page, Prepared, Query

ADDRESS_PAIRS_MAX = 10
"""Neutron's max_allowed_address_pair."""
ROUTER_OWNERS = ("network:router_interface", "network:router_gateway")
FLOATING_OWNER = "network:floatingip"
OWN_PREFIX = "network:"
"""Owners of the cloud's own ports. Port security is for guests: these have none."""

PUBLISHES = sa.and_(floating_ips.c.port_id.is_not(None), floating_ips.c.fixed_ip_address.is_(None))
"""A floating IP that a port has for its published ports alone: no address of the port's is translated to it as a whole."""

STATUS = sa.case(
    (sa.and_(ports.c.host_id.is_not(None), ports.c.admin_state_up, ports.c.observed == "active"), "ACTIVE"), else_="DOWN"
)
"""ACTIVE is a port that is bound, wanted up and seen active by its host's node."""


def _visible(ctx: Context) -> sa.ColumnElement[bool] | None:
    """A project's own ports, and those of others on its networks."""
    if ctx.is_admin:
        return None
    mine = sa.select(networks_table.c.id).where(networks_table.c.project_id == (ctx.project_id or ""))
    return sa.or_(ports.c.project_id == (ctx.project_id or ""), ports.c.network_id.in_(mine))


_ADDRESSES = chosen(
    sa.select(fixed_ips.c.port_id, fixed_ips.c.subnet_id, fixed_ips.c.address).order_by(fixed_ips.c.position), fixed_ips.c.port_id
)
_GROUPS = chosen(sa.select(port_groups), port_groups.c.port_id)
_OF_NETWORK = chosen(
    sa.select(networks_table.c.id, networks_table.c.qos_policy_id, networks_table.c.dns_domain), networks_table.c.id
)


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    ids = [row["id"] for row in rows]
    by_port = grouped(rows_among(conn, _ADDRESSES, ids), "port_id")
    groups = grouped(rows_among(conn, _GROUPS, ids), "port_id")
    for row in rows:
        row["fixed_ips"] = [
            {"subnet_id": each["subnet_id"], "ip_address": each["address"]} for each in by_port.get(row["id"], ())
        ]
        row["security_groups"] = [each["security_group_id"] for each in groups.get(row["id"], ())]
    of = {each["id"]: each for each in rows_among(conn, _OF_NETWORK, [row["network_id"] for row in rows])}
    for row in rows:
        network = of[row["network_id"]]
        row["qos_network_policy_id"], row["network_dns_domain"] = network["qos_policy_id"], network["dns_domain"]


def _by_fixed_ips(criterion: Criterion) -> sa.ColumnElement[bool]:
    """fixed_ips=ip_address=A, subnet_id=S or ip_address_substr=T: [(name, value)], alternatives among equal names."""
    columns = {"ip_address": fixed_ips.c.address, "subnet_id": fixed_ips.c.subnet_id}
    conditions = []
    for name in dict.fromkeys(name for name, _ in criterion.value):
        values = [value for other, value in criterion.value if other == name]
        if name == "ip_address_substr":
            conditions.append(sa.or_(*(fixed_ips.c.address.contains(value, autoescape=True) for value in values)))
        elif name in columns:
            conditions.append(columns[name].in_(values))
        else:
            raise Invalid(f"{name} is not an attribute of fixed_ips to filter by.", field="fixed_ips")
    return ports.c.id.in_(sa.select(fixed_ips.c.port_id).where(*conditions))


def _by_groups(criterion: Criterion) -> sa.ColumnElement[bool]:
    values = criterion.value if isinstance(criterion.value, list) else [criterion.value]
    return ports.c.id.in_(sa.select(port_groups.c.port_id).where(port_groups.c.security_group_id.in_(values)))


_READ = Readable(
    "Port",
    ports,
    _visible,
    _complete,
    extra={"status": STATUS},
    custom={"fixed_ips": _by_fixed_ips, "security_groups": _by_groups},
)
get = _READ.get
plain = _READ.plain
some = _READ.some


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


FREE = frozenset({"name", "description"})
"""What may be changed of a port whoever plugs it."""
_INSERT = Prepared(ports.insert())
_ADDRESSES_OF_PORT = Prepared(
    sa.select(fixed_ips.c.subnet_id, fixed_ips.c.address.label("ip_address"))
    .where(fixed_ips.c.port_id == sa.bindparam("port"))
    .order_by(fixed_ips.c.position)
)
_INSERT_GROUPS = Prepared(port_groups.insert())
_MAC_TAKEN = Prepared(
    sa.select(ports.c.id).where(ports.c.network_id == sa.bindparam("network"), ports.c.mac_address == sa.bindparam("mac"))
)
_DELETE = Prepared(ports.delete().where(ports.c.id == sa.bindparam("ident")))
_BIND = Prepared(
    ports.update().where(ports.c.id == sa.bindparam("ident")).values(host_id=sa.bindparam("host"), observed=None, fault="")
)
_FLOATING = Prepared(sa.select(floating_ips.c.id).where(floating_ips.c.port_id == sa.bindparam("port")).limit(1))


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    network = networks.plain(conn, ctx, values["network_id"])
    if not networks.may_use(conn, ctx, network):
        raise Forbidden(
            f"Network {network['id']} is external: its addresses are taken as floating IPs and by routers.",
            field="network_id",
            code="PolicyNotAuthorized",
        )
    driven.refuse(network, "A port of a user's own is")
    project_id = project_of(ctx, values)
    _check_privileges(ctx, network, values)
    _check_device(conn, ctx, values)
    qos.usable(conn, ctx, values.get("qos_policy_id"))
    values["security_groups"] = _asked_groups(conn, ctx, network, project_id, values)
    row = insert(conn, network, project_id, values)
    quotas.charge(conn, project_id, "port")
    return row


def _asked_groups(conn: sa.Connection, ctx: Context, network: Row, project_id: str, values: Row) -> list[str]:
    secured = values.get("port_security_enabled")
    secured = network["port_security_enabled"] if secured is None else secured
    secured = secured and not str(values.get("device_owner") or "").startswith(OWN_PREFIX)
    return _groups(conn, ctx, project_id, values.get("security_groups"), secured)


def insert(conn: sa.Connection, network: Row, project_id: str, values: Row, *, router: bool = False) -> Row:
    """The port's rows: itself, its addresses and its groups (checked by the caller); bound when a host is given. Quota is the caller's matter."""
    secured = values.get("port_security_enabled")
    secured = network["port_security_enabled"] if secured is None else secured
    secured = secured and not str(values.get("device_owner") or "").startswith(OWN_PREFIX)
    groups: list[str] = values.get("security_groups") or []
    row = stamped(project_id, {name: value for name, value in values.items() if name in ports.c})
    row["network_id"] = network["id"]
    row["port_security_enabled"] = secured
    row["host_id"] = values.get("host_id") or None
    row["allowed_address_pairs"] = _pairs(values.get("allowed_address_pairs") or [], secured)
    row["mac_address"] = _claimed_mac(conn, network["id"], values.get("mac_address"))
    row = {**_defaults(), **row}
    _INSERT.run(conn, **row)
    fixedips.assign(conn, row, values.get("fixed_ips"), router=router)
    _set_groups(conn, row["id"], groups)
    if row["host_id"] is not None:
        gathered = marks.Marks()
        marks.bound(conn, gathered, row, groups)
        gathered.flush(conn)
    held = _ADDRESSES_OF_PORT.rows(conn, port=row["id"])
    inherited = network.get("qos_policy_id")
    more = {"fixed_ips": held, "security_groups": groups, "status": "DOWN", "tags": []}
    more |= {"qos_network_policy_id": inherited, "network_dns_domain": network.get("dns_domain") or ""}
    return {**row, **more}


def _defaults() -> Row:
    """What the columns of a new row hold that nothing was said about."""
    values = {column.name: getattr(column.default, "arg", None) for column in ports.c}
    return {name: value(None) if callable(value) else value for name, value in values.items()}


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    network = networks.plain(conn, ctx, row["network_id"]) if not ctx.is_admin else {"id": row["network_id"], "project_id": None}
    _check_privileges(ctx, network, values, changing=True)
    _check_device(conn, ctx, values)
    if not FREE.issuperset(values):
        driven.check(conn, row["network_id"], "A change of a port's security, addresses or binding is")
    if values.get("qos_policy_id") != row["qos_policy_id"]:
        qos.usable(conn, ctx, values.get("qos_policy_id"))
    if "host_id" in values:
        move(conn, row, values["host_id"] or None)
        row["host_id"] = values["host_id"] or None
    changes = {name: value for name, value in values.items() if name in ports.c and name != "host_id"}
    _change_security(conn, ctx, row, values, changes)
    if values.get("mac_address") is not None and values["mac_address"] != row["mac_address"]:
        if row["host_id"] is not None and row["device_id"]:
            raise Conflict(f"Port {ident} is bound; its mac_address cannot be changed.", code="PortBound")
        changes["mac_address"] = _claimed_mac(conn, row["network_id"], values["mac_address"])
        row["mac_address"] = changes["mac_address"]
    touch(conn, ports, ident, changes)
    if values.get("fixed_ips") is not None:
        change_addresses(conn, row, values["fixed_ips"])
    gathered = marks.Marks()
    marks.changed(conn, gathered, {**row, **changes})
    gathered.flush(conn)
    return some(conn, ports.c.id == ident)[0]


def change_addresses(conn: sa.Connection, row: Row, asked: list[Row]) -> None:
    """Floating IPs of an address that goes are disassociated."""
    fixedips.reassign(conn, row, asked, router=row["device_owner"] in ROUTER_OWNERS)
    kept = sa.select(fixed_ips.c.address).where(fixed_ips.c.port_id == row["id"])
    _disassociate(conn, floating_ips.c.port_id == row["id"], floating_ips.c.fixed_ip_address.not_in(kept))
    drop_forwards(conn, forwards.c.port_id == row["id"], forwards.c.internal_address.not_in(kept))


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict for the ports that belong to routers and floating IPs."""
    row = plain(conn, ctx, ident, owned=True)
    if row["device_owner"] in (*ROUTER_OWNERS, FLOATING_OWNER):
        raise Conflict(
            f"Port {ident} cannot be deleted directly via the port API: has device owner {row['device_owner']}.",
            code="ServicePortInUse",
        )
    if row["device_id"]:
        driven.check(conn, row["network_id"], "The removal of a container's port by itself is")
    remove(conn, row)
    quotas.refund(conn, row["project_id"], "port")


def remove(conn: sa.Connection, row: Row) -> None:
    """Unbind and delete. Quota is the caller's matter."""
    if _FLOATING.scalar(conn, port=row["id"]) is not None:
        release_published(conn, [row["id"]])
        _disassociate(conn, floating_ips.c.port_id == row["id"])
    if _FORWARDED.scalar(conn, port=row["id"]) is not None:
        drop_forwards(conn, forwards.c.port_id == row["id"])
    move(conn, row, None)
    _DELETE.run(conn, ident=row["id"])
    forget_tags(conn, row["id"])


def move(conn: sa.Connection, row: Row, host_id: str | None) -> None:
    """Bind a port to a host, or to none. The new host's node has seen nothing of it yet."""
    if row["host_id"] == host_id:
        return
    gathered = marks.Marks()
    groups = marks.groups_of(conn, row["id"])
    _BIND.run(conn, ident=row["id"], host=host_id)
    if row["host_id"] is not None:
        marks.unbound(conn, gathered, row, groups)
    if host_id is not None:
        marks.bound(conn, gathered, {**row, "host_id": host_id}, groups)
    gathered.flush(conn)


_FORWARDED = Prepared(sa.select(forwards.c.id).where(forwards.c.port_id == sa.bindparam("port")).limit(1))


def drop_forwards(conn: sa.Connection, *where: sa.ColumnElement[bool]) -> None:
    """Published ports that go; their routers' hosts are told."""
    found = conn.execute(sa.select(forwards.c.router_id).where(*where).distinct()).scalars().all()
    if not found:
        return
    conn.execute(forwards.delete().where(*where))
    # A floating IP from which nothing is forwarded any more, and that no port has, is no router's.
    left = sa.select(forwards.c.floating_ip_id).where(forwards.c.floating_ip_id.is_not(None))
    idle = (floating_ips.c.router_id.in_(found), floating_ips.c.port_id.is_(None), floating_ips.c.id.not_in(left))
    conn.execute(floating_ips.update().where(*idle).values(router_id=None))
    gathered = marks.Marks()
    for row in rows_of(conn, sa.select(routers.c.id, routers.c.host_id), routers.c.id, found):
        gathered.add(row["host_id"], "router", row["id"])
    gathered.flush(conn)


_PUBLISHED = chosen(sa.select(floating_ips).where(PUBLISHES), floating_ips.c.port_id)


def release_published(conn: sa.Connection, port_ids: list[str]) -> None:
    """Floating IPs that these ports took to publish on go, with what is forwarded from them."""
    for row in rows_among(conn, _PUBLISHED, port_ids):
        drop_forwards(conn, forwards.c.floating_ip_id == row["id"])
        drop_floating(conn, row)


def drop_floating(conn: sa.Connection, row: Row) -> None:
    """Gives a floating IP's address back to the outside and to the quota."""
    conn.execute(floating_ips.delete().where(floating_ips.c.id == row["id"]))
    port = conn.execute(sa.select(ports).where(ports.c.id == row["floating_port_id"])).mappings().one()
    remove(conn, dict(port))
    forget_tags(conn, row["id"])
    quotas.refund(conn, row["project_id"], "floatingip")


def _disassociate(conn: sa.Connection, *where: sa.ColumnElement[bool]) -> None:
    found = conn.execute(sa.select(floating_ips.c.id, floating_ips.c.router_id).where(*where)).all()
    if not found:
        return
    conn.execute(
        floating_ips.update()
        .where(floating_ips.c.id.in_([ident for ident, _ in found]))
        .values(port_id=None, fixed_ip_address=None, router_id=None, revision_number=floating_ips.c.revision_number + 1)
    )
    gathered = marks.Marks()
    for router_id in {router for _, router in found if router}:
        gathered.add(conn.execute(sa.select(routers.c.host_id).where(routers.c.id == router_id)).scalar(), "router", router_id)
    gathered.flush(conn)


def _check_privileges(ctx: Context, network: Row, values: Row, *, changing: bool = False) -> None:
    """On another project's network an address, a MAC and port security are not a member's to choose (Neutron's default policy)."""
    if ctx.is_admin:
        return
    owner = str(values.get("device_owner") or "")
    if owner.startswith(OWN_PREFIX):
        raise Forbidden(f"Only an admin may set the device_owner {owner}.", field="device_owner", code="PolicyNotAuthorized")
    if changing and values.get("mac_address") is not None:
        raise Forbidden("Only an admin may change a mac_address.", field="mac_address", code="PolicyNotAuthorized")
    if network["project_id"] == ctx.project_id:
        return
    for name in ("mac_address", "port_security_enabled", "allowed_address_pairs"):
        if values.get(name) not in (None, []):
            raise Forbidden(f"Only the network's owner may set {name}.", field=name, code="PolicyNotAuthorized")
    if any(each.get("ip_address") for each in values.get("fixed_ips") or ()):
        raise Forbidden("Only the network's owner may choose an address.", field="fixed_ips", code="PolicyNotAuthorized")


def _check_device(conn: sa.Connection, ctx: Context, values: Row) -> None:
    """A port that bears a server's id is plugged into it: nobody puts one into another project's. Raises Forbidden."""
    device_id = values.get("device_id")
    if not device_id or ctx.is_admin:
        return
    owner = conn.execute(sa.select(servers.c.project_id).where(servers.c.id == device_id)).scalar()
    if owner is not None and owner != ctx.project_id:
        raise Forbidden("Only an admin may set this device_id.", field="device_id", code="PolicyNotAuthorized")


def _groups(conn: sa.Connection, ctx: Context, project_id: str, asked: list[str] | None, secured: bool) -> list[str]:
    if not secured:
        if asked:
            raise Conflict(
                "Port Security must be enabled in order to have security groups or allowed address pairs on a port.",
                code="PortSecurityAndIPRequiredForSecurityGroups",
            )
        return []
    if asked is None:
        return [security_groups.ensure_default(conn, project_id)]
    return security_groups.existing(conn, ctx, project_id, asked)


def _set_groups(conn: sa.Connection, port_id: str, groups: Iterable[str]) -> None:
    _INSERT_GROUPS.run_all(conn, [{"port_id": port_id, "security_group_id": group} for group in groups])


def set_groups(conn: sa.Connection, row: Row, wanted: Iterable[str]) -> None:
    """Replace a port's groups; its host is told of those that come and go."""
    before, after = set(marks.groups_of(conn, row["id"])), set(wanted)
    gathered = marks.Marks()
    conn.execute(
        port_groups.delete().where(port_groups.c.port_id == row["id"], port_groups.c.security_group_id.in_(before - after))
    )
    _set_groups(conn, row["id"], sorted(after - before))
    if row["host_id"] is not None:
        marks.join_groups(conn, gathered, row["host_id"], after - before)
        marks.leave_groups(conn, gathered, row["host_id"], before - after)
        marks.changed(conn, gathered, row)
    gathered.flush(conn)


def _change_security(conn: sa.Connection, ctx: Context, row: Row, values: Row, changes: Row) -> None:
    """port_security_enabled, security_groups and allowed_address_pairs depend on each other."""
    secured = values.get("port_security_enabled")
    secured = row["port_security_enabled"] if secured is None else secured
    changes["port_security_enabled"] = secured
    asked = values.get("security_groups")
    if asked is not None:
        set_groups(conn, row, _groups(conn, ctx, row["project_id"], asked, secured))
    elif not secured and marks.groups_of(conn, row["id"]):
        raise Conflict(
            f"Port has security group associated. Cannot disable port security or IP address until security group is removed: "
            f"{row['id']}.",
            code="PortSecurityPortHasSecurityGroup",
        )
    pairs = values.get("allowed_address_pairs")
    pairs = row["allowed_address_pairs"] if pairs is None else pairs
    changes["allowed_address_pairs"] = _pairs(pairs, secured)


def _pairs(asked: list[Row], secured: bool) -> list[Row]:
    if asked and not secured:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            code="AddressPairAndPortSecurityRequired",
        )
    if len(asked) > ADDRESS_PAIRS_MAX:
        raise Invalid(
            f"The number of allowed address pairs exceeds the maximum {ADDRESS_PAIRS_MAX}.",
            field="allowed_address_pairs",
            code="AllowedAddressPairExhausted",
        )
    pairs = []
    for pair in asked:
        text = pair["ip_address"]
        if "/" in text:
            ipam.parse_cidr(text, "allowed_address_pairs", exact=False)
        else:
            ipam.parse_address(text, "allowed_address_pairs")
        mac = pair.get("mac_address")
        pairs.append({"ip_address": text, **({"mac_address": ipam.normal_mac(mac, "allowed_address_pairs")} if mac else {})})
    if len({(pair["ip_address"], pair.get("mac_address")) for pair in pairs}) != len(pairs):
        raise Invalid(
            "Request contains duplicate address pair.", field="allowed_address_pairs", code="DuplicateAddressPairInRequest"
        )
    return pairs


def _claimed_mac(conn: sa.Connection, network_id: str, asked: str | None) -> str:
    """A MAC that no other port of the network has. Raises Conflict (MacAddressInUse)."""

    def taken(mac: str) -> bool:
        return _MAC_TAKEN.scalar(conn, network=network_id, mac=mac) is not None

    if asked is not None:
        mac = ipam.normal_mac(asked)
        if taken(mac):
            raise Conflict(
                f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.", code="MacAddressInUse"
            )
        return mac
    for _ in range(ipam.MAC_ATTEMPTS_MAX):
        mac = ipam.new_mac()
        if not taken(mac):
            return mac
    raise Conflict(f"Unable to generate unique mac on network {network_id}.", code="MacAddressGenerationFailure")
