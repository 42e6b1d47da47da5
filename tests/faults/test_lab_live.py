"""A real guest goes on on another host: what it has in memory, its listener, its console.

Needs a CRIU that works on this kernel: NACRE_CRIU names its program.
"""

import base64
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.lab import HEADERS, Lab, Room, running
from tests.processes import wait_for
from tests.support import Client

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.environ.get("NACRE_CRIU"), reason="there is no CRIU here: set NACRE_CRIU"),
]
COUNTS = "i=0; while :; do i=$((i+1)); echo count $i; sleep 0.2; done"
ECHOES = "mkfifo /tmp/echo; while :; do nc -l -p 7007 </tmp/echo | cat >/tmp/echo; done"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(hosts=3) as made:
        yield made


def _live(client: Client, server: str, host: str) -> None:
    body = {"os-migrateLive": {"host": host, "block_migration": "auto"}}
    answer = client("POST", f"/compute/v2.1/servers/{server}/action", body, HEADERS)
    assert answer.status == 202, answer.body


def _latest(client: Client, server: str) -> dict[str, Any]:
    rows = client("GET", f"/compute/v2.1/os-migrations?instance_uuid={server}", None, HEADERS).json["migrations"]
    found: dict[str, Any] = rows[0]
    return found


def _can(lab: Lab, host: str) -> bool:
    shown = lab.nacre("facts", "--host", host, "--name", "live_migration.*", "-f", "json")
    return '"live_migration.possible": true' in shown


def _counts(client: Client, server: str) -> list[int]:
    answer = client("POST", f"/compute/v2.1/servers/{server}/action", {"os-getConsoleOutput": {}}, HEADERS)
    return [int(line.split()[1]) for line in answer.json["output"].splitlines() if line.startswith("count ")]


def test_a_guest_goes_on_with_its_memory_and_its_listener(lab: Lab) -> None:
    client = lab.login()
    wait_for(lambda: all(_can(lab, name) for name in ("h1", "h2")), "both hosts to have tried it, with success")
    room = Room(lab, client, "live", "10.41.0.0/24")
    room.open_doors()
    script = f"#!/bin/sh\n({COUNTS}) > /dev/console &\n({ECHOES}) &\n"
    server, other = room.boot("h1", user_data=base64.b64encode(script.encode()).decode()), room.boot("h3")
    address = room.address(server)
    wait_for(lambda: len(_counts(client, server)) > 3, "it to count")
    talk = lab.inside("h3", other, "/bin/busybox", "timeout", "2", "/bin/busybox", "nc", address, "7007")

    def echoes(word: bytes) -> bool:
        return word in subprocess.run(talk, input=word + b"\n", capture_output=True, check=False).stdout

    wait_for(lambda: echoes(b"before"), "it to listen")
    # The second way back is refused: the guest goes on where it is.
    for target, ends_as in (("h2", "completed"), ("h1", "error")):
        before = _counts(client, server)[-1]
        _live(client, server, target)
        wait_for(lambda: _latest(client, server)["status"] in ("completed", "error"), "it to be somewhere", 60)
        assert _latest(client, server)["status"] == ends_as, lab.logs()
        wait_for(lambda: room.status(server) == "ACTIVE", "it to be active", 60)
        wait_for(lambda before=before: _counts(client, server)[-1] > before + 3, "it to go on counting", 30)
        counts = _counts(client, server)
        assert counts == list(range(counts[0], counts[-1] + 1)), "it neither began anew nor left anything out"
        wait_for(lambda: echoes(b"after"), "its listener to answer from where it is", 20)
        assert sum((lab.host(name).node / f"guests/{server}/pid").exists() for name in ("h1", "h2")) == 1
    assert lab.audited(client)["findings"] == []


@pytest.mark.parametrize("killed", ["h1", "h2"])
def test_a_guest_goes_on_though_a_node_is_killed_on_the_way(lab: Lab, killed: str) -> None:
    client = lab.login()
    wait_for(lambda: all(_can(lab, name) for name in ("h1", "h2")), "both hosts to have tried it, with success")
    room = Room(lab, client, f"live-{killed}", "10.42.0.0/24")
    script = f"#!/bin/sh\n({COUNTS}) > /dev/console &\n"
    server = room.boot("h1", user_data=base64.b64encode(script.encode()).decode())
    wait_for(lambda: len(_counts(client, server)) > 3, "it to count")
    before = _counts(client, server)[-1]
    _live(client, server, "h2")
    wait_for(lambda: _latest(client, server)["status"] != "preparing", "it to be on its way")
    lab.ends(killed, "node")
    wait_for(lambda: _latest(client, server)["status"] in ("completed", "error"), "it to be somewhere", 60)
    wait_for(lambda: room.status(server) == "ACTIVE", "it to be active", 60)
    wait_for(lambda: _counts(client, server)[-1] > before + 3, "it to go on counting", 30)
    counts = _counts(client, server)
    assert counts == list(range(counts[0], counts[-1] + 1)), "it neither began anew nor left anything out"
    assert sum((lab.host(name).node / f"guests/{server}/pid").exists() for name in ("h1", "h2")) == 1
    assert lab.audited(client)["findings"] == []
