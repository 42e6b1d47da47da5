"""Rows of the catalog as Consul's JSON shows them."""

import base64
from typing import Any

from nacre.panes.consul.dialect import DATACENTER

Row = dict[str, Any]


def indexes(row: Row) -> Row:
    return {"CreateIndex": row["create_index"], "ModifyIndex": row["modify_index"]}


def node(row: Row) -> Row:
    return {
        "ID": row["id"],
        "Node": row["name"],
        "Address": row["address"],
        "Datacenter": DATACENTER,
        "TaggedAddresses": row["tagged_addresses"] or {"lan": row["address"], "wan": row["address"]},
        "Meta": row["meta"],
        **indexes(row),
    }


def service(row: Row) -> Row:
    """As under a node, and in the health of a service."""
    return {
        "ID": row["id"],
        "Service": row["name"],
        "Tags": row["tags"],
        "Address": row["address"],
        "TaggedAddresses": row["tagged_addresses"],
        "Meta": row["meta"],
        "Port": row["port"],
        "Weights": row["weights"],
        "EnableTagOverride": row["enable_tag_override"],
        "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}},
        "Connect": {},
        "PeerName": "",
        **indexes(row),
    }


def agent_service(row: Row) -> Row:
    shown = service(row)
    for name in ("Proxy", "Connect", "CreateIndex", "ModifyIndex", "PeerName"):
        del shown[name]
    return {**shown, "Datacenter": DATACENTER}


def named_service(row: Row) -> Row:
    """A service without its node, by the names that it has in /catalog/service."""
    return {
        "ServiceKind": "",
        "ServiceID": row["id"],
        "ServiceName": row["name"],
        "ServiceTags": row["tags"],
        "ServiceAddress": row["address"],
        "ServiceTaggedAddresses": row["tagged_addresses"],
        "ServiceWeights": row["weights"],
        "ServiceMeta": row["meta"],
        "ServicePort": row["port"],
        "ServiceEnableTagOverride": row["enable_tag_override"],
    }


def catalog_service(row: Row, at: Row) -> Row:
    """Flat, as /catalog/service lists it."""
    return {
        "ID": at["id"],
        "Node": at["name"],
        "Address": at["address"],
        "Datacenter": DATACENTER,
        "TaggedAddresses": at["tagged_addresses"] or {"lan": at["address"], "wan": at["address"]},
        "NodeMeta": at["meta"],
        **named_service(row),
        **indexes(row),
    }


def check(row: Row, tags: list[str] | None = None) -> Row:
    definition = row["definition"]
    return {
        "Node": row["node"],
        "CheckID": row["id"],
        "Name": row["name"],
        "Status": row["status"],
        "Notes": row["notes"],
        "Output": row["output"],
        "ServiceID": row["service_id"],
        "ServiceName": row["service_name"],
        "ServiceTags": tags or [],
        "Type": row["type"],
        "Interval": definition.get("Interval", ""),
        "Timeout": definition.get("Timeout", ""),
        "ExposedPort": 0,
        "Definition": definition,
        **indexes(row),
    }


def instance(found: tuple[Row, Row, list[Row]]) -> Row:
    """As /health/service lists it."""
    row, at, checks = found
    return {
        "Node": node(at),
        "Service": service(row),
        "Checks": [check(each, row["tags"] if each["service_id"] else []) for each in checks],
    }


def event(row: Row) -> Row:
    return {
        "ID": row["id"],
        "Name": row["name"],
        "Payload": base64.b64encode(row["payload"]).decode() if row["payload"] else None,
        "NodeFilter": row["node_filter"],
        "ServiceFilter": row["service_filter"],
        "TagFilter": row["tag_filter"],
        "Version": 1,
        "LTime": row["ltime"],
    }
