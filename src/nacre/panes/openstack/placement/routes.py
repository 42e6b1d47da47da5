"""Placement's route table."""

from nacre.cloud.placement.policies import POLICIES
from nacre.panes.edge import Call, Reply, Route, Service, Version
from nacre.panes.openstack.placement import consumers, names, providers
from nacre.panes.openstack.placement.dialect import render_error
from nacre.panes.openstack.placement.microversions import MICROVERSIONS


async def versions(call: Call) -> Reply:
    version = {
        "id": "v1.0",
        "status": "CURRENT",
        "min_version": str(MICROVERSIONS.minimum),
        "max_version": str(MICROVERSIONS.maximum),
        "links": [{"rel": "self", "href": ""}],
    }
    return Reply({"versions": [version]})


_RP = "/resource_providers/{uuid}"
_POLICY = "placement:resource_providers"

ROUTES: tuple[Route, ...] = (
    Route("GET", "", versions, None, "List API versions"),
    Route("GET", "/", versions, None, "List API versions"),
    Route("GET", "/resource_providers", providers.listing, f"{_POLICY}:list", "List resource providers"),
    Route("GET", _RP, providers.show, f"{_POLICY}:show", "Show a resource provider"),
    Route("GET", f"{_RP}/inventories", providers.inventories, f"{_POLICY}:inventories:list", "List a provider's inventories"),
    Route(
        "GET",
        f"{_RP}/inventories/{{resource_class}}",
        providers.inventory,
        f"{_POLICY}:inventories:show",
        "Show a provider's inventory of a resource class",
    ),
    Route("GET", f"{_RP}/usages", providers.usages, f"{_POLICY}:usages", "Show a provider's usages"),
    Route("GET", f"{_RP}/allocations", providers.allocations, f"{_POLICY}:allocations:list", "List a provider's allocations"),
    Route(
        "GET",
        f"{_RP}/aggregates",
        providers.aggregates,
        f"{_POLICY}:aggregates:list",
        "List a provider's aggregates",
        since=Version(1, 1),
    ),
    Route("GET", f"{_RP}/traits", providers.traits, f"{_POLICY}:traits:list", "List a provider's traits", since=Version(1, 6)),
    Route(
        "PUT",
        f"{_RP}/traits",
        providers.set_traits,
        f"{_POLICY}:traits:update",
        "Give a provider traits",
        since=Version(1, 6),
    ),
    Route(
        "DELETE",
        f"{_RP}/traits",
        providers.delete_traits,
        f"{_POLICY}:traits:delete",
        "Take a provider's given traits away",
        since=Version(1, 6),
    ),
    Route(
        "GET",
        "/allocations/{consumer_uuid}",
        consumers.allocations,
        "placement:allocations:list",
        "List a consumer's allocations",
    ),
    Route("GET", "/usages", consumers.usages, "placement:usages", "Show a project's usages", since=Version(1, 9)),
    Route(
        "GET",
        "/resource_classes",
        names.resource_classes,
        "placement:resource_classes:list",
        "List resource classes",
        since=Version(1, 2),
    ),
    Route(
        "GET",
        "/resource_classes/{name}",
        names.resource_class,
        "placement:resource_classes:show",
        "Show a resource class",
        since=Version(1, 2),
    ),
    Route("GET", "/traits", names.traits, "placement:traits:list", "List traits", since=Version(1, 6)),
    Route("GET", "/traits/{name}", names.trait, "placement:traits:show", "Show whether a trait exists", since=Version(1, 6)),
    Route("PUT", "/traits/{name}", names.create_trait, "placement:traits:update", "Create a trait", since=Version(1, 6)),
    Route("DELETE", "/traits/{name}", names.delete_trait, "placement:traits:delete", "Delete a trait", since=Version(1, 6)),
)

SERVICE = Service("placement", "/placement", ROUTES, render_error, POLICIES, microversions=MICROVERSIONS)
