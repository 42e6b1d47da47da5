"""The query string of a list of servers, as criteria over the columns of the servers table.

Source: https://docs.openstack.org/api-ref/compute/#list-servers. What a caller may not filter by is left out, as Nova does, until 2.75 makes
an unknown name an error.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call, times
from nacre.panes.openstack.compute.dialect import allow, limit_of, unexpected
from nacre.panes.openstack.query import parse_boolean, parse_integer
from nacre.store import Criterion, Query
from nacre.store.listing import Operator

STRICT_QUERY = 75
STRICT_STATUS = 38
OPEN_FILTERS = 83
"""From this minor version on everyone may use most filters that were an admin's."""
QUANTIFIERS_MAX = 3
"""Quantifiers in a name's regular expression: each multiplies the work on a name that does not match."""
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_QUANTIFIER = re.compile(r"[*+?{]")
_COSTLY = re.compile(r"\)[*+?{]|\\[1-9]|\(\?")
"""A repeated group, a reference back, an extension."""
TAGS_MAX = 50

_SERVED = (
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
)
_NOVAS = (
    "MIGRATING",
    "PASSWORD",
    "SOFT_DELETED",
)
STATUSES = frozenset((*_SERVED, *_NOVAS, "VERIFY_RESIZE"))
VM_STATES = {
    "active": ("ACTIVE", "REBOOT", "HARD_REBOOT", "REBUILD"),
    "building": ("BUILD",),
    "stopped": ("SHUTOFF",),
    "paused": ("PAUSED",),
    "suspended": ("SUSPENDED",),
    "rescued": ("RESCUE",),
    "resized": ("VERIFY_RESIZE",),
    "shelved": ("SHELVED",),
    "shelved_offloaded": ("SHELVED_OFFLOADED",),
    "error": ("ERROR",),
}
POWER_STATES = {
    0: ("BUILD", "ERROR"),
    1: ("ACTIVE", "REBOOT", "HARD_REBOOT", "REBUILD", "RESCUE", "VERIFY_RESIZE"),
    3: ("PAUSED",),
    4: ("SHUTOFF", "SUSPENDED", "SHELVED", "SHELVED_OFFLOADED"),
}

SORT_KEYS = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "launched_at": "launched_at",
    "display_name": "name",
    "name": "name",
    "display_description": "description",
    "uuid": "id",
    "id": "id",
    "host": "host_id",
    "node": "host_id",
    "hostname": "hostname",
    "vm_state": "status",
    "status": "status",
    "power_state": "status",
    "availability_zone": "availability_zone",
    "image_ref": "image_id",
    "instance_type_id": "vcpus",
    "key_name": "key_name",
    "launch_index": "launch_index",
    "config_drive": "config_drive",
    "access_ip_v4": "access_ip_v4",
    "access_ip_v6": "access_ip_v6",
    "auto_disk_config": "disk_config",
    "project_id": "project_id",
    "user_id": "user_id",
    "locked": "locked",
}
PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir", "all_tenants", "tenant_id", "project_id", "deleted"})


class Filter(NamedTuple):
    """`parse` makes the value of the text; `admin` says that only admins may use it, before the minor version `open`."""

    column: str
    operator: Operator
    parse: Callable[[str, str], Any]
    since: int = 1
    admin: bool = False
    open: int | None = None


def _pattern(text: str, name: str) -> str:
    """A regular expression; one that could take long on what does not match is refused. Raises Invalid."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Invalid(f"Invalid input for query parameters {name}. It is no regular expression: {error}.", field=name) from None
    if _COSTLY.search(text) or len(_QUANTIFIER.findall(text)) > QUANTIFIERS_MAX:
        raise Invalid(f"Invalid input for query parameters {name}. The regular expression repeats too much.", field=name)
    return text


def _text(text: str, name: str) -> str:
    return text


def _moment(text: str, name: str) -> float:
    return times.parse(text, name)


def _tags(text: str, name: str) -> list[str]:
    tags = text.split(",")
    if len(tags) > TAGS_MAX or not all(tags):
        raise Invalid(f"Invalid input for query parameters {name}. It holds 1 to {TAGS_MAX} tags.", field=name)
    return tags


def _states(table: dict[Any, tuple[str, ...]], convert: Callable[[str], Any]) -> Callable[[str, str], list[str]]:
    def parse(text: str, name: str) -> list[str]:
        try:
            return list(table.get(convert(text), ()))
        except ValueError:
            raise Invalid(f"Invalid input for query parameters {name}: {text!r}.", field=name) from None

    return parse


def _integer(text: str, name: str) -> int:
    return parse_integer(text, name)


FILTERS: dict[str, Filter] = {
    "image": Filter("image_id", "eq", _text),
    "image_ref": Filter("image_id", "eq", _text, admin=True),
    "flavor": Filter("flavor", "eq", _text),
    "ip": Filter("ip", "eq", _pattern),
    "ip6": Filter("ip6", "eq", _pattern),
    "reservation_id": Filter("reservation_id", "eq", _text),
    "changes-since": Filter("updated_at", "ge", _moment),
    "changes-before": Filter("updated_at", "le", _moment, since=66),
    "tags": Filter("tags", "in", _tags, since=26),
    "tags-any": Filter("tags_any", "in", _tags, since=26),
    "not-tags": Filter("not_tags", "in", _tags, since=26),
    "not-tags-any": Filter("not_tags_any", "in", _tags, since=26),
    "locked": Filter("locked", "eq", parse_boolean, since=73),
    "uuid": Filter("id", "eq", _text, admin=True),
    "user_id": Filter("user_id", "eq", _text, admin=True, open=OPEN_FILTERS),
    "key_name": Filter("key_name", "eq", _text, admin=True, open=OPEN_FILTERS),
    "availability_zone": Filter("availability_zone", "eq", _text, admin=True, open=OPEN_FILTERS),
    "config_drive": Filter("config_drive", "eq", parse_boolean, admin=True, open=OPEN_FILTERS),
    "launch_index": Filter("launch_index", "eq", _integer, admin=True),
    "hostname": Filter("hostname", "eq", _text, admin=True),
    "description": Filter("description", "contains", _text, admin=True),
    "created_at": Filter("created_at", "eq", _moment, admin=True, open=OPEN_FILTERS),
    "launched_at": Filter("launched_at", "eq", _moment, admin=True, open=OPEN_FILTERS),
    "access_ip_v4": Filter("access_ip_v4", "eq", _text, admin=True),
    "access_ip_v6": Filter("access_ip_v6", "eq", _text, admin=True),
    "vm_state": Filter("status", "in", _states(VM_STATES, str), admin=True, open=OPEN_FILTERS),
    "power_state": Filter("status", "in", _states(POWER_STATES, int), admin=True, open=OPEN_FILTERS),
}
KNOWN = PAGING | FILTERS.keys() | {"name", "display_name", "status", "host"}


def query_of(call: Call, host_ids: dict[str, str]) -> tuple[Query, bool]:
    """The query, and whether it is over all projects. `host_ids` maps hosts' names to their ids (admins). Raises Invalid, Forbidden."""
    query = call.query
    if call.at_least(STRICT_QUERY):
        for name in query:
            if name not in KNOWN:
                raise unexpected(name)
    criteria = [*_by_table(call), *_by_name(call), *_by_status(call), *_by_host(call, host_ids)]
    criteria.extend(_by_deleted(call))
    all_projects = _all_projects(call, criteria)
    since = {criterion.operator: criterion.value for criterion in criteria if criterion.name == "updated_at"}
    if "ge" in since and "le" in since and since["ge"] > since["le"]:
        raise Invalid("The value of changes-since must be less than or equal to changes-before.", field="changes-since")
    return Query(tuple(criteria), sort=_sort(call), limit=limit_of(call), marker=query.get("marker")), all_projects


