"""RBAC policies: who else may use what a project owns."""

from nacre.cloud.collection import Row
from nacre.cloud.network import rbac
from nacre.panes.edge import Call, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of


def render(call: Call, row: Row) -> Row:
    return {
        "id": row["id"],
        "project_id": row["project_id"],
        "tenant_id": row["project_id"],
        "object_type": row["object_type"],
        "object_id": row["object_id"],
        "target_tenant": row["target_project"],
        "action": row["action"],
    }


policy = Resource(
    singular="rbac_policy",
    plural="rbac_policies",
    path="/v2.0/rbac-policies",
    operations=rbac,
    policy="network:%s_rbac_policy",
    render=render,
    attributes=(
        Attribute("id", filter="text"),
        Attribute("project_id", shapes.Ident, create=True, filter="text"),
        Attribute("tenant_id", shapes.Ident, create=True, filter="text"),
        Attribute("object_type", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("object_id", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("action", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("target_tenant", shapes.Ident, create=True, update=True, required=True, filter="text"),
    ),
)

ROUTES: tuple[Route, ...] = routes_of(policy)
