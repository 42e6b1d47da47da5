"""Transactions, events, and what a cluster says of itself."""

import base64
import binascii
from typing import Any

import msgspec

from nacre.cloud.discovery import catalog, events, transactions
from nacre.cloud.discovery.kv import FLAGS_MAX, KeyOp
from nacre.cloud.discovery.transactions import OPERATIONS_MAX, CatalogOp, Result, RolledBack
from nacre.cloud.errors import Invalid, TooLarge
from nacre.panes.consul import render
from nacre.panes.consul.catalog import Check, Service, check_values, service_values
from nacre.panes.consul.dialect import VALUE_BYTES_MAX, Body, check_datacenter, fold, json_of, raw, shaped, shown
from nacre.panes.consul.kv import entry
from nacre.panes.consul.queries import listed
from nacre.panes.edge import Call, Reply, Route

Row = dict[str, Any]
LEADER = "127.0.0.1:8300"


class KeyBody(Body):
    verb: str
    key: str
    value: str | None = None
    flags: int = 0
    index: int = 0
    session: str = ""


class VerbBody(Body):
    verb: str
    node: Any = None
    service: Any = None
    check: Any = None


def key_op(value: Any) -> KeyOp:
    """Raises Invalid, TooLarge."""
    sent = shaped(value, KeyBody)
    if not 0 <= sent.flags <= FLAGS_MAX or not 0 <= sent.index <= FLAGS_MAX:
        raise Invalid("Request decode failed: Flags and Index are numbers of 64 bits without a sign")
    try:
        data = base64.b64decode(sent.value or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"Failed to decode value: {error}", field="Value") from None
    if len(data) > VALUE_BYTES_MAX:
        raise TooLarge(f'Value for key "{sent.key}" is too large ({len(data)} > {VALUE_BYTES_MAX} bytes)')
    if not sent.key and not sent.verb.endswith("-tree"):
        raise Invalid("Missing key name", field="Key")
    return KeyOp(sent.verb, sent.key, data, sent.flags, sent.index, sent.session)


class NodeBody(Body):
    node: str = ""
    id: str = ""
    address: str = ""
    meta: dict[str, str] = {}
    tagged_addresses: dict[str, str] = {}
    modify_index: int = 0


class Indexed(Body):
    modify_index: int = 0


def node_op(sent: VerbBody, value: Any) -> CatalogOp:
    node = shaped(value, NodeBody)
    ident = {"id": node.id} if node.id else {}
    values = {**ident, "address": node.address, "meta": node.meta, "tagged_addresses": node.tagged_addresses}
    return CatalogOp("Node", sent.verb, {"name": node.node}, values, node.modify_index)


def service_op(sent: VerbBody, value: Any) -> CatalogOp:
    service = shaped(value, Service)
    ident = service.id or service.service or service.name
    values = service_values(service) if sent.verb in ("set", "cas") else {}
    return CatalogOp(
        "Service", sent.verb, {"node": str(sent.node or ""), "id": ident}, values, shaped(value, Indexed).modify_index
    )


def check_op(sent: VerbBody, value: Any) -> CatalogOp:
    check = shaped(value, Check)
    ident, values = check_values(check)
    return CatalogOp("Check", sent.verb, {"node": check.node, "id": ident}, values, shaped(value, Indexed).modify_index)


CATALOG_OPS = {"node": node_op, "service": service_op, "check": check_op}


def operation(value: Any) -> KeyOp | CatalogOp:
    """One of a transaction's objects: its only key says what it is about. Raises Invalid."""
    folded = {fold(name): each for name, each in value.items() if each is not None} if isinstance(value, dict) else {}
    if len(folded) != 1:
        raise Invalid("Request decode failed: each operation is one of KV, Node, Service and Check")
    ((kind, inner),) = folded.items()
    if kind == "kv":
        return key_op(inner)
    if kind not in CATALOG_OPS:
        raise Invalid(f"Request decode failed: no operation {kind[:40]!r}; it is one of KV, Node, Service and Check")
    sent = shaped(inner, VerbBody)
    return CATALOG_OPS[kind](sent, getattr(sent, kind))


def shown_result(result: Result) -> Row:
    match result.kind:
        case "KV":
            shown_entry = msgspec.to_builtins(entry(result.row, with_value=result.with_value))
            return {"KV": shown_entry}
        case "Node":
            return {"Node": render.node(result.row)}
        case "Service":
            return {"Service": render.service(result.row)}
    return {"Check": render.check(result.row)}


async def txn(call: Call) -> Reply:
    check_datacenter(call)
    value = await json_of(call)
    if not isinstance(value, list):
        raise Invalid("Request decode failed: a list of operations is needed")
    if len(value) > OPERATIONS_MAX:
        raise TooLarge(f"Transaction contains too many operations ({len(value)} > {OPERATIONS_MAX})")
    try:
        results = await call.write(transactions.run, [operation(each) for each in value])
    except RolledBack as error:
        wrong = [{"OpIndex": number, "What": what} for number, what in error.details["errors"]]
        return shown(call, {"Results": None, "Errors": wrong}, 409)
    return shown(call, {"Results": [shown_result(each) for each in results] or None, "Errors": None})


async def fire(call: Call) -> Reply:
    check_datacenter(call)
    payload = await raw(call)
    if len(payload) > events.PAYLOAD_BYTES_MAX:
        raise TooLarge(f"The payload is larger than {events.PAYLOAD_BYTES_MAX} bytes")
    filters = {name: call.query.get(name, "") for name in ("node", "service", "tag")}
    row = await call.write(events.fire, call.path["name"], payload, filters)
    return shown(call, {**render.event(row), "LTime": 0})


async def find_events(call: Call) -> Reply:
    name = call.query.get("name", "")
    topic = f"event/{name}" if name else "events"
    return await listed(call, [topic], lambda rows: [render.event(row) for row in rows], events.find, name)


async def leader(call: Call) -> Reply:
    return shown(call, LEADER)


async def peers(call: Call) -> Reply:
    return shown(call, [LEADER])


async def coordinates_of_datacenters(call: Call) -> Reply:
    return shown(call, [])


async def coordinates(call: Call) -> Reply:
    """None: a project's agent measures no distances."""
    return await listed(call, ["nodes"], lambda rows: [], catalog.find_nodes)


ROUTES: tuple[Route, ...] = (
    Route("PUT", "/txn", txn, "discovery:write", "Several operations as one"),
    Route("PUT", "/event/fire/{name}", fire, "discovery:write", "Fire an event"),
    Route("GET", "/event/list", find_events, "discovery:read", "The latest events"),
    Route("GET", "/status/leader", leader, "discovery:read", "The leader: there is one server"),
    Route("GET", "/status/peers", peers, "discovery:read", "The servers: there is one"),
    Route("GET", "/coordinate/datacenters", coordinates_of_datacenters, "discovery:read", "Network coordinates: none"),
    Route("GET", "/coordinate/nodes", coordinates, "discovery:read", "Network coordinates of nodes: none"),
    Route("GET", "/coordinate/node/{node}", coordinates, "discovery:read", "Network coordinates of a node: none"),
)
