"""Hosts are lost: servers whose policy says so are made anew elsewhere in time, the others stay, and nothing comes back that is not wanted."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.cloud.hosts.liveness import GRACE_S
from tests.faults.storm import settled
from tests.processes import Processes, wait_for

LOST = "sim-0003"
LEASE_S = 4.0
GUESTS = 50
HOSTNAME = "OS-EXT-SRV-ATTR:hypervisor_hostname"
AT = {"OpenStack-API-Version": "compute 2.80"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    """Three hosts in one process, the one that is to be lost in another."""
    cloud = Processes(tmp_path, simulate=3)
    node, api = (json.loads((tmp_path / f"run/{name}.json").read_text()) for name in ("node", "api"))
    (tmp_path / "run/node-away.json").write_text(json.dumps({**node, "simulated_hosts": 1, "simulated_first": 3}))
    (tmp_path / "run/api.json").write_text(json.dumps({**api, "hosts": {"lease_s": LEASE_S}}))
    cloud.simulate = 4
    for name in ("api", "node", "node-away"):
        cloud.start(name)
    wait_for(cloud.is_ready, "the cloud to serve")
    yield cloud
    for name in ("node", "node-away"):
        if name in cloud.running:
            cloud.running[name].send_signal(signal.SIGCONT)
    cloud.down()
    print(cloud.logs())


class Site:
    """What an administrator makes and sees."""

    def __init__(self, cloud: Processes) -> None:
        self.client = cloud.login()
        made = {"name": "busybox", "disk_format": "raw", "container_format": "docker"}
        self.image = self.client("POST", "/image/v2/images", made).json["id"]
        sent = self.client("PUT", f"/image/v2/images/{self.image}/file", b"bytes", {"Content-Type": "application/octet-stream"})
        assert sent.status == 204, sent.body
        unlimited = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}
        project = self.client("GET", "/identity/v3/auth/projects").json["projects"][0]["id"]
        assert self.client("PUT", f"/compute/v2.1/os-quota-sets/{project}", unlimited).status == 200

    def create(self, count: int = 1, *, evacuate: bool, host: str = LOST) -> None:
        server = {"name": "kept" if evacuate else "plain", "imageRef": self.image, "flavorRef": "42", "networks": "none"}
        server |= {
            "availability_zone": f"nova:{host}",
            "min_count": count,
            "metadata": {"nacre:evacuate": "yes"} if evacuate else {},
        }
        answer = self.client("POST", "/compute/v2.1/servers", {"server": server}, AT)
        assert answer.status == 202, answer.body

    def servers(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client("GET", f"/compute/v2.1/servers/detail?name=^{name}", None, AT).json["servers"]
        return found

    def active(self, name: str, *, on: str | None = None, off: str | None = None) -> int:
        return sum(
            each["status"] == "ACTIVE" and on in (None, each[HOSTNAME]) and off != each[HOSTNAME] for each in self.servers(name)
        )


def test_fifty_servers_are_elsewhere_in_time_and_the_others_stay(cloud: Processes) -> None:
    site = Site(cloud)
    site.create(GUESTS, evacuate=True)
    site.create(2, evacuate=False)
    wait_for(lambda: site.active("kept", on=LOST) == GUESTS and site.active("plain", on=LOST) == 2, "the servers to run")
    cloud.running["node-away"].send_signal(signal.SIGSTOP)
    began_s = time.monotonic()
    wait_for(lambda: site.active("kept", off=LOST) == GUESTS, "the servers to run elsewhere")
    print(
        f"{GUESTS} guests of a dead host ACTIVE elsewhere {time.monotonic() - began_s:.1f} s after its death (lease {LEASE_S} s)"
    )
    assert all(each[HOSTNAME] == LOST for each in site.servers("plain"))
    assert {row["status"] for row in _evacuations(site)} == {"done"}
    cloud.running["node-away"].send_signal(signal.SIGCONT)
    assert settled(site.client)["findings"] == []
    assert site.active("plain", on=LOST) == 2


def _evacuations(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.client("GET", "/compute/v2.1/os-migrations?migration_type=evacuation", None, AT).json[
        "migrations"
    ]
    assert len(found) == GUESTS
    return found


def test_where_most_hosts_are_missing_nobody_is_moved_and_an_operator_is_told(cloud: Processes) -> None:
    site = Site(cloud)
    site.create(1, evacuate=True, host="sim-0000")
    wait_for(lambda: site.active("kept") == 1, "the server to run")
    cloud.running["node"].send_signal(signal.SIGSTOP)
    wait_for(lambda: "3 hosts are missing" in site.client("GET", "/nacre/v1/hosts").json["warning"], "the operator to be told")
    time.sleep(GRACE_S)  # Longer than it takes to do what must not be done; nothing is claimed about how long that is.
    assert site.servers("kept")[0][HOSTNAME] == "sim-0000"
    cloud.running["node"].send_signal(signal.SIGCONT)
    wait_for(lambda: site.client("GET", "/nacre/v1/hosts").json["warning"] == "", "the warning to go")
    assert settled(site.client)["findings"] == []


def test_a_migration_whose_target_is_lost_is_taken_back_and_one_whose_source_is_lost_waits(cloud: Processes) -> None:
    site = Site(cloud)
    site.create(1, evacuate=False, host="sim-0000")
    wait_for(lambda: site.active("plain") == 1, "the server to run")
    ident = site.servers("plain")[0]["id"]
    cloud.running["node-away"].send_signal(signal.SIGSTOP)
    body = {"migrate": {"host": LOST}}
    assert site.client("POST", f"/compute/v2.1/servers/{ident}/action", body, AT).status == 202
    wait_for(lambda: site.active("plain", on="sim-0000") == 1, "the server to be back where it was")
    (row,) = site.client("GET", "/compute/v2.1/os-migrations", None, AT).json["migrations"]
    assert row["status"] == "error"
    cloud.running["node-away"].send_signal(signal.SIGCONT)
    assert settled(site.client)["findings"] == []
    assert site.active("plain", on="sim-0000") == 1
