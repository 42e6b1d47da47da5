"""Server groups: servers that are to be on one host, or on several."""

from nacre.cloud.collection import Row
from nacre.cloud.compute import server_groups
from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas_admin as schemas
from nacre.panes.openstack.compute.dialect import body_under, limit_of
from nacre.panes.openstack.query import parse_boolean, parse_integer

ONE_POLICY = 64
"""From this minor version on a group has one policy and its rules, before that a list of one."""
SOFT_POLICIES = 15


def _shown(call: Call, row: Row) -> Row:
    shown: Row = {"id": row["id"], "name": row["name"], "members": row["members"]}
    if call.at_least(13):
        shown |= {"project_id": row["project_id"], "user_id": row["user_id"]}
    if call.at_least(ONE_POLICY):
        return shown | {"policy": row["policy"], "rules": row["rules"]}
    return shown | {"policies": [row["policy"]], "metadata": {}}


async def index(call: Call) -> Reply:
    offset = parse_integer(call.query.get("offset", "0"), "offset")
    everybody = "all_projects" in call.query and call.context.is_admin
    everybody = everybody and parse_boolean(call.query["all_projects"] or "true", "all_projects")
    rows = await call.read(server_groups.find, all_projects=everybody, limit=limit_of(call), offset=offset)
    return Reply({"server_groups": [_shown(call, row) for row in rows]})


async def show(call: Call) -> Reply:
    return Reply({"server_group": _shown(call, await call.read(server_groups.get, call.path["group_id"]))})


async def create(call: Call) -> Reply:
    if call.at_least(ONE_POLICY):
        sent = await body_under(call, "server_group", schemas.ServerGroupCreate)
        name, policy = sent.name, sent.policy
        rules: dict[str, int] = {str(key): int(value) for key, value in (sent.rules or {}).items()}
        if rules and policy != "anti-affinity":
            raise Invalid("Only anti-affinity policy supports rules.", field="server_group.rules")
    else:
        old = await body_under(call, "server_group", schemas.ServerGroupCreateOld)
        name, policy, rules = old.name, old.policies[0], {}
        if policy.startswith("soft-") and not call.at_least(SOFT_POLICIES):
            raise Invalid(f"{policy!r} is not one of affinity, anti-affinity.", field="server_group.policies")
    return Reply({"server_group": _shown(call, await call.write(server_groups.create, name, policy, rules))})


async def delete(call: Call) -> Reply:
    await call.write(server_groups.delete, call.path["group_id"])
    return Reply(status=204)
