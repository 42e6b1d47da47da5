"""Security groups as Nova once passed them on from Neutron (until 2.35), and the groups of a server (at every version)."""

import ipaddress
from uuid import UUID

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.network import security_group_rules as rules
from nacre.cloud.network import security_groups as groups
from nacre.cloud.network import servers as network
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import LIMIT_MAX, body_under
from nacre.panes.openstack.query import parse_boolean, parse_integer
from nacre.store import Criterion, Query

ANYWHERE = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}
PORTS = ("tcp", "udp")
PORT_MAX = 65_535

Names = dict[str, tuple[str, str]]
"""Group -> (name, project), for the groups that rules name as their remote."""


def _rule(rule: Row, names: Names) -> Row:
    low, high, protocol = rule["port_range_min"], rule["port_range_max"], rule["protocol"]
    if protocol and low is None and high is None:
        low, high = (1, PORT_MAX) if protocol in PORTS else (-1, -1)
    remote = rule["remote_group_id"]
    name, project = names.get(remote, ("", "")) if remote else ("", "")
    return {
        "id": rule["id"],
        "parent_group_id": rule["security_group_id"],
        "ip_protocol": protocol,
        "from_port": low,
        "to_port": high,
        "group": {"name": name, "tenant_id": project} if remote else {},
        "ip_range": {} if remote else {"cidr": rule["remote_ip_prefix"] or ANYWHERE[rule["ethertype"]]},
    }


def _group(row: Row, names: Names) -> Row:
    """Nova knew rules for what comes in only."""
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "tenant_id": row["project_id"],
        "rules": [_rule(rule, names) for rule in row["security_group_rules"] if rule["direction"] == "ingress"],
    }


def _names(conn: sa.Connection, ctx: Context, rows: list[Row]) -> Names:
    """The names of the remote groups that the rules of these groups speak of."""
    found = {row["id"]: (row["name"], row["project_id"]) for row in rows}
    wanted = {rule["remote_group_id"] for row in rows for rule in row["security_group_rules"]} - {None, *found}
    if wanted:
        query = Query((Criterion("id", "in", sorted(wanted)),))
        found |= {row["id"]: (row["name"], row["project_id"]) for row in groups.find(conn, ctx, query).rows}
    return found


def _shown(conn: sa.Connection, ctx: Context, rows: list[Row]) -> list[Row]:
    names = _names(conn, ctx, rows)
    return [_group(row, names) for row in rows]


def _find(conn: sa.Connection, ctx: Context, query: Query) -> list[Row]:
    return _shown(conn, ctx, groups.find(conn, ctx, query).rows)


def _get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    try:
        return _shown(conn, ctx, [groups.get(conn, ctx, ident)])[0]
    except NotFound:
        raise NotFound(f"Security group {ident} not found.", code="SecurityGroupNotFound") from None


def _of_server(conn: sa.Connection, ctx: Context, ident: str) -> list[Row]:
    row = servers.get(conn, ctx, ident)
    return _shown(conn, ctx, network.groups_of_server(conn, ctx, row["id"]))


async def index(call: Call) -> Reply:
    """The project's groups; everybody's for an admin who asks for all_tenants."""
    if await call.read(groups.lacks_default):
        await call.write(groups.make_default)
    criteria = []
    everybody = call.context.is_admin and parse_boolean(call.query.get("all_tenants", "false"), "all_tenants")
    if not everybody:
        criteria.append(Criterion("project_id", "eq", call.context.project_id))
    limit = parse_integer(call.query.get("limit", str(LIMIT_MAX)), "limit")
    offset = parse_integer(call.query.get("offset", "0"), "offset")
    found = await call.read(_find, Query(tuple(criteria), sort=(("name", "asc"),)))
    return Reply({"security_groups": found[offset : offset + limit]})


async def show(call: Call) -> Reply:
    return Reply({"security_group": await call.read(_get, call.path["group_id"])})