def _by_table(call: Call) -> list[Criterion]:
    criteria = []
    minor, is_admin = call.version.minor, call.context.is_admin
    for name in dict.fromkeys(call.query):
        row = FILTERS.get(name)
        if row is None or minor < row.since:
            continue
        if row.admin and not is_admin and (row.open is None or minor < row.open):
            continue
        values = [row.parse(text, name) for text in call.query.getall(name)]
        if len(values) > 1 and row.operator == "eq" and row.column not in ("ip", "ip6", "flavor"):
            criteria.append(Criterion(row.column, "in", values))
        else:
            criteria.append(Criterion(row.column, row.operator, values[-1]))
    return criteria


def _by_name(call: Call) -> list[Criterion]:
    """Part of a name, or a regular expression, as Nova takes it."""
    text = call.query.get("name") or call.query.get("display_name")
    if not text:
        return []
    if not _SPECIAL.search(text):
        return [Criterion("name", "contains", text)]
    return [Criterion("name", "regex", _pattern(text, "name"))]


def _by_status(call: Call) -> list[Criterion]:
    if "status" not in call.query:
        return []
    wanted = [text.upper() for text in call.query.getall("status") if text]
    unknown = [text for text in wanted if text not in STATUSES]
    if unknown and call.at_least(STRICT_STATUS):
        raise Invalid(f"Invalid status value: {unknown[0]}", field="status")
    return [Criterion("status", "in", wanted)] if wanted else []


def _by_host(call: Call, host_ids: dict[str, str]) -> list[Criterion]:
    if "host" not in call.query or not call.context.is_admin:
        return []
    return [Criterion("host_id", "eq", host_ids.get(call.query["host"], ""))]


def _by_deleted(call: Call) -> list[Criterion]:
    """Deleted servers are not kept: an admin who asks for them finds none."""
    if call.context.is_admin and parse_boolean(call.query.get("deleted", "false"), "deleted"):
        return [Criterion("status", "eq", "DELETED")]
    return []


def _all_projects(call: Call, criteria: list[Criterion]) -> bool:
    query = call.query
    wanted = "all_tenants" in query and parse_boolean(query["all_tenants"], "all_tenants")
    if call.context.is_admin:
        named = query.get("project_id") or query.get("tenant_id")
        # Without all_tenants an admin sees the own project, whatever other one is named: as Nova has it.
        if named is not None and wanted:
            criteria.append(Criterion("project_id", "eq", named))
    if wanted:
        allow(call, "servers:index:get_all_tenants")
    return wanted


def _sort(call: Call) -> tuple[tuple[str, Literal["asc", "desc"]], ...]:
    keys = call.query.getall("sort_key", [])
    directions = call.query.getall("sort_dir", [])
    order: list[tuple[str, Literal["asc", "desc"]]] = []
    for index, key in enumerate(keys[: len(SORT_KEYS)]):
        if key not in SORT_KEYS or (key == "locked" and not call.at_least(73)):
            raise Invalid(f"Invalid input for query parameters sort_key. {key!r} is no key to sort by.", field="sort_key")
        direction = directions[min(index, len(directions) - 1)] if directions else "desc"
        if direction not in ("asc", "desc"):
            raise Invalid(f"Invalid input for query parameters sort_dir. {direction!r} is not asc or desc.", field="sort_dir")
        if SORT_KEYS[key] == "host_id" and not call.context.is_admin:
            continue  # As Nova: the order would tell which servers are on one host.
        order.append((SORT_KEYS[key], "asc" if direction == "asc" else "desc"))
    return tuple(order)
