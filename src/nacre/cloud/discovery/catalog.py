"""The catalog: nodes, the services on them and the checks of both (https://developer.hashicorp.com/consul/api-docs/catalog).

Everything that registers (a client, the agent's endpoints, the cloud for its own servers) goes through `put_*` and `drop_*`, which write
only what differs and touch the topics that concern it.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery import sessions
from nacre.cloud.discovery.indexes import Change, Found, of_topics
from nacre.cloud.discovery.kv import project_of
from nacre.cloud.discovery.sessions import NODE_CHECK
from nacre.cloud.discovery.tables import checks, nodes, services
from nacre.cloud.errors import Invalid
from nacre.store import Prepared
from nacre.store.schema import new_id

AGENT = "nacre"
"""The node of the project's own agent: what is registered at the agent's endpoints is there."""
STATUSES = ("passing", "warning", "critical")
OUTPUT_CHARS_MAX = 4096
THINGS_MAX = 20_000
"""Nodes, services and checks of one project, each."""


def put_node(change: Change, name: str, values: Row) -> Row:
    """Make or change a node. `values`: id, address, meta, tagged_addresses, host_id; what is missing stays, or has its default."""
    row = _one(change, nodes, name=name)
    if row is None:
        values = {"id": new_id(), **values}
    row, changed = _put(change, nodes, row, {"name": name}, values)
    if changed:
        change.touch("nodes", f"node/{name}", *_services_on(change, name))
    return row


def ensure_agent(change: Change) -> None:
    """The agent's own node, from the first time that somebody registers something with it."""
    if _one(change, nodes, name=AGENT) is None:
        put_node(change, AGENT, {"address": "127.0.0.1"})
        put_check(
            change, AGENT, NODE_CHECK, {"name": "Serf Health Status", "status": "passing", "output": "Agent alive and reachable"}
        )


def put_service(change: Change, node: str, ident: str, values: Row) -> Row:
    """Make or change a service. `values`: name and the rest of the row; what is missing has its default."""
    before = _one(change, services, node=node, id=ident)
    defaults = {"tags": [], "address": "", "port": 0, "meta": {}, "tagged_addresses": {}, "weights": WEIGHTS}
    values = {**defaults, "enable_tag_override": False, "server_id": None, **values}
    row, changed = _put(change, services, before, {"node": node, "id": ident}, values)
    if changed:
        change.touch("services", f"service/{row['name']}", f"node/{node}")
        if before is not None and before["name"] != row["name"]:
            change.touch(f"service/{before['name']}")
    return row


WEIGHTS = {"Passing": 1, "Warning": 1}


def put_check(change: Change, node: str, ident: str, values: Row) -> Row:
    """Make or change a check. One that becomes critical ends the sessions that rest on it. Raises Invalid for a service that is not there."""
    before = _one(change, checks, node=node, id=ident)
    defaults = {"notes": "", "output": "", "service_id": "", "service_name": "", "type": "", "definition": {}}
    base = {**defaults, "name": ident, "status": "critical"} if before is None else {}
    values = {**base, **values}
    service_id = values.get("service_id")
    if service_id:
        service = _one(change, services, node=node, id=service_id)
        if service is None:
            raise Invalid(f'ServiceID "{service_id}" does not exist', field="ServiceID")
        values["service_name"] = service["name"]
    row, changed = _put(change, checks, before, {"node": node, "id": ident}, values)
    if changed:
        _touch_check(change, row)
        if row["status"] == "critical":
            sessions.check_lost(change, node, ident)
    return row


def _touch_check(change: Change, row: Row) -> None:
    change.touch("checks", f"node/{row['node']}")
    concerned = [f"service/{row['service_name']}"] if row["service_id"] else _services_on(change, row["node"])
    change.touch(*concerned)


def drop_node(change: Change, name: str) -> None:
    row = _one(change, nodes, name=name)
    if row is None:
        return
    change.touch("nodes", "services", "checks", f"node/{name}", *_services_on(change, name))
    sessions.check_lost(change, name)
    for table in (checks, services):
        change.conn.execute(table.delete().where(table.c.project_id == change.project_id, table.c.node == name))
    change.conn.execute(nodes.delete().where(nodes.c.project_id == change.project_id, nodes.c.name == name))


def drop_service(change: Change, node: str, ident: str) -> bool:
    """The service goes with its checks. False when it was not there."""
    row = _one(change, services, node=node, id=ident)
    if row is None:
        return False
    for check_id in _ids(change, checks, node=node, service_id=ident):
        drop_check(change, node, check_id)
    change.touch("services", f"service/{row['name']}", f"node/{node}")
    _delete(change, services, node=node, id=ident)
    return True


def refuse_derived(change: Change, node: str, ident: str) -> None:
    """Raises Invalid for a service that the cloud itself has registered: it lives as long as its server."""
    row = _one(change, services, node=node, id=ident)
    if row is not None and row["server_id"] is not None:
        raise Invalid(f"The service {ident!r} is that of server {row['server_id']}, and goes with it", field="ServiceID")


def drop_check(change: Change, node: str, ident: str) -> bool:
    row = _one(change, checks, node=node, id=ident)
    if row is None:
        return False
    _touch_check(change, row)
    sessions.check_lost(change, node, ident)
    _delete(change, checks, node=node, id=ident)
    return True


