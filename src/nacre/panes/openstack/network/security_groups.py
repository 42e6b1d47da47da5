"""Security groups and their rules."""

from dataclasses import replace

from nacre.cloud.collection import Row
from nacre.cloud.network import default_rules, security_group_rules, security_groups
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard, standard_values

_RULE = (
    "security_group_id",
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
)


def render_rule(call: Call, row: Row) -> Row:
    return {
        **standard_values(row),
        **{name: row[name] for name in _RULE},
        "normalized_cidr": security_group_rules.normalized(row["remote_ip_prefix"]),
    }


def render_group(call: Call, row: Row) -> Row:
    return {
        **standard_values(row),
        "name": row["name"],
        "stateful": row["stateful"],
        "shared": row["shared"],
        "security_group_rules": [render_rule(call, rule) for rule in row["security_group_rules"]],
    }


group = Resource(
    singular="security_group",
    plural="security_groups",
    path="/v2.0/security-groups",
    operations=security_groups,
    policy="network:%s_security_group",
    render=render_group,
    attributes=(
        *standard(),
        Attribute("stateful", bool, create=True, update=True, filter="boolean"),
        Attribute("shared", bool, filter="boolean"),
    ),
)

rule = Resource(
    singular="security_group_rule",
    plural="security_group_rules",
    path="/v2.0/security-group-rules",
    operations=security_group_rules,
    policy="network:%s_security_group_rule",
    render=render_rule,
    attributes=(
        *(replace(each, update=False) for each in standard(name=False)),
        Attribute("security_group_id", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("direction", shapes.Direction, create=True, required=True, filter="text"),
        Attribute("ethertype", str | None, create=True, filter="text"),
        Attribute("protocol", str | int | None, create=True, filter="text"),
        Attribute("port_range_min", shapes.Integer | None, create=True, filter="integer"),
        Attribute("port_range_max", shapes.Integer | None, create=True, filter="integer"),
        Attribute("remote_ip_prefix", str | None, create=True, filter="text"),
        Attribute("remote_group_id", shapes.Ident | None, create=True, filter="text"),
        Attribute("remote_address_group_id", shapes.Ident | None, create=True, filter="text"),
    ),
    verbs=("list", "create", "show", "delete"),
)

default_rule = Resource(
    singular="default_security_group_rule",
    plural="default_security_group_rules",
    path="/v2.0/default-security-group-rules",
    operations=default_rules,
    policy="network:%s_default_security_group_rule",
    render=lambda call, row: {
        "id": row["id"],
        "description": row["description"],
        **{name: row[name] for name in default_rules.SAME},
        "remote_address_group_id": None,
        "used_in_default_sg": row["used_in_default_sg"],
        "used_in_non_default_sg": row["used_in_non_default_sg"],
    },
    attributes=(
        Attribute("id", filter="text"),
        Attribute("description", shapes.Text | None, create=True, filter="text"),
        *(
            each
            for each in rule.attributes
            if each.name in (*_RULE, "project_id", "tenant_id") and each.name != "security_group_id"
        ),
        Attribute("used_in_default_sg", bool, create=True, default=False, filter="boolean"),
        Attribute("used_in_non_default_sg", bool, create=True, default=True, filter="boolean"),
    ),
    verbs=("list", "create", "show", "delete"),
)
_templates = routes_of(default_rule)


async def list_default_rules(call: Call) -> Reply:
    """Neutron's own templates are put in when somebody first looks."""
    if await call.read(default_rules.lacking):
        await call.write(default_rules.seed)
    return await _templates[0].handler(call)


_groups = {(route.method, route.path): route for route in routes_of(group)}
_list = _groups["GET", group.path]


async def list_groups(call: Call) -> Reply:
    """A project's default group is made when it first looks; a question that is refused makes none."""
    reply = await _list.handler(call)
    if await call.read(security_groups.lacks_default):
        await call.write(security_groups.make_default)
        reply = await _list.handler(call)
    return reply


ROUTES: tuple[Route, ...] = (
    replace(_list, handler=list_groups),
    *(route for key, route in _groups.items() if key != ("GET", group.path)),
    *routes_of(rule),
    replace(_templates[0], handler=list_default_rules),
    *_templates[1:],
)
