"""Health: /v1/health (https://developer.hashicorp.com/consul/api-docs/health)."""

from typing import Any

from nacre.cloud.discovery import catalog
from nacre.cloud.errors import Invalid
from nacre.panes.consul import render
from nacre.panes.consul.catalog import has_meta, has_tags, introduced
from nacre.panes.consul.dialect import flag
from nacre.panes.consul.queries import listed
from nacre.panes.edge import Call, Reply, Route

Row = dict[str, Any]
STATES = ("any", *catalog.STATUSES)


def show_checks(rows: list[Row]) -> list[Row]:
    return [render.check(row) for row in rows]


async def service(call: Call) -> Reply:
    name, fits, at_node, passing = call.path["service"], has_tags(call), has_meta(call), is_passing(call)

    def show(instances: Any) -> list[Row]:
        return [
            render.instance((row, at, checks))
            for row, at, checks in instances
            if fits(row) and at_node(at) and not (passing and catalog.worst(checks) != "passing")
        ]

    return await listed(call, [f"service/{name}"], show, catalog.instances, name)


def is_passing(call: Call) -> bool:
    return flag(call, "passing") and call.query["passing"].lower() not in ("0", "false", "f")


async def node(call: Call) -> Reply:
    await introduced(call)
    name = call.path["node"]
    return await listed(call, [f"node/{name}"], lambda value: show_checks(value[2]), catalog.node, name)


async def checks(call: Call) -> Reply:
    name = call.path["service"]
    return await listed(call, [f"service/{name}"], show_checks, catalog.checks_of_service, name)


async def state(call: Call) -> Reply:
    await introduced(call)
    asked = call.path["state"]
    if asked not in STATES:
        raise Invalid(f"Invalid state {asked!r}; it is one of {', '.join(STATES)}", field="state")
    return await listed(call, ["checks"], show_checks, catalog.checks_in_state, asked)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health/service/{service}", service, "discovery:read", "The instances of a service with their checks"),
    Route("GET", "/health/node/{node}", node, "discovery:read", "The checks of a node"),
    Route("GET", "/health/checks/{service}", checks, "discovery:read", "The checks of a service"),
    Route("GET", "/health/state/{state}", state, "discovery:read", "The checks in a state"),
)
