"""Servers move to and fro while whoever moves them is killed: each is on one host in the end, as asked, and every book is right."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.storm import REFUSALS, settled
from tests.processes import Processes, wait_for
from tests.support import Answer, Client

SERVERS = 6
KILLS = 14
ASKS_PER_KILL = 8
AT = {"OpenStack-API-Version": "compute 2.80"}
BODIES = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
SETTLED = frozenset({"ACTIVE", "VERIFY_RESIZE"})


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    """Two hosts in one process, one in another."""
    cloud = Processes(tmp_path, simulate=2).up_with_one_away()
    yield cloud
    cloud.down()
    print(cloud.logs())


def _servers(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client("GET", "/compute/v2.1/servers/detail", None, AT).json["servers"]
    return found


def _ask(client: Client, ident: str, action: str) -> None:
    try:
        answer: Answer = client("POST", f"/compute/v2.1/servers/{ident}/action", {action: BODIES.get(action)}, AT)
    except OSError:
        return  # The API is dead at this moment.
    # 409: the server is at something else; 400: there is no other host right now.
    assert answer.status in (202, 204, 400, *REFUSALS), answer.body


def test_servers_that_move_survive_every_kill(cloud: Processes) -> None:
    client, chance = cloud.login(), random.Random(5)
    made = {"name": "busybox", "disk_format": "raw", "container_format": "docker"}
    image = client("POST", "/image/v2/images", made).json["id"]
    sent = client("PUT", f"/image/v2/images/{image}/file", b"bytes", {"Content-Type": "application/octet-stream"})
    assert sent.status == 204, sent.body
    body = {"name": "mover", "imageRef": image, "flavorRef": "42", "networks": "auto", "min_count": SERVERS}
    assert client("POST", "/compute/v2.1/servers", {"server": body}, AT).status == 202
    wait_for(lambda: [each["status"] for each in _servers(client)] == ["ACTIVE"] * SERVERS, "the servers to run")
    idents = [each["id"] for each in _servers(client)]
    addresses = {each["id"]: each["addresses"] for each in _servers(client)}
    for _ in range(KILLS):
        for _ in range(ASKS_PER_KILL):
            _ask(client, chance.choice(idents), chance.choice(("migrate", "os-migrateLive", "confirmResize", "revertResize")))
            time.sleep(chance.random() * 0.02)
        killed = chance.choice(("api", "node", "node-away"))
        cloud.kill(killed, signal.SIGKILL)
        cloud.start(killed)
        wait_for(cloud.is_ready, "the cloud to serve again")

    def at_rest() -> bool:
        return all(each["status"] in SETTLED and each["OS-EXT-STS:task_state"] is None for each in _servers(client))

    wait_for(at_rest, "every server to be somewhere")
    assert settled(client)["findings"] == []
    for ident in idents:
        _ask(client, ident, chance.choice(("confirmResize", "revertResize")))
    wait_for(lambda: [each["status"] for each in _servers(client)] == ["ACTIVE"] * SERVERS, "the servers to be at their ends")
    assert {each["id"]: each["addresses"] for each in _servers(client)} == addresses
    assert settled(client)["findings"] == []
    rows = client("GET", "/compute/v2.1/os-migrations", None, AT).json["migrations"]
    assert {row["status"] for row in rows} <= {"confirmed", "reverted", "completed", "error"}
    print(f"{len(rows)} migrations: {sorted(row['status'] for row in rows)}")
