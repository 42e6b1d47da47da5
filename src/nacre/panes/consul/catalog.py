"""The catalog: /v1/catalog (https://developer.hashicorp.com/consul/api-docs/catalog)."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from nacre.cloud.discovery import agent, catalog, registration
from nacre.cloud.discovery.registration import Registration
from nacre.cloud.errors import Invalid
from nacre.panes.consul import filters, render
from nacre.panes.consul.dialect import DATACENTER, Body, body, check_datacenter, shaped, shown
from nacre.panes.consul.queries import found, headers_of, listed
from nacre.panes.edge import Call, Reply, Route

Row = dict[str, Any]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Texts = dict[str, str]


class Weights(Body):
    passing: int = 1
    warning: int = 1


class Tagged(Body):
    address: str = ""
    port: Port = 0


class Service(Body):
    """As under Service in a registration; `name` is written Service there and Name at the agent's endpoint."""

    id: str = ""
    service: str = ""
    name: str = ""
    tags: list[str] = []
    address: str = ""
    port: Port = 0
    meta: Texts = {}
    tagged_addresses: dict[str, Any] = {}
    weights: Any = None
    enable_tag_override: bool = False


class Check(Body):
    node: str = ""
    check_id: str = ""
    id: str = ""
    name: str = ""
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = ""
    definition: dict[str, Any] = {}


class Register(Body):
    id: str = ""
    node: str = ""
    address: str = ""
    node_meta: Texts = {}
    tagged_addresses: Texts = {}
    service: Any = None
    check: Any = None
    checks: list[Any] = []
    skip_node_update: bool = False


class Deregister(Body):
    node: str = ""
    service_id: str = ""
    check_id: str = ""


def service_values(sent: Service) -> Row:
    """Raises Invalid for a service without a name."""
    name = sent.service or sent.name
    if not name:
        raise Invalid("Must provide service name with ID", field="Service")
    weights = shaped(sent.weights, Weights)
    addresses = {name: shaped(each, Tagged) for name, each in sent.tagged_addresses.items()}
    return {
        "name": name,
        "tags": sent.tags,
        "address": sent.address,
        "port": sent.port,
        "meta": sent.meta,
        "tagged_addresses": {name: {"Address": each.address, "Port": each.port} for name, each in addresses.items()},
        "weights": {"Passing": weights.passing, "Warning": weights.warning},
        "enable_tag_override": sent.enable_tag_override,
    }


def check_values(sent: Check) -> tuple[str, Row]:
    """(id, row). Raises Invalid."""
    ident = sent.check_id or sent.id or sent.name
    if not ident:
        raise Invalid("Must provide a check ID or name", field="CheckID")
    status = sent.status or "critical"
    if status not in catalog.STATUSES:
        raise Invalid(f"Invalid check status {status!r}", field="Status")
    return ident, {
        "name": sent.name or ident,
        "status": status,
        "notes": sent.notes,
        "output": sent.output[: catalog.OUTPUT_CHARS_MAX],
        "service_id": sent.service_id,
        "definition": sent.definition,
    }


def node_values(address: str, sent: Register) -> Row:
    ident = {"id": sent.id} if sent.id else {}
    return {**ident, "address": address, "meta": sent.node_meta, "tagged_addresses": sent.tagged_addresses}


async def introduced(call: Call) -> None:
    """The agent's own node is in the catalog from the first look on."""
    if not await call.read(agent.is_introduced):
        await call.write(agent.introduce)


async def register(call: Call) -> Reply:
    check_datacenter(call)
    sent = await body(call, Register)
    if not sent.node or (not sent.address and not sent.skip_node_update):
        raise Invalid("Must provide node and address")
    service = None if sent.service is None else shaped(sent.service, Service)
    all_checks = [*([sent.check] if sent.check is not None else []), *sent.checks]
    values = None if service is None else service_values(service)
    wanted = Registration(
        node=sent.node,
        node_values=node_values(sent.address, sent),
        keep_node=sent.skip_node_update,
        service_id="" if service is None or values is None else service.id or values["name"],
        service_values=values,
        checks=tuple(check_values(shaped(each, Check)) for each in all_checks),
    )
    await call.write(registration.register, wanted)
    return shown(call, True)


async def deregister(call: Call) -> Reply:
    check_datacenter(call)
    sent = await body(call, Deregister)
    if not sent.node:
        raise Invalid("Must provide node", field="Node")
    await call.write(registration.deregister, sent.node, sent.service_id, sent.check_id)
    return shown(call, True)


