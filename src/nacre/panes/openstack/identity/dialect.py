"""Identity's ways: PATCH, `links` in every object, filters as `name__contains`, errors as {"error": {...}}."""

from typing import Any

from yarl import URL

from nacre.cloud.collection import Row
from nacre.cloud.errors import CloudError, Forbidden
from nacre.cloud.identity.service import Identity
from nacre.panes.edge.call import Call
from nacre.panes.edge.resource import Resource
from nacre.panes.openstack.query import parse_filters, parse_limit
from nacre.store import Page, Query
from nacre.store.listing import Operator

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
SUFFIXES: dict[str, Operator] = {
    "contains": "contains",
    "icontains": "icontains",
    "startswith": "startswith",
    "endswith": "endswith",
}


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    body = {"error": {"code": status, "title": TITLES.get(status, "Error"), "message": error.message}}
    return body, "application/json"


def identity_of(call: Call) -> Identity:
    identity = call.cloud.identity
    assert isinstance(identity, Identity)
    return identity


def members(call: Call) -> dict[str, Any]:
    """The links of a list that is not paged."""
    return {"self": call.cloud.settings.base_url + call.request.path_qs, "previous": None, "next": None}


class IdentityDialect:
    """Keystone's: PATCH changes, unknown attributes are kept, lists have links."""

    update_method = "PATCH"

    def query(self, call: Call, resource: Resource) -> Query:
        criteria = parse_filters(call.query, resource, suffixes=SUFFIXES)
        return Query(criteria=criteria, limit=parse_limit(call.query), marker=call.query.get("marker"))

    def one(self, call: Call, resource: Resource, row: Row) -> Any:
        row = resource.render(call, row)
        shown = {name: value for name, value in row.items() if name in resource.by_name and resource.by_name[name].show}
        shown.update(row.get("extra") or {})
        shown["links"] = {"self": f"{call.base_url}{resource.path}/{row['id']}"}
        return shown

    def links(self, call: Call, page: Page) -> dict[str, Any]:
        """The links of a page, with the way to the next one."""
        following = None
        if page.more and page.rows:
            parameters = [(name, value) for name, value in call.query.items() if name != "marker"]
            following = str(
                URL(call.cloud.settings.base_url + call.request.path).with_query([*parameters, ("marker", page.rows[-1]["id"])])
            )
        return members(call) | {"next": following}

    def many(self, call: Call, resource: Resource, page: Page, query: Query) -> Any:
        return {
            "links": self.links(call, page),
            resource.plural: [self.one(call, resource, row) for row in page.rows],
        }

    def create_status(self, resource: Resource) -> int:
        return 201

    def refuse_admin_only(self, name: str) -> Exception:
        return Forbidden(f"Only an admin may set {name}.", field=name)


DIALECT = IdentityDialect()
