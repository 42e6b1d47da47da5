"""Metering labels, their rules, and what they have counted."""

import msgspec

from nacre.cloud.collection import Row
from nacre.cloud.errors import Unavailable
from nacre.cloud.network import metering
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard


def _shown(row: Row, *names: str) -> Row:
    return {
        "id": row["id"],
        "tenant_id": row["project_id"],
        "project_id": row["project_id"],
        **{name: row[name] for name in names},
    }


label = Resource(
    singular="metering_label",
    plural="metering_labels",
    path="/v2.0/metering/metering-labels",
    operations=metering,
    policy="network:%s_metering_label",
    render=lambda call, row: _shown(row, "name", "description", "shared"),
    attributes=(
        *(each for each in standard() if not each.name.endswith("_at") and each.name != "revision_number"),
        Attribute("shared", bool, create=True, default=False, filter="boolean"),
    ),
    verbs=("list", "create", "show", "delete"),
)

rule = Resource(
    singular="metering_label_rule",
    plural="metering_label_rules",
    path="/v2.0/metering/metering-label-rules",
    operations=metering.rules,
    policy="network:%s_metering_label_rule",
    render=lambda call, row: _shown(row, "metering_label_id", "direction", "excluded", *metering.PREFIXES),
    attributes=(
        Attribute("id", filter="text"),
        Attribute("project_id", shapes.Ident, create=True, filter="text"),
        Attribute("tenant_id", shapes.Ident, create=True, filter="text"),
        Attribute("metering_label_id", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("direction", shapes.Direction, create=True, default="ingress", filter="text"),
        *(Attribute(name, shapes.Ident | None, create=True, filter="text") for name in metering.PREFIXES),
        Attribute("excluded", bool, create=True, default=False, filter="boolean"),
    ),
    verbs=("list", "create", "show", "delete"),
)


async def counters(call: Call) -> Reply:
    """Asked of the hosts that bear the routers. Raises Unavailable where one does not answer, or not in counters."""
    ident = call.path["metering_label_id"]
    found = []
    for host_id, router_id in await call.read(metering.places, ident):
        data = await call.cloud.hosts.dial(host_id, "meters", router_id, {})
        try:
            counted = msgspec.msgpack.decode(data, type=dict[str, tuple[int, int]])
        except msgspec.MsgspecError as error:
            raise Unavailable(f"The host {host_id} gave no counters: {error}") from None
        packets, size = counted.get(ident, (0, 0))
        found.append({"router_id": router_id, "packets": packets, "bytes": size})
    return Reply({"metering_counters": found})


ROUTES: tuple[Route, ...] = (
    *routes_of(label),
    *routes_of(rule),
    Route(
        "GET",
        "/v2.0/metering/metering-labels/{metering_label_id}/counters",
        counters,
        "network:get_metering_counters",
        "Show what a metering label has counted at each router",
    ),
)
