"""Quota sets, quota class sets and limits."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute import quotas
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import convert
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import body_under, name_field, unexpected

NETWORK = frozenset({"fixed_ips", "floating_ips", "security_groups", "security_group_rules"})
FILES = frozenset({"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"})
GROUPS = frozenset({"server_groups", "server_group_members"})


def _names(call: Call) -> list[str]:
    """The quotas that a quota set has at the request's microversion."""
    dropped = (NETWORK if call.at_least(36) else frozenset()) | (FILES if call.at_least(57) else frozenset())
    return [name for name in quotas.DEFAULTS if name not in dropped]


def _class_names(call: Call) -> list[str]:
    dropped = (NETWORK if call.at_least(50) else GROUPS) | (FILES if call.at_least(57) else frozenset())
    return [name for name in quotas.DEFAULTS if name not in dropped]


def _picked(values: dict[str, Any], names: list[str], **more: Any) -> Row:
    return {**more, **{name: values[name] for name in names}}


def _limits(
    conn: sa.Connection, ctx: Context, project_id: str, user_id: str | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    used = quotas.used_by(conn, project_id, user_id)
    return (quotas.limits_of(conn, project_id) if user_id is None else quotas.limits_of_user(conn, project_id, user_id)), used


def _defaults(conn: sa.Connection, ctx: Context) -> dict[str, int]:
    return quotas.defaults_of(conn)


async def show(call: Call) -> Reply:
    """A project's quotas; with `user_id` those of one of its users."""
    ident = call.path["quota_project_id"]
    limits, _ = await call.read(_limits, ident, call.query.get("user_id"))
    return Reply({"quota_set": _picked(limits, _names(call), id=ident)})


async def detail(call: Call) -> Reply:
    ident = call.path["quota_project_id"]
    limits, used = await call.read(_limits, ident, call.query.get("user_id"))
    values = {name: {"limit": limits[name], "in_use": used[name], "reserved": 0} for name in limits}
    return Reply({"quota_set": _picked(values, _names(call), id=ident)})


async def defaults(call: Call) -> Reply:
    values = await call.read(_defaults)
    return Reply({"quota_set": _picked(values, _names(call), id=call.path["quota_project_id"])})


def _changes(sent: dict[str, Any], names: list[str], envelope: str, *others: str) -> dict[str, int]:
    changes: dict[str, int] = {}
    for name, value in sent.items():
        if name in others:
            continue
        if name not in names:
            raise unexpected(name)
        try:
            limit = schemas.number(convert(value, schemas.Limit))  # type: ignore[arg-type]
        except Invalid as error:
            raise name_field(error, f"{envelope}.{name}") from None
        if not -1 <= limit <= schemas.INT32_MAX:
            raise Invalid(f"Invalid input for field/attribute {name}. It must lie from -1 to {schemas.INT32_MAX}.", field=name)
        changes[name] = limit
    return changes


async def update(call: Call) -> Reply:
    user_id = call.query.get("user_id")
    ident = call.path["quota_project_id"]
    sent = await body_under(call, "quota_set", dict[str, Any])
    force = sent.get("force", False)
    try:
        forced = schemas.truth(convert(force, schemas.Boolean))  # type: ignore[arg-type]
    except Invalid as error:
        raise name_field(error, "quota_set.force") from None
    changes = _changes(sent, _names(call), "quota_set", "force")
    if user_id is None:
        await call.write(quotas.set_limits, ident, changes, force=forced)
    else:
        await call.write(quotas.set_limits_of_user, ident, user_id, changes, force=forced)
    limits, _ = await call.read(_limits, ident, user_id)
    return Reply({"quota_set": _picked(limits, _names(call))})


async def delete(call: Call) -> Reply:
    user_id = call.query.get("user_id")
    if user_id is None:
        await call.write(quotas.reset, call.path["quota_project_id"])
    else:
        await call.write(quotas.reset_of_user, call.path["quota_project_id"], user_id)
    return Reply(status=202)


async def show_class(call: Call) -> Reply:
    """The only class is `default`; Nova shows the defaults for any other name, too."""
    values = await call.read(_defaults)
    return Reply({"quota_class_set": _picked(values, _class_names(call), id=call.path["class_name"])})


async def update_class(call: Call) -> Reply:
    if call.path["class_name"] != "default":
        raise NotFound(f"Quota class {call.path['class_name']} could not be found: there is only `default`.")
    sent = await body_under(call, "quota_class_set", dict[str, Any])
    changes = _changes(sent, _class_names(call), "quota_class_set")
    await call.write(quotas.set_defaults, changes)
    return Reply({"quota_class_set": _picked(await call.read(_defaults), _class_names(call))})


LIMITS: tuple[tuple[str, str], ...] = (
    ("maxServerMeta", "metadata_items"),
    ("maxTotalInstances", "instances"),
    ("maxTotalRAMSize", "ram"),
    ("maxTotalCores", "cores"),
    ("maxTotalKeypairs", "key_pairs"),
    ("maxServerGroups", "server_groups"),
    ("maxServerGroupMembers", "server_group_members"),
)
USED: tuple[tuple[str, str], ...] = (
    ("totalInstancesUsed", "instances"),
    ("totalRAMUsed", "ram"),
    ("totalCoresUsed", "cores"),
    ("totalServerGroupsUsed", "server_groups"),
)


async def show_limits(call: Call) -> Reply:
    """The limits of the caller's project, or of the one that an admin names."""
    project = call.context.project_id or ""
    named = call.query.get("tenant_id")
    if named is not None and call.context.is_admin:
        project = named
    limits, used = await call.read(_limits, project)
    absolute = {shown: limits[name] for shown, name in LIMITS} | {shown: used[name] for shown, name in USED}
    if not call.at_least(36):
        absolute |= {
            "maxTotalFloatingIps": limits["floating_ips"],
            "maxSecurityGroups": limits["security_groups"],
            "maxSecurityGroupRules": limits["security_group_rules"],
            "totalFloatingIpsUsed": 0,
            "totalSecurityGroupsUsed": 0,
        }
    if not call.at_least(39):
        absolute["maxImageMeta"] = limits["metadata_items"]
    if not call.at_least(57):
        absolute |= {"maxPersonality": limits["injected_files"], "maxPersonalitySize": limits["injected_file_content_bytes"]}
    return Reply({"limits": {"rate": [], "absolute": absolute}})
