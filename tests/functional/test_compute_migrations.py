"""Cold migration and resize between three simulated hosts, one of which is a process of its own."""

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_compute_recovery import Cloud, _image, _stranger
from tests.functional.test_compute_servers import BASE, NOBODY, at
from tests.postgres import on_postgresql
from tests.processes import Processes, wait_for
from tests.support import Answer

AWAY = "sim-0002"


class Hosts(Cloud):
    """With what an administrator asks of servers' places."""

    def migrate(self, ident: str, host: str | None = None) -> Answer:
        body = None if host is None else {"host": host}
        return self.admin("POST", f"{BASE}/servers/{ident}/action", {"migrate": body}, at(56))

    def migrate_live(self, ident: str, host: str | None = None) -> Answer:
        body = {"os-migrateLive": {"host": host, "block_migration": "auto"}}
        return self.admin("POST", f"{BASE}/servers/{ident}/action", body, at(56))

    def live_migrations(self, ident: str) -> list[dict[str, Any]]:
        """Those that are under way."""
        found: list[dict[str, Any]] = self.admin("GET", f"{BASE}/servers/{ident}/migrations", None, at(80)).json["migrations"]
        return found

    def migrations(self, ident: str) -> list[dict[str, Any]]:
        """The latest first."""
        path = f"{BASE}/os-migrations?instance_uuid={ident}"
        found: list[dict[str, Any]] = self.admin("GET", path, None, at(80)).json["migrations"]
        return found

    def status(self, ident: str) -> str:
        return str(self.migrations(ident)[0]["status"])

    def console(self, ident: str) -> str:
        return str(self.act(ident, "os-getConsoleOutput", {}).json["output"])

    def claims(self) -> dict[str, tuple[int, int]]:
        """Host -> its servers, and their memory."""
        shown = self.admin("GET", f"{BASE}/os-hypervisors/detail").json["hypervisors"]
        return {one["hypervisor_hostname"]: (one["running_vms"], one["memory_mb_used"]) for one in shown}

    def signal_away(self, number: int) -> None:
        self.processes.running["node-away"].send_signal(number)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    state: Path = tmp_path_factory.mktemp("moving")
    processes = Processes(state, simulate=2, cloud_id="90fe").up_with_one_away()
    try:
        admin, member = processes.login("admin", "admin"), processes.login("demo", "demo")
        found = Hosts(admin, member, _image(admin, "system"), "")
        found.network = member("POST", "/network/v2.0/networks", {"network": {"name": "office"}}).json["network"]["id"]
        subnet = {"network_id": found.network, "cidr": "10.79.0.0/16", "ip_version": 4}
        assert member("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
        found.processes = processes
        yield found
    finally:
        if "node-away" in processes.running:
            processes.running["node-away"].send_signal(signal.SIGCONT)
        processes.down()
        print(processes.logs())


def test_a_server_moves_with_its_disk_and_addresses_and_waits_for_its_confirmation(cloud: Hosts) -> None:
    before = cloud.claims()
    ident = cloud.create()
    host, addresses, words = cloud.host_of(ident), cloud.show(ident)["addresses"], cloud.console(ident)
    assert cloud.migrate(ident).status == 202
    cloud.reach(ident, "VERIFY_RESIZE")
    moved = cloud.host_of(ident)
    assert moved != host
    assert cloud.show(ident)["addresses"] == addresses
    assert cloud.console(ident).startswith(words), "the console's log has come along"
    (row,) = cloud.migrations(ident)
    assert (row["migration_type"], row["status"]) == ("migration", "finished")
    assert (row["source_compute"], row["dest_compute"]) == (host, moved)
    assert all(cloud.claims()[name][0] == before[name][0] + 1 for name in (host, moved)), "both are claimed until it is confirmed"
    cloud.sound()
    assert cloud.act(ident, "confirmResize").status == 204
    cloud.reach(ident, "ACTIVE")
    assert cloud.status(ident) == "confirmed"
    assert cloud.claims()[host] == before[host]
    events = cloud.member("GET", f"{BASE}/servers/{ident}/os-instance-actions").json["instanceActions"]
    assert [event["action"] for event in events] == ["confirmResize", "migrate", "create"]
    cloud.sound()
    cloud.delete(ident)
    assert cloud.claims() == before


def test_a_migration_is_reverted_and_one_of_a_stopped_server_leaves_it_stopped(cloud: Hosts) -> None:
    before = cloud.claims()
    ident = cloud.create()
    host = cloud.host_of(ident)
    assert cloud.migrate(ident).status == 202
    cloud.reach(ident, "VERIFY_RESIZE")
    assert cloud.act(ident, "revertResize").status == 202
    cloud.reach(ident, "ACTIVE")
    assert (cloud.host_of(ident), cloud.status(ident)) == (host, "reverted")
    cloud.sound()
    assert cloud.act(ident, "os-stop").status == 202
    cloud.reach(ident, "SHUTOFF")
    assert cloud.migrate(ident, AWAY if host != AWAY else "sim-0000").status == 202
    cloud.reach(ident, "VERIFY_RESIZE")
    assert cloud.show(ident)["OS-EXT-STS:power_state"] == 4
    assert cloud.act(ident, "confirmResize").status == 204
    cloud.reach(ident, "SHUTOFF")
    cloud.delete(ident)
    cloud.sound()
    assert cloud.claims() == before


def test_a_server_goes_on_on_another_host(cloud: Hosts) -> None:
    before = cloud.claims()
    ident = cloud.create()
    host, addresses, words = cloud.host_of(ident), cloud.show(ident)["addresses"], cloud.console(ident)
    assert cloud.migrate_live(ident).status == 202
    wait_for(lambda: cloud.status(ident) == "completed", "the server to have moved")
    cloud.reach(ident, "ACTIVE")
    moved = cloud.host_of(ident)
    assert moved != host
    assert (cloud.show(ident)["addresses"], cloud.console(ident)) == (addresses, words), "it was not booted"
    (row,) = cloud.migrations(ident)
    assert (row["migration_type"], row["source_compute"], row["dest_compute"]) == ("live-migration", host, moved)
    assert cloud.live_migrations(ident) == []
    events = cloud.member("GET", f"{BASE}/servers/{ident}/os-instance-actions").json["instanceActions"]
    assert [event["action"] for event in events] == ["live-migration", "create"]
    cloud.sound()
    cloud.delete(ident)
    assert cloud.claims() == before


def test_a_live_migration_is_aborted_and_the_server_goes_on_where_it_was(cloud: Hosts) -> None:
    before = cloud.claims()
    ident = cloud.create()
    if cloud.host_of(ident) == AWAY:
        assert cloud.migrate_live(ident, "sim-0000").status == 202
        wait_for(lambda: cloud.status(ident) == "completed", "the server to be elsewhere")
    host, words = cloud.host_of(ident), cloud.console(ident)
    cloud.signal_away(signal.SIGSTOP)
    assert cloud.migrate_live(ident, AWAY).status == 202
    wait_for(lambda: cloud.status(ident) == "running", "the target to be waited for")
    shown = cloud.show(ident)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("MIGRATING", "migrating")
    assert (shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:power_state"]) == ("active", 1)
    (row,) = cloud.live_migrations(ident)
    path = f"{BASE}/servers/{ident}/migrations/{row['id']}"
    assert cloud.admin("GET", path, None, at(80)).json["migration"] == row
    assert (row["status"], row["dest_compute"], row["memory_total_bytes"]) == ("running", AWAY, None)
    assert cloud.member("DELETE", path, None, at(65)).status == 403
    assert cloud.migrate_live(ident).status == 409, "it is at something else"
    assert cloud.admin("POST", f"{path}/action", {"force_complete": None}, at(65)).status == 409
    assert cloud.admin("DELETE", path, None, at(65)).status == 202
    assert cloud.admin("DELETE", path, None, at(65)).status == 400, "it goes back already"
    cloud.signal_away(signal.SIGCONT)
    cloud.reach(ident, "ACTIVE")
    assert (cloud.status(ident), cloud.host_of(ident), cloud.console(ident)) == ("cancelled", host, words)
    assert cloud.admin("DELETE", path, None, at(65)).status == 404
    cloud.sound()
    cloud.delete(ident)
    assert cloud.claims() == before


def test_who_may_migrate_live_and_where_to(cloud: Hosts) -> None:
    ident = cloud.create()
    for name, words in ((cloud.host_of(ident), "to current host"), ("nowhere", "could not be found")):
        refused = cloud.migrate_live(ident, name)
        assert (refused.status, words in refused.json["badRequest"]["message"]) == (400, True), refused.body
    path = f"{BASE}/servers/{ident}/action"
    live = {"host": None, "block_migration": "auto"}
    assert cloud.admin("POST", path, {"os-migrateLive": {**live, "force": True}}, at(68)).status == 400
    assert cloud.admin("POST", path, {"os-migrateLive": {**live, "disk_over_commit": True}}, at(25)).status == 400
    assert cloud.migrations(ident) == []
    cloud.delete(ident)


def test_who_may_migrate_and_where_to(cloud: Hosts) -> None:
    ident = cloud.create()
    host = cloud.host_of(ident)
    path = f"{BASE}/servers/{ident}/action"
    assert cloud.act(ident, "migrate").status == 403
    assert _stranger(cloud)("POST", path, {"migrate": None}).status == 403
    assert cloud.admin("POST", f"{BASE}/servers/{NOBODY}/action", {"migrate": None}).status == 404
    assert cloud.admin("POST", path, {"migrate": {"host": AWAY}}, at(55)).status == 400, "a host may be named from 2.56 on"
    for name, words in ((host, "where the server exists"), ("nowhere", "could not be found")):
        refused = cloud.migrate(ident, name)
        assert (refused.status, words in refused.json["badRequest"]["message"]) == (400, True), refused.body
    assert cloud.act(ident, "pause").status == 202
    cloud.reach(ident, "PAUSED")
    assert cloud.migrate(ident).status == 409
    assert cloud.migrations(ident) == []
    live = cloud.admin("POST", path, {"os-migrateLive": {"host": None, "block_migration": "auto"}}, at(25))
    assert (live.status, "it is paused" in live.json["badRequest"]["message"]) == (400, True)
    cloud.delete(ident)


def test_a_resize_goes_to_another_host_where_the_own_one_has_no_room(cloud: Hosts) -> None:
    before = cloud.claims()
    for name, ram in (("whole", 300_000), ("half", 110_000)):
        flavor = {"name": name, "id": name, "vcpus": 1, "ram": ram, "disk": 1}
        assert cloud.admin("POST", f"{BASE}/flavors", {"flavor": flavor}).status == 200
    project = cloud.show(cloud.create())["tenant_id"]
    limits = {"quota_set": {"ram": -1}}
    assert cloud.admin("PUT", f"{BASE}/os-quota-sets/{project}", limits).status == 200
    for server in cloud.member("GET", f"{BASE}/servers").json["servers"]:
        cloud.delete(server["id"])
    halves = {cloud.host_of(ident): ident for ident in (cloud.create(flavorRef="half") for _ in range(3))}
    assert len(halves) == 3, "they are spread"
    second = cloud.create()
    host = cloud.host_of(second)
    refused = cloud.act(second, "resize", {"flavorRef": "whole"})
    assert (refused.status, "No valid host" in refused.json["badRequest"]["message"]) == (400, True)
    roomy = next(name for name in halves if name != host)
    cloud.delete(halves.pop(roomy))
    used = _ram_used(cloud)
    assert cloud.act(second, "resize", {"flavorRef": "whole"}).status == 202
    cloud.reach(second, "VERIFY_RESIZE")
    assert cloud.host_of(second) == roomy
    assert (cloud.migrations(second)[0]["migration_type"], _ram_used(cloud)) == ("resize", used + 300_000 - 64)
    cloud.sound()
    assert cloud.act(second, "revertResize").status == 202
    cloud.reach(second, "ACTIVE")
    assert (cloud.host_of(second), _ram_used(cloud)) == (host, used)
    cloud.sound()
    assert cloud.act(second, "resize", {"flavorRef": "whole"}).status == 202
    cloud.reach(second, "VERIFY_RESIZE")
    assert cloud.act(second, "confirmResize").status == 204
    cloud.reach(second, "ACTIVE")
    cloud.sound()
    for ident in (*halves.values(), second):
        cloud.delete(ident)
    cloud.sound()
    assert cloud.claims() == before


def _ram_used(cloud: Hosts) -> int:
    limits = cloud.member("GET", f"{BASE}/limits").json["limits"]["absolute"]
    return int(limits["totalRAMUsed"])


def test_a_server_is_deleted_at_any_point_of_its_way(cloud: Hosts) -> None:
    before = cloud.claims()
    waits, comes, stays = (cloud.create() for _ in range(3))
    assert cloud.migrate(waits).status == 202
    cloud.reach(waits, "VERIFY_RESIZE")
    to_away = [ident for ident in (comes, stays) if cloud.host_of(ident) != AWAY]
    cloud.signal_away(signal.SIGSTOP)
    for ident in to_away:
        assert cloud.migrate(ident, AWAY).status == 202
        wait_for(lambda ident=ident: cloud.status(ident) == "migrating", "the disk to be waited for")
    for ident in (waits, *to_away):
        assert cloud.member("DELETE", f"{BASE}/servers/{ident}").status == 204
    cloud.signal_away(signal.SIGCONT)
    for ident in (waits, *to_away):
        wait_for(lambda ident=ident: cloud.member("GET", f"{BASE}/servers/{ident}").status == 404, "it to be gone")
    assert cloud.status(waits) == "confirmed"
    for ident in {comes, stays} - set(to_away):
        cloud.delete(ident)
    cloud.sound()
    assert cloud.claims() == before


@pytest.mark.parametrize("killed", ["api", "node", "node-away"])
def test_who_is_killed_in_the_middle_goes_on_where_it_was(cloud: Hosts, killed: str) -> None:
    ident = cloud.create()
    if cloud.host_of(ident) == AWAY:
        assert cloud.migrate(ident).status == 202
        cloud.reach(ident, "VERIFY_RESIZE")
        assert cloud.act(ident, "confirmResize").status == 204
    cloud.signal_away(signal.SIGSTOP)
    assert cloud.migrate(ident, AWAY).status == 202
    wait_for(lambda: cloud.status(ident) == "migrating", "the disk to be waited for")
    cloud.processes.kill(killed)
    cloud.processes.start(killed)
    if killed != "node-away":
        cloud.signal_away(signal.SIGCONT)
    wait_for(cloud.processes.is_ready, "the cloud to serve again")
    cloud.reach(ident, "VERIFY_RESIZE")
    assert cloud.host_of(ident) == AWAY
    assert cloud.act(ident, "confirmResize").status == 204
    cloud.reach(ident, "ACTIVE")
    cloud.delete(ident)
    cloud.sound()


def test_a_host_is_drained_and_says_what_stays(cloud: Hosts) -> None:
    before = cloud.claims()
    idents = [cloud.create() for _ in range(12)]
    host = cloud.host_of(idents[0])
    there = [ident for ident in idents if cloud.host_of(ident) == host]
    paused = there[0]
    assert cloud.act(paused, "pause").status == 202
    cloud.reach(paused, "PAUSED")
    path = f"/nacre/v1/hosts/{host}"
    assert cloud.member("PUT", f"{path}/drain", {}).status == 403
    assert cloud.admin("PUT", "/nacre/v1/hosts/nowhere/drain", {}).status == 404
    answer = cloud.admin("PUT", f"{path}/drain", {"reason": "another disk"})
    assert (answer.status, answer.json["host"]["enabled"], answer.json["host"]["drain"]["total"]) == (202, False, len(there))

    def stays() -> bool:
        drain = cloud.admin("GET", path).json["host"]["drain"]
        return bool((drain["left"], drain["moving"], list(drain["staying"])) == (1, 0, [paused]))

    wait_for(stays, "all but one to leave")
    drain = cloud.admin("GET", path).json["host"]["drain"]
    assert drain["staying"][paused] == {"name": "web", "reason": "it is paused"}
    assert drain["finished_at"] is None
    for ident in there[1:]:
        cloud.reach(ident, "ACTIVE")
        assert (cloud.host_of(ident) != host, cloud.status(ident)) == (True, "confirmed")
    assert cloud.act(paused, "unpause").status == 202
    wait_for(lambda: cloud.admin("GET", path).json["host"]["drain"]["finished_at"], "the host to be empty")
    cloud.reach(paused, "ACTIVE")
    cloud.sound()
    assert cloud.admin("DELETE", f"{path}/cordon").json["host"]["enabled"]
    assert cloud.admin("GET", path).json["host"]["drain"] is None
    for ident in idents:
        cloud.delete(ident)
    cloud.sound()
    assert cloud.claims() == before


@pytest.mark.skipif(on_postgresql(), reason="the deadline is put into the past by hand, in SQLite's file")
def test_a_disk_that_does_not_come_in_time_leaves_the_server_where_it_was(cloud: Hosts) -> None:
    before = cloud.claims()
    ident = cloud.create()
    while cloud.host_of(ident) == AWAY:
        cloud.delete(ident)
        ident = cloud.create()
    host = cloud.host_of(ident)
    cloud.signal_away(signal.SIGSTOP)
    assert cloud.migrate(ident, AWAY).status == 202
    wait_for(lambda: cloud.status(ident) == "migrating", "the disk to be waited for")
    with contextlib.closing(sqlite3.connect(cloud.processes.state / "api/nacre.sqlite", timeout=60)) as store, store:
        store.execute("UPDATE servers SET deadline = 1 WHERE id = ?", (ident,))
    wait_for(lambda: cloud.status(ident) in ("reverting", "error"), "the deadline to be seen")
    cloud.signal_away(signal.SIGCONT)
    cloud.reach(ident, "ACTIVE")
    assert (cloud.host_of(ident), cloud.status(ident)) == (host, "error")
    actions = cloud.member("GET", f"{BASE}/servers/{ident}/os-instance-actions").json["instanceActions"]
    assert (actions[0]["action"], actions[0]["message"]) == ("migrate", "Error")
    cloud.delete(ident)
    cloud.sound()
    assert cloud.claims() == before