def _put(change: Change, table: sa.Table, row: Row | None, key: Row, values: Row) -> tuple[Row, bool]:
    """The row as it is now, and whether anything of it changed."""
    if row is not None and all(row[name] == value for name, value in values.items()):
        return row, False
    if row is None:
        if change.bounded:
            _check_room(change, table)
        made = {"project_id": change.project_id, **key, **values, "create_index": change.index, "modify_index": change.index}
        _insert(table).run(change.conn, **made)
        return {column.name: made.get(column.name, _default(column)) for column in table.c}, True
    now = {**values, "modify_index": change.index}
    new = {f"new_{name}": value for name, value in now.items()}
    _update(table, tuple(key), tuple(now)).run(change.conn, project_id=change.project_id, **key, **new)
    return {**row, **now}, True


def _check_room(change: Change, table: sa.Table) -> None:
    count = sa.select(sa.func.count()).select_from(table).where(table.c.project_id == change.project_id)
    if change.conn.execute(count).scalar_one() >= THINGS_MAX:
        raise Invalid(f"the project has {THINGS_MAX} {table.name.removeprefix('discovery_')} already")


def _default(column: sa.Column[Any]) -> Any:
    made = getattr(column.default, "arg", None)
    return made(None) if callable(made) else made


def _bound(table: sa.Table, names: Iterable[str]) -> list[sa.ColumnElement[bool]]:
    """The project's rows with these values of the columns."""
    return [table.c[name] == sa.bindparam(name) for name in ("project_id", *names)]


# Each server that starts or ends walks these a dozen times: the few statements there are, are compiled once.


@cache
def _insert(table: sa.Table) -> Prepared:
    return Prepared(table.insert())


@cache
def _update(table: sa.Table, key: tuple[str, ...], names: tuple[str, ...]) -> Prepared:
    new = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    return Prepared(table.update().where(*_bound(table, key)).values(new))


@cache
def _select(table: sa.Table, key: tuple[str, ...]) -> Prepared:
    return Prepared(sa.select(table).where(*_bound(table, key)))


@cache
def _select_ids(table: sa.Table, key: tuple[str, ...]) -> Prepared:
    return Prepared(sa.select(table.c.id).where(*_bound(table, key)))


@cache
def _remove(table: sa.Table, key: tuple[str, ...]) -> Prepared:
    return Prepared(table.delete().where(*_bound(table, key)))


_NAMES_ON = Prepared(sa.select(services.c.name).where(*_bound(services, ("node",))))
"""Not `distinct`: for that SQLite would walk the whole project in the order of the names."""


def _one(change: Change, table: sa.Table, **key: Any) -> Row | None:
    return _select(table, tuple(key)).first(change.conn, project_id=change.project_id, **key)


def _ids(change: Change, table: sa.Table, **key: Any) -> list[str]:
    return _select_ids(table, tuple(key)).scalars(change.conn, project_id=change.project_id, **key)


def _delete(change: Change, table: sa.Table, **key: Any) -> None:
    _remove(table, tuple(key)).run(change.conn, project_id=change.project_id, **key)


def has_check(change: Change, node: str, ident: str) -> bool:
    return bool(_ids(change, checks, node=node, id=ident))


def has_services(change: Change, node: str) -> bool:
    return bool(_ids(change, services, node=node))


def _services_on(change: Change, node: str) -> list[str]:
    """The topics of the services on a node: whoever reads them is shown the node too."""
    names = _NAMES_ON.scalars(change.conn, project_id=change.project_id, node=node)
    return [f"service/{name}" for name in dict.fromkeys(names)]


# What is read: rows, with the index of the topics they belong to.


def _rows(conn: sa.Connection, ctx: Context, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Row]:
    statement = sa.select(table).where(table.c.project_id == project_of(ctx), *where)
    return [dict(row) for row in conn.execute(statement.order_by(*table.primary_key.columns)).mappings()]


def find_nodes(conn: sa.Connection, ctx: Context) -> Found:
    return Found(of_topics(conn, project_of(ctx), "nodes"), _rows(conn, ctx, nodes))


def find_services(conn: sa.Connection, ctx: Context) -> Found:
    return Found(of_topics(conn, project_of(ctx), "services"), _rows(conn, ctx, services))


def instances(conn: sa.Connection, ctx: Context, name: str) -> Found:
    """The instances of a service: (service, its node, the checks of both) each."""
    found = _rows(conn, ctx, services, services.c.name == name)
    at = sorted({row["node"] for row in found})
    by_node = {row["name"]: row for row in _rows(conn, ctx, nodes, nodes.c.name.in_(at))}
    concerned = _rows(conn, ctx, checks, checks.c.node.in_(at), checks.c.service_name.in_(["", name]))
    shown = [
        (
            row,
            by_node[row["node"]],
            [each for each in concerned if each["node"] == row["node"] and each["service_id"] in ("", row["id"])],
        )
        for row in found
    ]
    return Found(of_topics(conn, project_of(ctx), f"service/{name}"), shown)


def node(conn: sa.Connection, ctx: Context, name: str) -> Found:
    """(node or None, its services, its checks)."""
    found = _rows(conn, ctx, nodes, nodes.c.name == name)
    value = (
        found[0] if found else None,
        _rows(conn, ctx, services, services.c.node == name),
        _rows(conn, ctx, checks, checks.c.node == name),
    )
    return Found(of_topics(conn, project_of(ctx), f"node/{name}"), value)


def checks_of_service(conn: sa.Connection, ctx: Context, name: str) -> Found:
    return Found(of_topics(conn, project_of(ctx), f"service/{name}"), _rows(conn, ctx, checks, checks.c.service_name == name))


def checks_in_state(conn: sa.Connection, ctx: Context, status: str) -> Found:
    where = () if status == "any" else (checks.c.status == status,)
    return Found(of_topics(conn, project_of(ctx), "checks"), _rows(conn, ctx, checks, *where))


def worst(found: list[Row]) -> str:
    """The worst status of these checks; passing without any."""
    return STATUSES[max((STATUSES.index(row["status"]) for row in found), default=0)]
