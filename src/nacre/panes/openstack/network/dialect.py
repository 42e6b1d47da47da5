"""Networking's ways: PUT, errors as {"NeutronError": ...}, `fields`, tags, repeated filters, paging in both directions."""

from typing import Any, Literal, cast

from nacre.cloud.collection import Row
from nacre.cloud.errors import (
    CloudError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OverQuota,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from nacre.cloud.network.common import RevisionMismatch
from nacre.panes.edge import times
from nacre.panes.edge.call import Call
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.query import parse_boolean, parse_limit, parse_value
from nacre.store import Criterion, Page, Query

STATUS_OF: dict[type[CloudError], int] = {OverQuota: 409, RevisionMismatch: 412}
TYPES: dict[type[CloudError], str] = {
    OverQuota: "OverQuota",
    Invalid: "InvalidInput",
    Unauthorized: "HTTPUnauthorized",
    Forbidden: "PolicyNotAuthorized",
    NotFound: "HTTPNotFound",
    Conflict: "Conflict",
    TooLarge: "HTTPRequestEntityTooLarge",
    Unsupported: "HTTPUnsupportedMediaType",
    Unavailable: "ServiceUnavailable",
}
"""Neutron's names for errors that bear none of their own."""
PARAMETERS = frozenset({"limit", "marker", "page_reverse", "fields", "sort_key", "sort_dir"})
TAG_FILTERS = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
HIDDEN = frozenset(
    {"provider:network_type", "provider:physical_network", "provider:segmentation_id", "binding:host_id", "binding:profile"}
)
"""What only an admin sees."""
COLUMNS = {
    "tenant_id": "project_id",
    "router:external": "external",
    "provider:network_type": "network_type",
    "provider:physical_network": "physical",
    "provider:segmentation_id": "vni",
    "binding:host_id": "host_id",
    "binding:vnic_type": "vnic_type",
    "binding:profile": "profile",
    "target_tenant": "target_project",
}
"""The cloud's names of attributes that Networking's clients name otherwise."""


def column(name: str) -> str:
    return COLUMNS.get(name, name)


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    kind = error.code or next((TYPES[each] for each in type(error).__mro__ if each in TYPES), "HTTPInternalServerError")
    return {"NeutronError": {"type": kind, "message": error.message, "detail": ""}}, "application/json"


def standard(*, name: bool = True) -> tuple[Attribute, ...]:
    """The attributes that all resources share, as clients send them and filter by them."""
    from nacre.panes.openstack.network.shapes import Ident, Name, Text

    named = (Attribute("name", Name, create=True, update=True, default="", filter="text"),) if name else ()
    return (
        Attribute("id", filter="text"),
        *named,
        Attribute("description", Text | None, create=True, update=True, filter="text"),
        Attribute("project_id", Ident, create=True, filter="text"),
        Attribute("tenant_id", Ident, create=True, filter="text"),
        Attribute("revision_number", int, filter="integer"),
        Attribute("created_at", filter="moment"),
        Attribute("updated_at", filter="moment"),
    )


def standard_values(row: Row) -> Row:
    return {
        "id": row["id"],
        "tenant_id": row["project_id"],
        "project_id": row["project_id"],
        "description": row["description"],
        "created_at": times.seconds(row["created_at"]),
        "updated_at": times.seconds(row["updated_at"]),
        "revision_number": row["revision_number"],
        "tags": row.get("tags", []),
    }


def _criterion(name: str, values: list[Any]) -> Criterion:
    return Criterion(name, "eq", values[0]) if len(values) == 1 else Criterion(name, "in", values)


def _pairs(texts: list[str], name: str) -> list[tuple[str, str]]:
    """fixed_ips=ip_address=10.0.0.3 (repeated) as pairs. Raises Invalid."""
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise Invalid(f"Invalid input for {name}: '{text}' is not of the form name=value.", field=name)
        pairs.append((key, value))
    return pairs


def _require_shown(call: Call, key: str, what: str) -> None:
    """A list's choice or order tells as much as a value does. Raises Forbidden."""
    if key in HIDDEN and not call.context.is_admin:
        raise Forbidden(f"Only an admin may {what} by {key}.", field=key, code="PolicyNotAuthorized")


class NetworkDialect:
    """Neutron's: PUT changes, unknown attributes are refused, any attribute filters."""

    update_method = "PUT"

    def query(self, call: Call, resource: Resource) -> Query:
        """Raises Invalid for a parameter that is neither one of ours nor an attribute to filter by (the filter-validation extension)."""
        query = call.query
        criteria = []
        for key in dict.fromkeys(query.keys()):
            if key in PARAMETERS:
                continue
            texts = query.getall(key)
            if key in TAG_FILTERS:
                criteria.append(Criterion(key, "in", [tag for text in texts for tag in text.split(",") if tag]))
            elif key == "fixed_ips" and resource.singular == "port":
                criteria.append(Criterion(key, "in", _pairs(texts, key)))
            else:
                attribute = resource.by_name.get(key)
                if attribute is None or attribute.filter is None:
                    raise Invalid(f"Invalid input for operation: '{key}' is an invalid attribute for filtering.", field=key)
                _require_shown(call, key, "filter")
                criteria.append(_criterion(column(key), [parse_value(text, attribute.filter, key) for text in texts]))
        reverse = parse_boolean(query.get("page_reverse", "false"), "page_reverse")
        return Query(tuple(criteria), self._sort(call, resource), parse_limit(query), query.get("marker") or None, reverse)

    def _sort(self, call: Call, resource: Resource) -> tuple[tuple[str, Literal["asc", "desc"]], ...]:
        keys, directions = call.query.getall("sort_key", []), call.query.getall("sort_dir", [])
        if directions and len(directions) != len(keys):
            raise Invalid("The number of sort_keys and sort_dirs must be same", field="sort_dir")
        for direction in directions:
            if direction not in ("asc", "desc"):
                raise Invalid(f"The sort_dir {direction} is not asc or desc.", field="sort_dir")
        for key in keys:
            if key not in resource.by_name or resource.by_name[key].filter is None:
                raise Invalid(f"['{key}'] is invalid attribute for sort_keys", field="sort_key")
            _require_shown(call, key, "sort")
        chosen = cast(list[Literal["asc", "desc"]], directions or ["asc"] * len(keys))
        return tuple(zip((column(key) for key in keys), chosen, strict=True))

    def one(self, call: Call, resource: Resource, row: Row) -> Any:
        shown = resource.render(call, row)
        fields = call.query.getall("fields", [])
        if fields and call.request.method == "GET":
            return {name: value for name, value in shown.items() if name in fields}
        return shown

    def many(self, call: Call, resource: Resource, page: Page, query: Query) -> Any:
        body: dict[str, Any] = {resource.plural: [self.one(call, resource, row) for row in page.rows]}
        links = []
        if query.limit and page.rows:
            if page.more if not query.reverse else query.marker is not None:
                links.append({"rel": "next", "href": self._link(call, page.rows[-1]["id"], reverse=False)})
            if page.more if query.reverse else query.marker is not None:
                links.append({"rel": "previous", "href": self._link(call, page.rows[0]["id"], reverse=True)})
        if links:
            body[f"{resource.plural}_links"] = links
        return body

    def _link(self, call: Call, marker: str, *, reverse: bool) -> str:
        parameters = [(name, value) for name, value in call.request.query.items() if name not in ("marker", "page_reverse")]
        parameters.append(("marker", marker))
        if reverse:
            parameters.append(("page_reverse", "True"))
        path = call.request.url.relative().with_query(parameters)
        return call.cloud.settings.base_url + str(path)

    def create_status(self, resource: Resource) -> int:
        return 201

    def refuse_admin_only(self, name: str) -> Exception:
        return Forbidden(f"Only an admin may set {name}.", field=name, code="PolicyNotAuthorized")


DIALECT = NetworkDialect()
