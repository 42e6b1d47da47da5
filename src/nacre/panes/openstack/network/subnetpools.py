"""Subnet pools."""

from nacre.cloud.collection import Row
from nacre.cloud.network import subnetpools
from nacre.panes.edge import Call, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard, standard_values

_SHOWN = ("name", "prefixes", "ip_version", "default_quota", "shared", "is_default", "address_scope_id")
_LENGTHS = ("min_prefixlen", "max_prefixlen", "default_prefixlen")


def render(call: Call, row: Row) -> Row:
    """The prefix lengths are text, as Neutron has always shown them."""
    return {
        **standard_values(row),
        **{name: row[name] for name in _SHOWN},
        **{name: str(row[name]) for name in _LENGTHS},
    }


subnetpool = Resource(
    singular="subnetpool",
    plural="subnetpools",
    path="/v2.0/subnetpools",
    operations=subnetpools,
    policy="network:%s_subnetpool",
    render=render,
    attributes=(
        *(each for each in standard() if each.name != "name"),
        Attribute("name", shapes.Name, create=True, update=True, required=True, filter="text"),
        Attribute("prefixes", list[str], create=True, update=True, required=True),
        Attribute("min_prefixlen", shapes.Natural, create=True, update=True, filter="integer"),
        Attribute("max_prefixlen", shapes.Natural, create=True, update=True, filter="integer"),
        Attribute("default_prefixlen", shapes.Natural, create=True, update=True, filter="integer"),
        Attribute("default_quota", shapes.Natural | None, create=True, update=True, filter="integer"),
        Attribute("address_scope_id", shapes.Ident | None, create=True, update=True, filter="text"),
        Attribute("shared", bool, create=True, admin=True, filter="boolean"),
        Attribute("is_default", bool, create=True, update=True, admin=True, filter="boolean"),
        Attribute("ip_version", int, filter="integer"),
    ),
)

ROUTES: tuple[Route, ...] = routes_of(subnetpool)
