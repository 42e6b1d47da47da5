"""A tree of keys in Consul's K/V (https://developer.hashicorp.com/consul/api-docs/kv and /txn), made the same as a mapping.

The token comes from the environment (CONSUL_HTTP_TOKEN), as Consul's own clients take it: it is in no process list.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from nacre.cli.client import ApiError, send

OPERATIONS_MAX = 64
"""Of one transaction (the oldest Consul with transactions takes no more)."""
VALUE_BYTES_MAX = 512 * 1024
"""Consul's own limit of a value."""


class Tree:
    """All keys below a prefix, which belong to the one who publishes them."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url.rstrip("/")
        self._prefix = prefix.strip("/") + "/"
        token = os.environ.get("CONSUL_HTTP_TOKEN")
        self._headers = {"X-Consul-Token": token} if token else {}

    def read(self) -> dict[str, str]:
        """Key (without the prefix) -> value. Raises ApiError."""
        try:
            body = send("GET", f"{self._url}/v1/kv/{quote(self._prefix)}?recurse", self._headers).body
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return {
            entry["Key"].removeprefix(self._prefix): base64.b64decode(entry["Value"] or "").decode(errors="replace")
            for entry in body
        }

    def make(self, wanted: Mapping[str, str]) -> int:
        """Write what differs and delete what is not wanted; returns how many keys changed. Raises ApiError."""
        operations = list(self._difference(wanted))
        for start in range(0, len(operations), OPERATIONS_MAX):
            body = json.dumps([{"KV": each} for each in operations[start : start + OPERATIONS_MAX]]).encode()
            send("PUT", f"{self._url}/v1/txn", {**self._headers, "Content-Type": "application/json"}, body)
        return len(operations)

    def _difference(self, wanted: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        there = self.read()
        for key, value in sorted(wanted.items()):
            encoded = value.encode()
            if there.get(key) != value and len(encoded) <= VALUE_BYTES_MAX:
                yield {"Verb": "set", "Key": self._prefix + key, "Value": base64.b64encode(encoded).decode()}
        for key in sorted(there.keys() - wanted.keys()):
            yield {"Verb": "delete", "Key": self._prefix + key}
