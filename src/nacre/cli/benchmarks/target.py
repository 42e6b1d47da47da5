"""A running cloud to measure: kept connections, the few things that every benchmark needs, and statistics."""

import http.client
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import click

from nacre.cli.client import Client, connect
from nacre.cli.state import State

WAIT_S = 300.0


@dataclass
class Figures:
    """What a benchmark found. `samples` are its single values in milliseconds, for the plot."""

    name: str
    values: dict[str, float | str]
    samples: list[float] = field(default_factory=list)
    note: str = ""


def quantile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank quantile."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(samples: Sequence[float], unit: str = "ms") -> dict[str, float | str]:
    """p50, p95 and the extremes, rounded."""
    return {
        f"p50 {unit}": round(statistics.median(samples), 2),
        f"p95 {unit}": round(quantile(samples, 0.95), 2),
        f"p99 {unit}": round(quantile(samples, 0.99), 2),
        f"max {unit}": round(max(samples), 2),
        "n": len(samples),
    }


class Target:
    """A cloud over one kept connection. Not for several threads: take `clone`."""

    def __init__(self, state: State, client: Client) -> None:
        self.state = state
        self.client = client
        self.network_id = ""
        self.url = state.require().url
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WAIT_S)

    @classmethod
    def open(cls, state: State) -> "Target":
        client = connect(state)
        client.authenticate()
        return cls(state, client)

    def clone(self) -> "Target":
        return Target(self.state, self.client)

    def call(self, method: str, path: str, body: Any = None, *, expect: Sequence[int] = (200, 201, 202, 204)) -> Any:
        """One request; the decoded body. Raises ClickException on another status than those expected."""
        headers = {"X-Auth-Token": self.client.token, "OpenStack-API-Version": "compute 2.37"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status not in expect:
            raise click.ClickException(f"{method} {path}: {answer.status} {data[:500].decode(errors='replace')}")
        return json.loads(data) if data else None

    def raw(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        """One request; the body as it came. Raises ClickException on another status than 200."""
        self._connection.request(method, path, headers=headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise click.ClickException(f"{method} {path}: {answer.status} {data[:500].decode(errors='replace')}")
        return data

    def image(self) -> str:
        """The id of the image busybox."""
        return str(self.call("GET", "/image/v2/images?name=busybox")["images"][0]["id"])

    def flavor(self, memory_mb: int = 32) -> str:
        """A small flavor, made when it is not there."""
        ident = f"bench-{memory_mb}"
        body = {"flavor": {"id": ident, "name": ident, "ram": memory_mb, "vcpus": 1, "disk": 0}}
        self.call("POST", "/compute/v2.1/flavors", body, expect=(200, 409))
        return ident

    def network(self, cidr: str = "10.99.0.0/20") -> str:
        """A network with one subnet, made when it is not there."""
        found = self.call("GET", "/network/v2.0/networks?name=bench")["networks"]
        if found:
            return str(found[0]["id"])
        self.lift_quotas()
        network = self.call("POST", "/network/v2.0/networks", {"network": {"name": "bench"}})["network"]["id"]
        subnet = {"network_id": network, "cidr": cidr, "ip_version": 4, "name": "bench"}
        self.call("POST", "/network/v2.0/subnets", {"subnet": subnet})
        return str(network)

    def lift_quotas(self) -> None:
        """No limits for the project that measures."""
        project = self.client.project_id
        none = dict.fromkeys(("instances", "cores", "ram", "key_pairs"), -1)
        self.call("PUT", f"/compute/v2.1/os-quota-sets/{project}", {"quota_set": none})
        limits = ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule")
        self.call("PUT", f"/network/v2.0/quotas/{project}", {"quota": dict.fromkeys(limits, -1)})

    def boot(self, name: str, count: int = 1, **extra: Any) -> str:
        """POST a server; its id, answered before it runs."""
        server: dict[str, Any] = {
            "name": name,
            "imageRef": self.image_id,
            "flavorRef": self.flavor_id,
            "networks": [{"uuid": self.network_id}],
        }
        server |= extra
        if count > 1:
            server.update(min_count=count, max_count=count)
        return str(self.call("POST", "/compute/v2.1/servers", {"server": server})["server"]["id"])

    def prepare(self) -> "Target":
        """Image, flavor and network, looked up or made once."""
        self.network_id = self.network()
        self.image_id, self.flavor_id = self.image(), self.flavor()
        return self

    def delete_all(self) -> None:
        """Delete every server of the project and wait until they are gone."""
        while doomed := self._listed():
            for ident in doomed:
                self.call("DELETE", f"/compute/v2.1/servers/{ident}", expect=(204, 404))
            while doomed:
                self._await_end(doomed.pop())

    def _await_end(self, ident: str) -> None:
        path = f"/compute/v2.1/servers/{ident}"
        self.wait(lambda: "itemNotFound" in self.call("GET", path, expect=(200, 404)), f"server {ident} to go", 0.05)

    def _listed(self) -> set[str]:
        return {server["id"] for server in self.call("GET", "/compute/v2.1/servers?limit=1000")["servers"]}

    def wait(self, condition: Callable[[], Any], what: str, pause_s: float = 0.001) -> Any:
        """The condition's value once it is true. Raises ClickException after WAIT_S."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(pause_s)
        raise click.ClickException(f"waited {WAIT_S:.0f} s in vain for {what}")

    def status(self, server: str) -> str:
        """The server's status. Raises ClickException when it is in ERROR."""
        shown = self.call("GET", f"/compute/v2.1/servers/{server}")["server"]
        if shown["status"] == "ERROR":
            raise click.ClickException(f"server {server}: {shown.get('fault', {}).get('message', 'ERROR')}")
        return str(shown["status"])
