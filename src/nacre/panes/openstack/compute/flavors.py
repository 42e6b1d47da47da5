"""Flavors, their extra specs and who has access to private ones."""

import re
from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.compute import extra_specs, flavors
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import allow, body_under, check_ranges, limit_of, links, only, unexpected, with_next
from nacre.panes.openstack.query import parse_boolean, parse_integer
from nacre.store import Criterion, Page, Query
from nacre.store.schema import new_id

SORT_KEYS = {
    "flavorid": "id",
    "id": "id",
    "name": "name",
    "memory_mb": "memory_mb",
    "vcpus": "vcpus",
    "root_gb": "disk_gb",
    "ephemeral_gb": "ephemeral_gb",
    "swap": "swap_mb",
    "rxtx_factor": "rxtx_factor",
    "disabled": "disabled",
    "is_public": "is_public",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "description": "description",
}
QUERY = frozenset({"limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"})
STRICT_QUERY = 75
CHECKED_SPECS = 86
BARE = 102
"""From this minor version on flavors do without what came from Xen and Rackspace; and a list can be filtered by name."""
_SPEC_KEY = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")


def render(call: Call, row: Row) -> Row:
    """All of a flavor."""
    shown: Row = {
        "id": row["id"],
        "name": row["name"],
        "ram": row["memory_mb"],
        "disk": row["disk_gb"],
        "swap": row["swap_mb"] or (0 if call.at_least(75) else ""),
        "vcpus": row["vcpus"],
        "OS-FLV-DISABLED:disabled": row["disabled"],
        "OS-FLV-EXT-DATA:ephemeral": row["ephemeral_gb"],
        "os-flavor-access:is_public": row["is_public"],
        "rxtx_factor": row["rxtx_factor"],
        "links": links(call, f"/flavors/{row['id']}"),
    }
    if call.at_least(55):
        shown["description"] = row["description"]
    if call.at_least(61):
        shown["extra_specs"] = row["extra_specs"]
    if call.at_least(BARE):
        del shown["rxtx_factor"], shown["OS-FLV-DISABLED:disabled"]
    return shown


def _brief(call: Call, row: Row) -> Row:
    shown: Row = {"id": row["id"], "name": row["name"], "links": links(call, f"/flavors/{row['id']}")}
    if call.at_least(55):
        shown["description"] = row["description"]
    return shown


def _query(call: Call) -> Query:
    query = call.query
    if call.at_least(STRICT_QUERY):
        for name in query:
            if name not in QUERY and not (name == "name" and call.at_least(BARE)):
                raise unexpected(name)
    criteria = []
    if "name" in query and call.at_least(BARE):
        criteria.append(Criterion("name", "eq", query["name"]))
    for name, column in (("minRam", "memory_mb"), ("minDisk", "disk_gb")):
        if name in query:
            criteria.append(Criterion(column, "ge", parse_integer(query[name], name, -schemas.INT32_MAX, schemas.INT32_MAX)))
    if call.context.is_admin:
        # What others see of the private ones is decided by access alone; an admin sees them when it asks for them.
        public = query.get("is_public", "true")
        if public.lower() != "none":
            criteria.append(Criterion("is_public", "eq", parse_boolean(public, "is_public")))
    sort_key = query.get("sort_key", "flavorid")
    direction = query.get("sort_dir", "asc").lower()
    if sort_key not in SORT_KEYS or (sort_key == "rxtx_factor" and call.at_least(BARE)):
        raise Invalid(f"Invalid input for query parameters sort_key. {sort_key!r} is no key to sort by.", field="sort_key")
    if direction not in ("asc", "desc"):
        raise Invalid(f"Invalid input for query parameters sort_dir. {direction!r} is not asc or desc.", field="sort_dir")
    sort: Any = ((SORT_KEYS[sort_key], direction),)
    return Query(tuple(criteria), sort=sort, limit=limit_of(call), marker=query.get("marker"))


async def _page(call: Call) -> Page:
    return await call.read(flavors.find, _query(call))


async def index(call: Call) -> Reply:
    page = await _page(call)
    return Reply(with_next(call, {"flavors": [_brief(call, row) for row in page.rows]}, "flavors", page))


async def detail(call: Call) -> Reply:
    page = await _page(call)
    return Reply(with_next(call, {"flavors": [render(call, row) for row in page.rows]}, "flavors", page))


