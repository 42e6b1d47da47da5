"""Metering labels: https://docs.openstack.org/api-ref/network/v2/#metering-labels-and-rules-metering-labels-metering-label-rules.

A label's rules are counters on the routers of its project (of every project, when it is shared), at their gateways. Neutron sends what
they count to a telemetry service; here it is asked for (`counters`, in the pane).
"""

from typing import Literal, cast

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import ipam, marks
from nacre.cloud.network.common import Readable, chosen, forget_tags, grouped, project_of, rows_among, stamped
from nacre.cloud.network.tables import metering_labels, metering_rules, routers
from nacre.protocol import networks as protocol
from nacre.store import Page, Query

PREFIXES = ("remote_ip_prefix", "source_ip_prefix", "destination_ip_prefix")

_READ = Readable("Metering label", metering_labels, lambda ctx: None if ctx.is_admin else sa.false())
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    row = stamped(project_of(ctx, values), values)
    conn.execute(metering_labels.insert(), row)
    _mark(conn, row)
    return _READ.some(conn, metering_labels.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    """Raises Invalid: a label is made anew, as in Neutron."""
    plain(conn, ctx, ident)
    raise Invalid("Cannot update a metering label.", field=next(iter(values), "metering_label"))


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    row = plain(conn, ctx, ident)
    conn.execute(metering_rules.delete().where(metering_rules.c.metering_label_id == ident))
    conn.execute(metering_labels.delete().where(metering_labels.c.id == ident))
    forget_tags(conn, ident)
    _mark(conn, row)


def _routers(label: Row) -> tuple[sa.ColumnElement[bool], ...]:
    """The routers that count for the label."""
    placed = (routers.c.host_id.is_not(None), routers.c.external_network_id.is_not(None))
    return placed if label["shared"] else (*placed, routers.c.project_id == label["project_id"])


def _mark(conn: sa.Connection, label: Row) -> None:
    gathered = marks.Marks()
    for host_id, router_id in conn.execute(sa.select(routers.c.host_id, routers.c.id).where(*_routers(label))).all():
        gathered.add(host_id, "router", router_id)
    gathered.flush(conn)


def places(conn: sa.Connection, ctx: Context, ident: str) -> list[tuple[str, str]]:
    """Where the label's counters are: hosts and routers."""
    label = plain(conn, ctx, ident)
    rows = conn.execute(sa.select(routers.c.host_id, routers.c.id).where(*_routers(label)).order_by(routers.c.id)).all()
    return [(host_id, router_id) for host_id, router_id in rows]


class Rules:
    """The five functions of the rules' resource."""

    _read = Readable("Metering label rule", metering_rules, lambda ctx: None if ctx.is_admin else sa.false())

    def get(self, conn: sa.Connection, ctx: Context, ident: str) -> Row:
        return self._read.get(conn, ctx, ident)

    def find(self, conn: sa.Connection, ctx: Context, query: Query) -> Page:
        return self._read.find(conn, ctx, query)

    def create(self, conn: sa.Connection, ctx: Context, values: Row) -> Row:
        """Raises NotFound for the label, Invalid for prefixes that are none or none at all, Conflict for a second such rule."""
        values = dict(values)
        label = plain(conn, ctx, values["metering_label_id"])
        values["project_id"] = values.get("project_id") or label["project_id"]
        row = stamped(project_of(ctx, values), {**values, **_prefixes(values)})
        same = [metering_rules.c[name] == row[name] for name in ("metering_label_id", "direction")]
        same += [_equal(metering_rules.c[name], row[name]) for name in PREFIXES]
        if conn.execute(sa.select(metering_rules.c.id).where(*same)).first() is not None:
            raise Conflict("A metering label rule with these prefixes exists already.", code="MeteringLabelRuleOverlaps")
        conn.execute(metering_rules.insert(), row)
        _mark(conn, label)
        return self._read.some(conn, metering_rules.c.id == row["id"])[0]

    def update(self, conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
        self._read.plain(conn, ctx, ident)
        raise Invalid("Cannot update a metering label rule.", field=next(iter(values), "metering_label_rule"))

    def delete(self, conn: sa.Connection, ctx: Context, ident: str) -> None:
        row = self._read.plain(conn, ctx, ident)
        conn.execute(metering_rules.delete().where(metering_rules.c.id == ident))
        forget_tags(conn, ident)
        _mark(conn, plain(conn, ctx, row["metering_label_id"]))


rules = Rules()


def _equal(column: sa.ColumnElement[str], value: str | None) -> sa.ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


def _prefixes(values: Row) -> Row:
    given = {name: values[name] for name in PREFIXES if values.get(name)}
    if not given:
        raise Invalid("A rule needs a remote, a source or a destination prefix.", field="remote_ip_prefix", code="BadRequest")
    if "remote_ip_prefix" in given and len(given) > 1:
        raise Invalid(
            "remote_ip_prefix goes with neither source_ip_prefix nor destination_ip_prefix.",
            field="remote_ip_prefix",
            code="BadRequest",
        )
    parsed = {name: ipam.parse_cidr(text, name, exact=False) for name, text in given.items()}
    if len({cidr.version for cidr in parsed.values()}) > 1:
        raise Invalid("The prefixes of a rule are of one IP version.", field="source_ip_prefix", code="BadRequest")
    return {name: str(parsed[name]) if name in parsed else None for name in PREFIXES}


_LABELS = sa.select(metering_labels).order_by(metering_labels.c.id)
_RULES = chosen(
    sa.select(metering_rules).order_by(metering_rules.c.created_at, metering_rules.c.id), metering_rules.c.metering_label_id
)


def of_projects(conn: sa.Connection, project_ids: set[str]) -> dict[str, tuple[protocol.Meter, ...]]:
    """The meters of the projects' routers, for their hosts."""
    where = sa.or_(metering_labels.c.shared, metering_labels.c.project_id.in_(sorted(project_ids)))
    labels = [dict(row) for row in conn.execute(_LABELS.where(where)).mappings()]
    by_label = grouped(rows_among(conn, _RULES, [label["id"] for label in labels]), "metering_label_id")
    meters = [(label, _meter(label["id"], by_label.get(label["id"], []))) for label in labels]
    return {
        project: tuple(meter for label, meter in meters if label["shared"] or label["project_id"] == project)
        for project in project_ids
    }


def _meter(ident: str, found: list[Row]) -> protocol.Meter:
    return protocol.Meter(ident, tuple(_rule(row) for row in found))


def _rule(row: Row) -> protocol.MeterRule:
    return protocol.MeterRule(
        direction=cast(Literal["ingress", "egress"], row["direction"]),
        remote=row["remote_ip_prefix"] or "",
        source=row["source_ip_prefix"] or "",
        destination=row["destination_ip_prefix"] or "",
        excluded=row["excluded"],
    )
