"""The resource layer: a regular resource is a table of attributes over an Operations, and its five routes fall out of it.

A `Dialect` says what differs between the services: envelopes, links, how a query string filters and pages, the verb of an update.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from nacre.cloud.collection import Operations, Row
from nacre.cloud.errors import Invalid
from nacre.panes.edge.call import Call, Reply, convert
from nacre.panes.edge.route import Route
from nacre.store import Page, Query

FilterType = Literal["text", "boolean", "integer", "moment"]


@dataclass(frozen=True)
class Attribute:
    """One attribute of a resource: what may be sent for it, and how it is filtered by.

    `type` is anything msgspec can check (`str`, `Annotated[int, Meta(ge=1)]`, a Struct, `bool | None`).
    """

    name: str
    type: Any = str
    create: bool = False
    update: bool = False
    required: bool = False
    default: Any = msgspec.UNSET
    """The value in a create that does not send it; UNSET leaves it to the operation."""
    filter: FilterType | None = None
    show: bool = True
    admin: bool = False
    """Only an admin may set it (Forbidden names it)."""


class Dialect(Protocol):
    """How a service's collections differ from the others': parameters, envelopes, status codes."""

    update_method: str

    def query(self, call: Call, resource: "Resource") -> Query: ...
    def one(self, call: Call, resource: "Resource", row: Row) -> Any: ...
    def many(self, call: Call, resource: "Resource", page: Page, query: Query) -> Any: ...
    def create_status(self, resource: "Resource") -> int: ...
    def refuse_admin_only(self, name: str) -> Exception: ...


@dataclass(frozen=True)
class Resource:
    """`singular` is the envelope and the path parameter's stem (`{region_id}`); `path` the collection's path under the prefix."""

    singular: str
    plural: str
    path: str
    operations: Operations
    attributes: tuple[Attribute, ...]
    policy: str
    """The stem of the policy rows: `identity:%s_region` takes get, list, create, update, delete (list the plural)."""
    render: Callable[[Call, Row], Row] = lambda call, row: row
    verbs: tuple[str, ...] = ("list", "create", "show", "update", "delete")
    keep_unknown: bool = False
    """Unknown fields are kept and handed to the operation under `extra` (Identity's users and projects)."""
    create_shape: Any = field(init=False)
    update_shape: Any = field(init=False)
    by_name: Mapping[str, Attribute] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {attribute.name: attribute for attribute in self.attributes})
        object.__setattr__(self, "create_shape", self._shape("create"))
        object.__setattr__(self, "update_shape", self._shape("update"))

    def _shape(self, verb: Literal["create", "update"]) -> Any:
        fields: list[Any] = []
        for attribute in self.attributes:
            if not getattr(attribute, verb):
                continue
            if verb == "create" and attribute.required:
                fields.append((_identifier(attribute.name), attribute.type))
            else:
                fields.append((_identifier(attribute.name), attribute.type | msgspec.UnsetType, msgspec.UNSET))
        name = f"{self.singular.title().replace('_', '')}{verb.title()}"
        rename = {_identifier(attribute.name): attribute.name for attribute in self.attributes}
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=not self.keep_unknown, rename=rename)

    def values(self, dialect: Dialect, call: Call, sent: Any, verb: Literal["create", "update"]) -> Row:
        """What was sent, checked, as a row of changes. Raises Invalid naming the field, or the dialect's refusal of an admin's attribute."""
        checked = convert(sent, self.create_shape if verb == "create" else self.update_shape)
        known = dict(
            zip(checked.__struct_encode_fields__, (getattr(checked, name) for name in checked.__struct_fields__), strict=True)
        )
        values: Row = {}
        for name, value in known.items():
            attribute = self.by_name[name]
            if value is not msgspec.UNSET:
                if attribute.admin and not call.context.is_admin:
                    raise dialect.refuse_admin_only(name)
                values[name] = msgspec.to_builtins(value)
            elif verb == "create" and attribute.default is not msgspec.UNSET:
                values[name] = attribute.default
        if self.keep_unknown and isinstance(sent, dict):
            values["extra"] = {name: value for name, value in sent.items() if name not in self.by_name}
        return values


def _identifier(name: str) -> str:
    """An attribute's name as a field of a Struct (`router:external` is none)."""
    return name.replace(":", "_").replace("-", "_")


def crud_routes(resource: Resource, dialect: Dialect) -> tuple[Route, ...]:
    """The rows of the route table for a regular resource."""
    one, stem = resource.singular, resource.path
    item = f"{stem}/{{{one}_id}}"
    operations = resource.operations

    async def listing(call: Call) -> Reply:
        query = dialect.query(call, resource)
        page = await call.read(operations.find, query)
        return Reply(dialect.many(call, resource, page, query))

    async def create(call: Call) -> Reply:
        sent = envelope(await call.body(dict[str, Any]), one)
        row = await call.write(operations.create, resource.values(dialect, call, sent, "create"))
        return Reply({one: dialect.one(call, resource, row)}, dialect.create_status(resource))

    async def show(call: Call) -> Reply:
        row = await call.read(operations.get, call.path[f"{one}_id"])
        return Reply({one: dialect.one(call, resource, row)})

    async def update(call: Call) -> Reply:
        sent = envelope(await call.body(dict[str, Any]), one)
        row = await call.write(operations.update, call.path[f"{one}_id"], resource.values(dialect, call, sent, "update"))
        return Reply({one: dialect.one(call, resource, row)})

    async def delete(call: Call) -> Reply:
        await call.write(operations.delete, call.path[f"{one}_id"])
        return Reply(status=204)

    rows = {
        "list": Route("GET", stem, listing, _plural_policy(resource), f"List {resource.plural}"),
        "create": Route("POST", stem, create, resource.policy % "create", f"Create a {one}"),
        "show": Route("GET", item, show, resource.policy % "get", f"Show a {one}"),
        "update": Route(dialect.update_method, item, update, resource.policy % "update", f"Update a {one}"),
        "delete": Route("DELETE", item, delete, resource.policy % "delete", f"Delete a {one}"),
    }
    return tuple(rows[verb] for verb in resource.verbs)


def _plural_policy(resource: Resource) -> str:
    service, _, _ = resource.policy.partition(":")
    return f"{service}:list_{resource.plural}"


def envelope(body: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under the body's only key. Raises Invalid when it is not there or is no object."""
    value = body.get(name)
    if not isinstance(value, dict):
        raise Invalid(f"The body must hold an object under {name!r}.", field=name)
    return value