async def show(call: Call) -> Reply:
    return Reply({"flavor": render(call, await call.read(flavors.get, call.path["flavor_id"]))})


async def create(call: Call) -> Reply:
    sent = await body_under(call, "flavor", schemas.FlavorCreate)
    check_ranges(call, sent, schemas.FLAVOR_RANGES)
    ident = str(sent.id) if sent.id not in (None, "", "auto") else new_id()
    values = {
        "id": ident,
        "name": sent.name,
        "memory_mb": schemas.number(sent.ram),
        "vcpus": schemas.number(sent.vcpus),
        "disk_gb": schemas.number(sent.disk),
        "ephemeral_gb": schemas.number(sent.ephemeral),
        "swap_mb": schemas.number(sent.swap),
        "rxtx_factor": float(sent.rxtx_factor) if isinstance(sent.rxtx_factor, (float, str)) else 1.0,
        "is_public": schemas.truth(sent.is_public),
        "description": sent.description if isinstance(sent.description, str) else None,
    }
    return Reply({"flavor": render(call, await call.write(flavors.create, values))})


async def update(call: Call) -> Reply:
    sent = await body_under(call, "flavor", schemas.FlavorUpdate)
    row = await call.write(flavors.update, call.path["flavor_id"], {"description": sent.description})
    return Reply({"flavor": render(call, row)})


async def delete(call: Call) -> Reply:
    await call.write(flavors.delete, call.path["flavor_id"])
    return Reply(status=202)


def _text(value: Any) -> str:
    return str(value)


def _check_spec_key(key: str) -> str:
    if _SPEC_KEY.fullmatch(key) is None:
        raise Invalid(f"Invalid input for field/attribute extra_specs. {key!r} is no key of an extra spec.", field="extra_specs")
    return key


async def list_specs(call: Call) -> Reply:
    row = await call.read(flavors.get, call.path["flavor_id"])
    return Reply({"extra_specs": row["extra_specs"]})


async def create_specs(call: Call) -> Reply:
    sent: dict[str, Any] = await body_under(call, "extra_specs", schemas.ExtraSpecs)
    specs = {key: _text(value) for key, value in sent.items()}
    if call.at_least(CHECKED_SPECS):
        extra_specs.check(specs)
    await call.write(flavors.set_extra_specs, call.path["flavor_id"], specs)
    return Reply({"extra_specs": specs})


async def show_spec(call: Call) -> Reply:
    key = call.path["key"]
    row = await call.read(flavors.get, call.path["flavor_id"])
    if key not in row["extra_specs"]:
        raise NotFound(f"Flavor {row['id']} has no extra specs with key {key}.", code="FlavorExtraSpecsNotFound")
    return Reply({key: row["extra_specs"][key]})


async def update_spec(call: Call) -> Reply:
    key = _check_spec_key(call.path["key"])
    sent = await call.body(dict[str, Any])
    if set(sent) != {key}:
        raise Invalid(f"Request body and URI mismatch: the body must hold {key!r} alone.", field="body")
    value = only(sent, key, schemas.ExtraSpecValue)
    if call.at_least(CHECKED_SPECS):
        extra_specs.check({key: _text(value)})
    await call.write(flavors.set_extra_specs, call.path["flavor_id"], {key: _text(value)})
    return Reply({key: _text(value)})


async def delete_spec(call: Call) -> Reply:
    await call.write(flavors.delete_extra_spec, call.path["flavor_id"], call.path["key"])
    return Reply(status=200)


def _access(flavor_id: str, projects: list[str]) -> Row:
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project} for project in projects]}


async def list_access(call: Call) -> Reply:
    ident = call.path["flavor_id"]
    return Reply(_access(ident, await call.read(flavors.projects_with_access, ident)))


async def action(call: Call) -> Reply:
    """addTenantAccess and removeTenantAccess."""
    sent = await call.body(dict[str, Any])
    name = next(iter(sent), "")
    handlers = {
        "addTenantAccess": ("os-flavor-access:add_tenant_access", flavors.add_access),
        "removeTenantAccess": ("os-flavor-access:remove_tenant_access", flavors.remove_access),
    }
    if len(sent) != 1 or name not in handlers:
        raise Invalid(f"There is no such action: {name}", field=name or "body")
    policy, operation = handlers[name]
    allow(call, policy)
    tenant = only(sent, name, schemas.TenantAccess).tenant
    ident = call.path["flavor_id"]
    return Reply(_access(ident, await call.write(operation, ident, tenant)))
