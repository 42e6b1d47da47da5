"""The five routes of each of Networking's resources: as the resource layer has them, with bulk create and lenient scalars."""

import re
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid
from nacre.cloud.network.common import require_revision
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Attribute, Resource, crud_routes, envelope
from nacre.panes.openstack.network.dialect import DIALECT, column

BULK_MAX = 1_000
"""Things that one request may make."""
_BOOLEANS: dict[Any, bool] = {"true": True, "false": False, "1": True, "0": False, 1: True, 0: False}
_INTEGER_DIGITS_MAX = 10
NULL_MEANS: dict[str, Any] = {
    "gateway_ip": None,
    "port_id": None,
    "external_gateway_info": None,
    "host_id": None,
    "routes": [],
    "dns_nameservers": [],
    "host_routes": [],
    "allowed_address_pairs": [],
    "extra_dhcp_opts": [],
    "description": "",
    "qos_policy_id": None,
    "address_scope_id": None,
}
"""Attributes for which null says something else than `not sent` does, and what."""


def routes_of(resource: Resource) -> tuple[Route, ...]:
    """A resource's rows of the route table. Create takes one object, or many in one transaction."""
    one, many = resource.singular, resource.plural
    operations = resource.operations

    def create_all(conn: sa.Connection, ctx: Context, values: list[Row]) -> list[Row]:
        return [operations.create(conn, ctx, each) for each in values]

    async def create(call: Call) -> Reply:
        body = await call.body(dict[str, Any])
        if many in body and one not in body:
            wanted = [values_of(resource, call, each, "create") for each in _several(body[many], many)]
            rows = await call.write(create_all, wanted)
            return Reply({many: [DIALECT.one(call, resource, row) for row in rows]}, 201)
        row = await call.write(operations.create, values_of(resource, call, envelope(body, one), "create"))
        return Reply({one: DIALECT.one(call, resource, row)}, 201)

    def change(conn: sa.Connection, ctx: Context, ident: str, values: Row, revision: int | None) -> Row:
        if revision is not None:
            require_revision(operations.get(conn, ctx, ident), revision)
        return operations.update(conn, ctx, ident, values)

    def drop(conn: sa.Connection, ctx: Context, ident: str, revision: int | None) -> None:
        if revision is not None:
            require_revision(operations.get(conn, ctx, ident), revision)
        operations.delete(conn, ctx, ident)

    async def update(call: Call) -> Reply:
        sent = envelope(await call.body(dict[str, Any]), one)
        values = values_of(resource, call, sent, "update")
        row = await call.write(change, call.path[f"{one}_id"], values, revision_of(call))
        return Reply({one: DIALECT.one(call, resource, row)})

    async def delete(call: Call) -> Reply:
        await call.write(drop, call.path[f"{one}_id"], revision_of(call))
        return Reply(status=204)

    own = {"POST": create, "PUT": update, "DELETE": delete}
    return tuple(
        Route(route.method, route.path, own.get(route.method, route.handler), route.policy, route.summary)
        for route in crud_routes(resource, DIALECT)
    )


_REVISION = re.compile(r"revision_number=(\d{1,10})")


def revision_of(call: Call) -> int | None:
    """The revision that the request is held to: If-Match: revision_number=3 (the revision-if-match extension). Raises Invalid."""
    sent = call.request.headers.get("If-Match")
    if sent is None:
        return None
    found = _REVISION.fullmatch(sent.strip().strip('"'))
    if found is None:
        raise Invalid(f"Bad format for If-Match: {sent[:80]}; revision_number=N is understood.", field="If-Match")
    return int(found[1])


def _several(sent: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(sent, list) or not sent or not all(isinstance(each, dict) for each in sent):
        raise Invalid(f"The body must hold a list of objects under '{name}'.", field=name)
    if len(sent) > BULK_MAX:
        raise Invalid(f"A request makes at most {BULK_MAX} things.", field=name)
    return sent


def values_of(resource: Resource, call: Call, sent: dict[str, Any], verb: Any) -> Row:
    """What was sent, checked, under the cloud's names. Raises Invalid, Forbidden."""
    sent = {name: _lenient(resource.by_name.get(name), value) for name, value in sent.items()}
    if verb == "create" and not call.context.is_admin:
        # What is no more than the default may be said by anyone, as in Neutron.
        sent = {name: value for name, value in sent.items() if value is not False or not _for_admins(resource, name)}
    if verb == "create" and {"tenant_id", "project_id"} <= sent.keys() and sent["tenant_id"] != sent["project_id"]:
        raise Invalid("'project_id' and 'tenant_id' do not match", field="tenant_id")
    checked = resource.values(DIALECT, call, sent, verb)
    values = {column(name): value for name, value in checked.items()}
    for name in [name for name, value in values.items() if value is None]:
        if name in NULL_MEANS:
            values[name] = NULL_MEANS[name]
        else:
            del values[name]
    return values


def _for_admins(resource: Resource, name: str) -> bool:
    attribute = resource.by_name.get(name)
    return attribute is not None and attribute.admin and attribute.default in (msgspec.UNSET, False)


def _lenient(attribute: Attribute | None, value: Any) -> Any:
    """Booleans and numbers as text, which Networking's clients have always been allowed to send."""
    if attribute is None or attribute.type is str or not isinstance(value, str | int) or isinstance(value, bool):
        return value
    wanted = str(attribute.type)
    if "bool" in wanted:
        return _BOOLEANS.get(value.lower() if isinstance(value, str) else value, value)
    numeric = ("int" in wanted and "str" not in wanted) or "Literal[4, 6]" in wanted
    if numeric and isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        return int(value) if len(value) <= _INTEGER_DIGITS_MAX else value
    return value