async def datacenters(call: Call) -> Reply:
    return shown(call, [DATACENTER])


def has_meta(call: Call) -> Callable[[Row], bool]:
    """`?node-meta=key:value`, again and again: all of them must be there."""
    wanted = [each.partition(":")[::2] for each in call.query.getall("node-meta", [])]
    return lambda row: all(row["meta"].get(name) == value for name, value in wanted)


async def nodes(call: Call) -> Reply:
    await introduced(call)
    fits, wanted = has_meta(call), filters.wanted(call, filters.NODE)

    def show(rows: list[Row]) -> list[Row]:
        return [shown for row in rows if fits(row) and wanted(shown := render.node(row))]

    return await listed(call, ["nodes"], show, catalog.find_nodes, filtered=True)


async def services(call: Call) -> Reply:
    """Name -> tags. The agent itself is the service `consul`, as everywhere."""
    await introduced(call)
    wanted = filters.wanted(call, filters.NAMED_SERVICE)
    seen = await found(call, ["services"], catalog.find_services, filtered=True)
    own = {"name": "consul", "id": "consul", "tags": [], "address": "", "port": 8300, "enable_tag_override": False}
    own |= {"meta": {}, "tagged_addresses": {}, "weights": {"Passing": 1, "Warning": 1}}
    names: dict[str, dict[str, None]] = {}
    for row in filter(lambda row: wanted(render.named_service(row)), [own, *seen.value]):
        names.setdefault(row["name"], {}).update(dict.fromkeys(row["tags"]))
    return shown(call, {name: list(tags) for name, tags in sorted(names.items())}, headers=headers_of(call, seen.index))


def has_tags(call: Call) -> Callable[[Row], bool]:
    """`?tag=x`, again and again: all of them must be there, in any case of letters."""
    wanted = {tag.lower() for tag in call.query.getall("tag", []) if tag}
    return lambda row: wanted <= {tag.lower() for tag in row["tags"]}


async def service(call: Call) -> Reply:
    name, fits, at_node = call.path["service"], has_tags(call), has_meta(call)
    wanted = filters.wanted(call, filters.CATALOG_SERVICE)

    def show(rows: Any) -> list[Row]:
        shown = (render.catalog_service(row, at) for row, at, _ in rows if fits(row) and at_node(at))
        return [each for each in shown if wanted(each)]

    return await listed(call, [f"service/{name}"], show, catalog.instances, name, filtered=True)


async def node(call: Call) -> Reply:
    """{Node, Services by id}; null for a node that is not there. A filter is about the services."""
    await introduced(call)
    wanted = filters.wanted(call, filters.SERVICE)

    def show(value: Any) -> Row | None:
        row, its_services, _ = value
        shown = (render.service(each) for each in its_services)
        return row and {"Node": render.node(row), "Services": {each["ID"]: each for each in shown if wanted(each)}}

    return await listed(call, [f"node/{call.path['node']}"], show, catalog.node, call.path["node"], filtered=True)


async def node_services(call: Call) -> Reply:
    """{Node, Services as a list}. A filter is about the services."""
    await introduced(call)
    wanted = filters.wanted(call, filters.SERVICE)

    def show(value: Any) -> Row | None:
        row, its_services, _ = value
        shown = (render.service(each) for each in its_services)
        return row and {"Node": render.node(row), "Services": [each for each in shown if wanted(each)]}

    return await listed(call, [f"node/{call.path['node']}"], show, catalog.node, call.path["node"], filtered=True)


ROUTES: tuple[Route, ...] = (
    Route("PUT", "/catalog/register", register, "discovery:write", "Register a node, a service and checks"),
    Route("PUT", "/catalog/deregister", deregister, "discovery:write", "Take a node, a service or a check away"),
    Route("GET", "/catalog/datacenters", datacenters, "discovery:read", "The datacenters: there is one"),
    Route("GET", "/catalog/nodes", nodes, "discovery:read", "The nodes"),
    Route("GET", "/catalog/services", services, "discovery:read", "The names of services, with their tags"),
    Route("GET", "/catalog/service/{service}", service, "discovery:read", "The instances of a service"),
    Route("GET", "/catalog/node/{node}", node, "discovery:read", "A node with its services"),
    Route("GET", "/catalog/node-services/{node}", node_services, "discovery:read", "A node with its services, as a list"),
)
