"""A cloud of several API processes over one PostgreSQL, with simulated hosts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import Processes, free_port, wait_for
from tests.support import Client

APIS = ("api", "api-2")
HOSTS = 4


@contextmanager
def running(state: Path, store_url: str, environment: dict[str, dict[str, str]] | None = None) -> Iterator[Processes]:
    """`environment`: of each process, as Processes takes it."""
    cloud = Processes(state, simulate=HOSTS, store_url=store_url, environment=environment or {})
    api = json.loads((state / "run/api.json").read_text()) | {"hosts": {"lease_s": 6.0}, "nodes_bind": "127.0.0.1"}
    for number, name in enumerate(APIS):
        door = free_port()
        own = {"nodes_port": door, "nodes_url": f"https://127.0.0.1:{door}"}
        if number:
            own |= {"process": "2", "port": free_port(), "gateway_socket": str(state / "run/gateway-2.sock")}
        (state / f"run/{name}.json").write_text(json.dumps(api | own))
    try:
        cloud.start("api")
        wait_for(cloud.is_serving, "the first API process to make the store")
        cloud.start("api-2")
        cloud.start("node")
        wait_for(lambda: is_whole(cloud), "every process to have a stream of every host")
        yield cloud
    finally:
        cloud.down()
        print(cloud.logs())


def url_of(cloud: Processes, name: str) -> str:
    return f"http://127.0.0.1:{json.loads((cloud.state / f'run/{name}.json').read_text())['port']}"


def hosts_up(cloud: Processes, name: str) -> int:
    """How many hosts that process has a stream of; -1 while it does not serve."""
    try:
        answer = Client(url_of(cloud, name), "")("GET", "/healthz")
    except OSError:
        return -1
    return int(answer.json["hosts_up"]) if answer.status == 200 else -1


def processes(client: Client) -> dict[str, dict[str, Any]]:
    """By their addresses."""
    return {row["address"]: row for row in client("GET", "/nacre/v1/api-processes").json["processes"]}


def is_whole(cloud: Processes) -> bool:
    return all(hosts_up(cloud, name) == HOSTS for name in APIS)
