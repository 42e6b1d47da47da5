"""QoS policies: https://docs.openstack.org/api-ref/network/v2/#quality-of-service. What hosts enforce is bandwidth limits, both ways."""

from collections.abc import Iterable
from typing import Literal, cast

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.collection import find as find_in
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.network import marks, quotas, rbac
from nacre.cloud.network.common import Readable, chosen, forget_tags, grouped, project_of, rows_among, rows_of, stamped, touch
from nacre.cloud.network.tables import floating_ips, networks, ports, qos_policies, qos_rules, routers
from nacre.protocol import networks as protocol
from nacre.store import Listing, Page, Query
from nacre.store.schema import new_id, now

BANDWIDTH_LIMIT = "bandwidth_limit"
RULE_TYPES = (BANDWIDTH_LIMIT,)
"""What hosts make real."""


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    select = sa.select(qos_rules).order_by(qos_rules.c.created_at, qos_rules.c.id)
    by_policy = grouped(rows_of(conn, select, qos_rules.c.qos_policy_id, (row["id"] for row in rows)), "qos_policy_id")
    for row in rows:
        row["rules"] = by_policy.get(row["id"], [])


_READ = Readable(
    "QoS policy",
    qos_policies,
    rbac.visible(qos_policies, "qos_policy"),
    _complete,
    extra={"shared": rbac.with_all(qos_policies, "qos_policy")},
)
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    shared = values.pop("shared", False)
    project_id = project_of(ctx, values)
    row = stamped(project_id, values)
    if row.get("is_default"):
        _check_default(conn, project_id)
    conn.execute(qos_policies.insert(), row)
    quotas.charge(conn, project_id, "qos_policy")
    rbac.share(conn, "qos_policy", row, on=bool(shared))
    return _READ.some(conn, qos_policies.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    changes = dict(values)
    if "shared" in changes:
        rbac.share(conn, "qos_policy", row, on=changes.pop("shared"))
    if changes.get("is_default") and not row["is_default"]:
        _check_default(conn, row["project_id"])
    touch(conn, qos_policies, ident, changes)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while a network, a port or a floating IP bears it."""
    row = plain(conn, ctx, ident, owned=True)
    for kind, table in (("Network", networks), ("Port", ports), ("Floating IP", floating_ips)):
        user = conn.execute(sa.select(table.c.id).where(table.c.qos_policy_id == ident).limit(1)).scalar()
        if user is not None:
            raise Conflict(f"QoS Policy {ident} is used by {kind} {user}.", code="QosPolicyInUse")
    conn.execute(qos_rules.delete().where(qos_rules.c.qos_policy_id == ident))
    conn.execute(qos_policies.delete().where(qos_policies.c.id == ident))
    rbac.forget(conn, "qos_policy", ident)
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "qos_policy")


def _check_default(conn: sa.Connection, project_id: str) -> None:
    where = (qos_policies.c.project_id == project_id, qos_policies.c.is_default)
    found = conn.execute(sa.select(qos_policies.c.id).where(*where)).scalar()
    if found is not None:
        raise Conflict(f"A default QoS policy exists for project {project_id}: {found}.", code="QoSPolicyDefaultAlreadyExists")


def usable(conn: sa.Connection, ctx: Context, ident: str | None) -> None:
    """Raises NotFound for a policy that the caller may not see."""
    if ident is not None:
        plain(conn, ctx, ident)


_LISTING = Listing(sa.select(qos_rules), dict(qos_rules.c.items()), key=qos_rules.c.id)


def find_rules(conn: sa.Connection, ctx: Context, policy_id: str, kind: str, query: Query) -> Page:
    plain(conn, ctx, policy_id)
    return find_in(conn, _LISTING, query, qos_rules.c.qos_policy_id == policy_id, qos_rules.c.type == kind)


def get_rule(conn: sa.Connection, ctx: Context, policy_id: str | None, kind: str, ident: str) -> Row:
    """`policy_id` None: whatever policy it is of (the qos-rules-alias extension)."""
    row = conn.execute(sa.select(qos_rules).where(qos_rules.c.id == ident, qos_rules.c.type == kind)).mappings().first()
    if policy_id is not None:
        plain(conn, ctx, policy_id)
    if row is None or policy_id not in (None, row["qos_policy_id"]):
        raise _no_rule(ident, policy_id)
    try:
        plain(conn, ctx, row["qos_policy_id"])
    except NotFound:
        raise _no_rule(ident, policy_id) from None
    return dict(row)


def _no_rule(ident: str, policy_id: str | None) -> NotFound:
    of_policy = f" for policy {policy_id}" if policy_id else ""
    return NotFound(f"QoS rule {ident}{of_policy} could not be found.", code="QosRuleNotFound")


def create_rule(conn: sa.Connection, ctx: Context, policy_id: str, kind: str, values: Row) -> Row:
    """Raises Conflict for a second rule of the direction."""
    plain(conn, ctx, policy_id, owned=True)
    row = {"id": new_id(), "qos_policy_id": policy_id, "type": kind, "created_at": now(), **values}
    _check_only(conn, row)
    conn.execute(qos_rules.insert(), row)
    _changed(conn, policy_id)
    return get_rule(conn, ctx, policy_id, kind, row["id"])


def update_rule(conn: sa.Connection, ctx: Context, policy_id: str | None, kind: str, ident: str, values: Row) -> Row:
    row = get_rule(conn, ctx, policy_id, kind, ident)
    plain(conn, ctx, row["qos_policy_id"], owned=True)
    if values:
        _check_only(conn, {**row, **values})
        conn.execute(qos_rules.update().where(qos_rules.c.id == ident).values(values))
    _changed(conn, row["qos_policy_id"])
    return get_rule(conn, ctx, policy_id, kind, ident)


def delete_rule(conn: sa.Connection, ctx: Context, policy_id: str | None, kind: str, ident: str) -> None:
    row = get_rule(conn, ctx, policy_id, kind, ident)
    plain(conn, ctx, row["qos_policy_id"], owned=True)
    conn.execute(qos_rules.delete().where(qos_rules.c.id == ident))
    _changed(conn, row["qos_policy_id"])


def _check_only(conn: sa.Connection, row: Row) -> None:
    same = sa.select(qos_rules.c.id).where(
        qos_rules.c.qos_policy_id == row["qos_policy_id"],
        qos_rules.c.type == row["type"],
        qos_rules.c.direction == row["direction"],
        qos_rules.c.id != row["id"],
    )
    found = conn.execute(same).scalar()
    if found is not None:
        raise Conflict(
            f"Rule {row['type']} ({row['direction']}) conflicts with rule {found} which already exists in QoS policy.",
            code="QoSRulesConflict",
        )


def _changed(conn: sa.Connection, policy_id: str) -> None:
    """The rules changed: whoever bears the policy is limited anew, without a pause."""
    touch(conn, qos_policies, policy_id, {})
    gathered = marks.Marks()
    select = sa.select(ports.c.id, ports.c.host_id).where(ports.c.qos_policy_id == policy_id, ports.c.host_id.is_not(None))
    for port_id, host_id in conn.execute(select).all():
        gathered.add(host_id, "port", port_id)
    for network_id in conn.execute(sa.select(networks.c.id).where(networks.c.qos_policy_id == policy_id)).scalars():
        mark_network(conn, gathered, network_id)
    outside = sa.select(routers.c.host_id, routers.c.id).join(floating_ips, floating_ips.c.router_id == routers.c.id)
    for host_id, router_id in conn.execute(outside.where(floating_ips.c.qos_policy_id == policy_id).distinct()).all():
        gathered.add(host_id, "router", router_id)
    gathered.flush(conn)


def mark_network(conn: sa.Connection, gathered: marks.Marks, network_id: str) -> None:
    """The network's policy changed, or another took its place: it is that of its guests' ports without one of their own."""
    select = sa.select(ports.c.id, ports.c.host_id).where(
        ports.c.network_id == network_id, ports.c.qos_policy_id.is_(None), ports.c.host_id.is_not(None)
    )
    for port_id, host_id in conn.execute(select).all():
        gathered.add(host_id, "port", port_id)


_LIMITS = chosen(
    sa.select(qos_rules).where(qos_rules.c.type == BANDWIDTH_LIMIT).order_by(qos_rules.c.direction), qos_rules.c.qos_policy_id
)


def limits(conn: sa.Connection, policy_ids: Iterable[str | None]) -> dict[str, tuple[protocol.BandwidthLimit, ...]]:
    """The limits of each policy, for the hosts."""
    rows = rows_among(conn, _LIMITS, [ident for ident in policy_ids if ident is not None])
    return {policy_id: tuple(_limit(row) for row in found) for policy_id, found in grouped(rows, "qos_policy_id").items()}


def _limit(row: Row) -> protocol.BandwidthLimit:
    direction = cast(Literal["ingress", "egress"], row["direction"])
    return protocol.BandwidthLimit(direction, row["max_kbps"], row["max_burst_kbps"] or 0)


def limits_of_ports(conn: sa.Connection, found: list[Row]) -> dict[str, tuple[protocol.BandwidthLimit, ...]]:
    """By port: of its own policy or else its network's, which is for guests alone and not for the cloud's own ports."""
    policy_of = {}
    for row in found:
        own = row["qos_policy_id"] or (None if row["device_owner"].startswith("network:") else row["network_qos_policy_id"])
        if own is not None:
            policy_of[row["id"]] = own
    by_policy = limits(conn, policy_of.values())
    return {port_id: by_policy[policy] for port_id, policy in policy_of.items() if policy in by_policy}
