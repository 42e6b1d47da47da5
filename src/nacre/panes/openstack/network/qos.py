"""QoS policies and their rules."""

from types import SimpleNamespace
from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.network import qos
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Attribute, Resource, envelope
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of, values_of
from nacre.panes.openstack.network.dialect import DIALECT, standard, standard_values

_COLUMNS: dict[str, tuple[str, ...]] = {qos.BANDWIDTH_LIMIT: ("max_kbps", "max_burst_kbps", "direction")}


def render_rule(call: Call, row: Row) -> Row:
    return {"id": row["id"], **{name: row[name] for name in _COLUMNS[row["type"]]}}


def render(call: Call, row: Row) -> Row:
    rules = [{**render_rule(call, rule), "type": rule["type"], "qos_policy_id": row["id"]} for rule in row["rules"]]
    return {
        **standard_values(row),
        "name": row["name"],
        "shared": row["shared"],
        "is_default": row["is_default"],
        "rules": rules,
    }


policy = Resource(
    singular="policy",
    plural="policies",
    path="/v2.0/qos/policies",
    operations=qos,
    policy="network:%s_qos_policy",
    render=render,
    attributes=(
        *(each for each in standard() if each.name != "name"),
        Attribute("name", shapes.Name, create=True, update=True, required=True, filter="text"),
        Attribute("shared", bool, create=True, update=True, admin=True, filter="boolean"),
        Attribute("is_default", bool, create=True, update=True, filter="boolean"),
    ),
)

bandwidth_limit = Resource(
    singular="bandwidth_limit_rule",
    plural="bandwidth_limit_rules",
    path="",
    operations=SimpleNamespace(),
    policy="",
    render=render_rule,
    attributes=(
        Attribute("id", filter="text"),
        Attribute("max_kbps", shapes.Rate, create=True, update=True, required=True, filter="integer"),
        Attribute("max_burst_kbps", shapes.Natural, create=True, update=True, default=0, filter="integer"),
        Attribute("direction", shapes.Direction, create=True, update=True, default="egress", filter="text"),
    ),
)
KINDS: dict[str, Resource] = {qos.BANDWIDTH_LIMIT: bandwidth_limit}


def _rule_routes(kind: str, resource: Resource) -> tuple[Route, ...]:
    one, many = resource.singular, resource.plural

    async def listing(call: Call) -> Reply:
        query = DIALECT.query(call, resource)
        page = await call.read(qos.find_rules, call.path["policy_id"], kind, query)
        return Reply(DIALECT.many(call, resource, page, query))

    async def create(call: Call) -> Reply:
        values = values_of(resource, call, envelope(await call.body(dict[str, Any]), one), "create")
        row = await call.write(qos.create_rule, call.path["policy_id"], kind, values)
        return Reply({one: DIALECT.one(call, resource, row)}, 201)

    async def show(call: Call) -> Reply:
        row = await call.read(qos.get_rule, call.path.get("policy_id"), kind, call.path["rule_id"])
        return Reply({one: DIALECT.one(call, resource, row)})

    async def update(call: Call) -> Reply:
        body = await call.body(dict[str, Any])
        values = values_of(resource, call, envelope(body, one if one in body else f"alias_{one}"), "update")
        row = await call.write(qos.update_rule, call.path.get("policy_id"), kind, call.path["rule_id"], values)
        return Reply({one: DIALECT.one(call, resource, row)})

    async def delete(call: Call) -> Reply:
        await call.write(qos.delete_rule, call.path.get("policy_id"), kind, call.path["rule_id"])
        return Reply(status=204)

    stem, alias = f"/v2.0/qos/policies/{{policy_id}}/{many}", f"/v2.0/qos/alias_{many}/{{rule_id}}"
    item, get, change = f"{stem}/{{rule_id}}", f"network:get_policy_{one}", f"network:update_policy_{one}"
    drop = f"network:delete_policy_{one}"
    return (
        Route("GET", stem, listing, get, f"List the {many} of a QoS policy"),
        Route("POST", stem, create, f"network:create_policy_{one}", f"Create a {one}"),
        Route("GET", item, show, get, f"Show a {one}"),
        Route("PUT", item, update, change, f"Update a {one}"),
        Route("DELETE", item, delete, drop, f"Delete a {one}"),
        Route("GET", alias, show, get, f"Show a {one} by its own id"),
        Route("PUT", alias, update, change, f"Update a {one} by its own id"),
        Route("DELETE", alias, delete, drop, f"Delete a {one} by its own id"),
    )


async def list_types(call: Call) -> Reply:
    """Both filters of Neutron's make no difference here: every driver has every type."""
    for key in call.query:
        if key not in ("type", "all_supported", "all_rules", "fields"):
            raise Invalid(f"Invalid input for operation: '{key}' is an invalid attribute for filtering.", field=key)
    wanted = call.query.getall("type", list(qos.RULE_TYPES))
    return Reply({"rule_types": [{"type": kind} for kind in qos.RULE_TYPES if kind in wanted]})


_RANGES: dict[str, list[Row]] = {
    qos.BANDWIDTH_LIMIT: [
        {"parameter_name": "max_kbps", "parameter_type": "range", "parameter_values": {"start": 1, "end": shapes.RATE_MAX}},
        {"parameter_name": "max_burst_kbps", "parameter_type": "range", "parameter_values": {"start": 0, "end": 2**31 - 1}},
        {"parameter_name": "direction", "parameter_type": "choices", "parameter_values": ["ingress", "egress"]},
    ]
}


async def show_type(call: Call) -> Reply:
    kind = call.path["rule_type"]
    if kind not in qos.RULE_TYPES:
        raise NotFound(f"Rule type {kind} could not be found.", code="QosRuleTypeNotFound")
    drivers = [{"name": "nacre", "supported_parameters": _RANGES[kind]}]
    return Reply({"rule_type": {"type": kind, "drivers": drivers}})


ROUTES: tuple[Route, ...] = (
    *routes_of(policy),
    *(route for kind, resource in KINDS.items() for route in _rule_routes(kind, resource)),
    Route("GET", "/v2.0/qos/rule-types", list_types, "network:get_rule_type", "List the types of QoS rules"),
    Route("GET", "/v2.0/qos/rule-types/{rule_type}", show_type, "network:get_rule_type", "Show a type of QoS rules"),
)
