"""Health: /v1/health (https://developer.hashicorp.com/consul/api-docs/health)."""

from collections.abc import Callable
from typing import Any

from nacre.cloud.discovery import catalog
from nacre.cloud.errors import Invalid
from nacre.panes.consul import filters, render
from nacre.panes.consul.catalog import has_meta, has_tags, introduced
from nacre.panes.consul.dialect import flag
from nacre.panes.consul.queries import listed
from nacre.panes.edge import Call, Reply, Route

Row = dict[str, Any]
STATES = ("any", *catalog.STATUSES)


def show_checks(call: Call) -> Callable[[list[Row]], list[Row]]:
    """What shows checks, those that the request's filter wants. Raises Invalid."""
    wanted = filters.wanted(call, filters.CHECK)
    return lambda rows: [shown for row in rows if wanted(shown := render.check(row))]


async def service(call: Call) -> Reply:
    name, fits, at_node, passing = call.path["service"], has_tags(call), has_meta(call), is_passing(call)
    wanted = filters.wanted(call, filters.INSTANCE)

    def show(instances: Any) -> list[Row]:
        shown = (
            render.instance((row, at, checks))
            for row, at, checks in instances
            if fits(row) and at_node(at) and not (passing and catalog.worst(checks) != "passing")
        )
        return [each for each in shown if wanted(each)]

    return await listed(call, [f"service/{name}"], show, catalog.instances, name, filtered=True)


def is_passing(call: Call) -> bool:
    return flag(call, "passing") and call.query["passing"].lower() not in ("0", "false", "f")


async def node(call: Call) -> Reply:
    await introduced(call)
    name = call.path["node"]
    show = show_checks(call)
    return await listed(call, [f"node/{name}"], lambda value: show(value[2]), catalog.node, name, filtered=True)


async def checks(call: Call) -> Reply:
    name = call.path["service"]
    return await listed(call, [f"service/{name}"], show_checks(call), catalog.checks_of_service, name, filtered=True)


async def state(call: Call) -> Reply:
    await introduced(call)
    asked = call.path["state"]
    if asked not in STATES:
        raise Invalid(f"Invalid state {asked!r}; it is one of {', '.join(STATES)}", field="state")
    return await listed(call, ["checks"], show_checks(call), catalog.checks_in_state, asked, filtered=True)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health/service/{service}", service, "discovery:read", "The instances of a service with their checks"),
    Route("GET", "/health/node/{node}", node, "discovery:read", "The checks of a node"),
    Route("GET", "/health/checks/{service}", checks, "discovery:read", "The checks of a service"),
    Route("GET", "/health/state/{state}", state, "discovery:read", "The checks in a state"),
)
