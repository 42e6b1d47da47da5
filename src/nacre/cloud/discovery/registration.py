"""What clients register in the catalog by themselves: nodes of theirs, with services and checks that they keep."""

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery import catalog
from nacre.cloud.discovery.indexes import changing
from nacre.cloud.discovery.kv import project_of
from nacre.cloud.discovery.tables import nodes
from nacre.cloud.errors import Invalid


class Registration(Struct, frozen=True, kw_only=True):
    """`service_values` None registers the node alone."""

    node: str
    node_values: Row
    keep_node: bool = False
    service_id: str = ""
    service_values: Row | None = None
    checks: tuple[tuple[str, Row], ...] = ()
    """(id, values)."""


def register(conn: sa.Connection, ctx: Context, wanted: Registration) -> None:
    """Raises Invalid. A host of the cloud stays what it is: only services and checks of the client's own come to it."""
    project_id = project_of(ctx)
    row = conn.execute(sa.select(nodes).where(nodes.c.project_id == project_id, nodes.c.name == wanted.node)).mappings().first()
    with changing(conn, project_id) as change:
        if row is None or (row["host_id"] is None and not wanted.keep_node):
            catalog.put_node(change, wanted.node, wanted.node_values)
        if wanted.service_values is not None:
            catalog.put_service(change, wanted.node, wanted.service_id, wanted.service_values)
        for ident, values in wanted.checks:
            service_id = values["service_id"] or ""
            catalog.put_check(change, wanted.node, ident, {**values, "service_id": service_id})


def deregister(conn: sa.Connection, ctx: Context, node: str, service_id: str, check_id: str) -> None:
    """A service, a check, or without both the node with all that is on it. What is not there is no error. Raises Invalid for what the
    cloud has registered: that lives as long as the server it is for."""
    project_id = project_of(ctx)
    where = (nodes.c.project_id == project_id, nodes.c.name == node)
    host_id = conn.execute(sa.select(nodes.c.host_id).where(*where)).scalar()
    with changing(conn, project_id) as change:
        if service_id:
            catalog.refuse_derived(change, node, service_id)
            catalog.drop_service(change, node, service_id)
        elif check_id:
            catalog.drop_check(change, node, check_id)
        elif host_id is not None:
            raise Invalid(f"The node {node!r} is a host of the cloud and cannot be deregistered", field="Node")
        else:
            catalog.drop_node(change, node)
