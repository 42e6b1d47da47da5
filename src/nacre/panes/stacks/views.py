"""What the pane reads at once of stacks and services, so that every answer is of one moment."""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.context import Context
from nacre.cloud.errors import NotFound
from nacre.cloud.network.tables import fixed_ips, ports
from nacre.cloud.stacks import finding, members, operations, rules
from nacre.cloud.stacks.rules import Member
from nacre.cloud.stacks.tables import services, stacks

Row = dict[str, Any]


class ServiceView(Struct):
    """A service with its containers."""

    row: Row
    stack_name: str
    containers: list[Row]
    """As `members.of_services`; those that are to go are among them until they are gone."""
    targets: dict[str, str]
    """What is linked to -> that service's id."""

    @property
    def members(self) -> list[Member]:
        return [members.member(each) for each in self.containers]

    @property
    def state(self) -> str:
        return rules.state_of(self.row["intent"], self.row["phase"], self.members)


class StackView(Struct):
    """A stack with its services."""

    row: Row
    services: list[ServiceView]

    @property
    def state(self) -> str:
        if self.row["gone"]:
            return "Terminating"
        return rules.stack_state([each.state for each in self.services])


class ContainerView(Struct):
    """A container with its service and its addresses."""

    row: Row
    service: ServiceView
    addresses: list[str]

    @property
    def member(self) -> Member:
        return members.member(self.row)


def of_services(conn: sa.Connection, ctx: Context, rows: list[Row]) -> list[ServiceView]:
    kept = members.of_services(conn, [row["id"] for row in rows])
    views = []
    for row in rows:
        targets: dict[str, str] = {}
        for link in row["spec"]["linked_to_service"]:
            try:
                targets[link["to_service"]] = finding.service(conn, ctx, link["to_service"], row["stack_id"])["id"]
            except NotFound:
                continue
        views.append(ServiceView(row, finding.stack_name(conn, row), kept[row["id"]], targets))
    return views


def all_services(conn: sa.Connection, ctx: Context) -> list[ServiceView]:
    """The project's, oldest first."""
    wanted = sa.select(services).where(services.c.project_id == ctx.project_id).order_by(services.c.created_at, services.c.id)
    return of_services(conn, ctx, [dict(row) for row in conn.execute(wanted).mappings()])


def service(conn: sa.Connection, ctx: Context, ident: str) -> ServiceView:
    (view,) = of_services(conn, ctx, [operations.get(conn, ctx, ident)])
    return view


def all_stacks(conn: sa.Connection, ctx: Context) -> list[StackView]:
    wanted = sa.select(stacks).where(stacks.c.project_id == ctx.project_id).order_by(stacks.c.created_at, stacks.c.id)
    by_stack: dict[str, list[ServiceView]] = defaultdict(list)
    for view in all_services(conn, ctx):
        by_stack[view.row["stack_id"]].append(view)
    return [StackView(dict(row), by_stack[row["id"]]) for row in conn.execute(wanted).mappings()]


def stack(conn: sa.Connection, ctx: Context, ident: str) -> StackView:
    row = finding.stack(conn, ctx, ident)
    return StackView(row, of_services(conn, ctx, finding.services_of(conn, row["id"])))


def all_containers(conn: sa.Connection, ctx: Context) -> list[ContainerView]:
    """Those of services. What is gone by a service's own wish is not there."""
    found = [(row, view) for view in all_services(conn, ctx) for row in view.containers if row["server"] or not row["leaving"]]
    held = (
        sa.select(ports.c.device_id, fixed_ips.c.address)
        .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
        .where(ports.c.project_id == ctx.project_id)
        .order_by(ports.c.position, fixed_ips.c.position)
    )
    addresses: dict[str, list[str]] = defaultdict(list)
    for device_id, address in conn.execute(held) if found else ():
        addresses[device_id].append(address)
    return [ContainerView(row, view, addresses[row["server_id"]]) for row, view in found]


def container(conn: sa.Connection, ctx: Context, ident: str) -> ContainerView:
    for view in all_containers(conn, ctx):
        if view.row["server_id"] == ident:
            return view
    raise NotFound(f"Container {ident} was not found")
