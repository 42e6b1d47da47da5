"""A good body for each route of Consul's API."""

from typing import Any

CHECK = {"CheckID": "c", "Name": "c", "HTTP": "http://10.77.0.5/", "Interval": "10s", "Timeout": "1s", "Status": "passing"}
TTL = {"Name": "t", "TTL": "10s", "Notes": "n", "DeregisterCriticalServiceAfter": "90m"}
KEY = {"Verb": "set", "Key": "k", "Value": "eA==", "Flags": 7, "Index": 0, "Session": ""}
NODE = {"Node": "n", "Address": "10.0.0.1", "Meta": {"a": "b"}, "TaggedAddresses": {"lan": "10.0.0.1"}}
TAGGED = {"lan": {"Address": "10.0.0.1", "Port": 1}}
PLACE = {"Name": "s", "ID": "s", "Tags": ["a"], "Address": "10.0.0.1", "Port": 80, "Meta": {"a": "b"}, "TaggedAddresses": TAGGED}
BODIES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("PUT", "/v1/session/create"): (
        {"Name": "n", "Node": "nacre", "LockDelay": "15s", "TTL": "30s", "Behavior": "delete", "Checks": []},
    ),
    ("PUT", "/v1/catalog/register"): (
        {
            "Node": "n",
            "Address": "10.0.0.1",
            "NodeMeta": {"a": "b"},
            "Service": {**PLACE, "Service": "s"},
            "Check": {"CheckID": "c", "Status": "passing", "ServiceID": "s"},
        },
    ),
    ("PUT", "/v1/catalog/deregister"): ({"Node": "n", "ServiceID": "s"}, {"Node": "n", "CheckID": "c"}),
    ("PUT", "/v1/agent/service/register"): ({**PLACE, "Checks": [CHECK, TTL], "Weights": {"Passing": 2, "Warning": 1}}, PLACE),
    ("PUT", "/v1/agent/check/register"): (CHECK, TTL),
    ("PUT", "/v1/agent/check/update/{check}"): ({"Status": "passing", "Output": "fine"},),
    ("PUT", "/v1/txn"): (
        [{"KV": KEY}, {"KV": {**KEY, "Verb": "get"}}],
        [{"Node": {"Verb": "set", "Node": NODE}}, {"Service": {"Verb": "set", "Node": "n", "Service": PLACE}}],
        [{"Check": {"Verb": "delete", "Check": {"Node": "n", "CheckID": "c", "Name": "c", "Status": "passing"}}}],
    ),
}