async def create(call: Call) -> Reply:
    sent = await body_under(call, "security_group", schemas.SecurityGroupBody)
    values = {"name": _name(sent.name), "description": sent.description or ""}
    try:
        row = await call.write(groups.create, values)
    except Conflict as error:
        raise Invalid(error.message, field="security_group.name") from None
    return Reply({"security_group": await call.read(_get, row["id"])})


async def update(call: Call) -> Reply:
    sent = await body_under(call, "security_group", schemas.SecurityGroupBody)
    values: Row = {"name": _name(sent.name)}
    if sent.description is not None:
        values["description"] = sent.description
    try:
        await call.write(groups.update, call.path["group_id"], values)
    except Conflict as error:
        raise Invalid(error.message, field="security_group.name") from None
    return await _answer(call)


async def _answer(call: Call) -> Reply:
    return Reply({"security_group": await call.read(_get, call.path["group_id"])})


def _name(name: str) -> str:
    if not name.strip():
        raise Invalid("Security group name cannot be empty.", field="security_group.name")
    return name


async def delete(call: Call) -> Reply:
    """A group in use answers 400, as Nova does."""
    try:
        await call.write(groups.delete, call.path["group_id"])
    except Conflict as error:
        raise Invalid(error.message, field="group_id") from None
    return Reply(status=202)


async def list_of_server(call: Call) -> Reply:
    return Reply({"security_groups": await call.read(_of_server, call.path["server_id"])})


def _create_rule(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    made = rules.create(conn, ctx, values)
    parent = groups.get(conn, ctx, values["security_group_id"])
    names = _names(conn, ctx, [{**parent, "security_group_rules": [made]}])
    return _rule(made, names)


async def create_rule(call: Call) -> Reply:
    sent = await body_under(call, "security_group_rule", schemas.SecurityGroupRuleBody)
    try:
        return Reply({"security_group_rule": await call.write(_create_rule, _rule_values(sent))})
    except Conflict as error:
        raise Invalid(error.message, field="security_group_rule") from None


def _rule_values(sent: schemas.SecurityGroupRuleBody) -> Row:
    """A rule in Networking's terms. -1 is any port, type or code."""
    protocol = sent.ip_protocol.lower() if sent.ip_protocol else None
    low, high = (_port(value, name) for value, name in ((sent.from_port, "from_port"), (sent.to_port, "to_port")))
    if protocol is None and sent.group_id is None:
        raise Invalid("Invalid IP protocol: a rule without a source group needs ip_protocol.", field="ip_protocol")
    if protocol in PORTS and (low is None or high is None) and sent.group_id is None:
        raise Invalid("Invalid port range: from_port and to_port are needed.", field="from_port")
    prefix = None if sent.group_id or not sent.cidr else _network(sent.cidr)
    if not _is_uuid(sent.parent_group_id):
        raise Invalid("Security group id should be uuid", field="parent_group_id")
    values: Row = {
        "security_group_id": sent.parent_group_id,
        "direction": "ingress",
        "protocol": protocol,
        "port_range_min": low,
        "port_range_max": high,
        "ethertype": "IPv6" if prefix and ":" in prefix else "IPv4",
    }
    if sent.group_id:
        values["remote_group_id"] = sent.group_id
    elif prefix and prefix not in ANYWHERE.values():
        values["remote_ip_prefix"] = prefix
    return values


def _network(cidr: str) -> str:
    """The prefix in its canonical spelling, with the bits of a host where it has some. Raises Invalid."""
    try:
        interface = ipaddress.ip_interface(cidr)
        return str(interface.network if interface.network.prefixlen == 0 else interface)
    except ValueError:
        raise Invalid(f"Invalid cidr {cidr}.", field="cidr") from None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _port(value: int | str | None, name: str) -> int | None:
    if value is None:
        return None
    number = parse_integer(str(value), name, -1, PORT_MAX)
    return None if number == -1 else number


async def delete_rule(call: Call) -> Reply:
    await call.write(rules.delete, call.path["rule_id"])
    return Reply(status=202)
