"""Rescue, shelve, passwords, consoles, evacuation: servers that leave their usual life and come back, on two simulated hosts."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nacre.cloud.compute.consoles import OF_SERVER_MAX
from tests.functional.test_compute_servers import BASE, NOBODY, Site, at
from tests.images import config, docker_archive, layer
from tests.processes import Processes, wait_for
from tests.support import Answer, Client


class Cloud(Site):
    """The site, and the processes behind it."""

    processes: Processes

    def sound(self) -> None:
        """Nothing is left over, and no book is wrong."""

        def clean() -> bool:
            report = self.admin("GET", "/nacre/v1/audit").json
            assert report["findings"] == []
            return bool(report["pending"] == 0)

        wait_for(clean, "the audit to find nothing pending")

    def host_of(self, ident: str) -> Any:
        return self.admin("GET", f"{BASE}/servers/{ident}").json["server"]["OS-EXT-SRV-ATTR:host"]

    def docker(self, method: str, path: str) -> Answer:
        """The same project's Docker pane."""
        return self.member(method, f"/docker{path}", None, {"Authorization": f"Bearer {self.member.token}"})

    def images(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.member("GET", f"/image/v2/images?name={name}").json["images"]
        return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    state: Path = tmp_path_factory.mktemp("recovery")
    processes = Processes(state, simulate=2, cloud_id="4e5c").up()
    try:
        admin, member = processes.login("admin", "admin"), processes.login("demo", "demo")
        found = Cloud(admin, member, _image(admin, "system"), "")
        found.network = member("POST", "/network/v2.0/networks", {"network": {"name": "office"}}).json["network"]["id"]
        subnet = {"network_id": found.network, "cidr": "10.78.0.0/16", "ip_version": 4}
        assert member("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
        found.processes = processes
        yield found
    finally:
        processes.down()


def _image(admin: Client, name: str) -> str:
    content = layer({"etc/name": name})
    made = {"name": name, "disk_format": "raw", "container_format": "docker", "visibility": "public"}
    ident: str = admin("POST", "/image/v2/images", made).json["id"]
    data = docker_archive([([f"{name}:latest"], config(content), [content])])
    sent = admin("PUT", f"/image/v2/images/{ident}/file", data, {"Content-Type": "application/octet-stream"})
    assert sent.status == 204, sent.body
    return ident


def _stranger(cloud: Cloud) -> Client:
    """An admin's token says nothing about tenancy: a user of another project."""
    known = cloud.admin("GET", "/identity/v3/projects?name=strangers").json["projects"]
    if not known:
        project = cloud.admin("POST", "/identity/v3/projects", {"project": {"name": "strangers"}}).json["project"]["id"]
        body = {"user": {"name": "stranger", "password": "stranger-secret", "default_project_id": project}}
        user = cloud.admin("POST", "/identity/v3/users", body).json["user"]["id"]
        (role,) = cloud.admin("GET", "/identity/v3/roles?name=member").json["roles"]
        path = f"/identity/v3/projects/{project}/users/{user}/roles/{role['id']}"
        assert cloud.admin("PUT", path).status == 204
    return cloud.processes.login("stranger", "strangers")


def test_rescue_and_back(cloud: Cloud) -> None:
    other = _image(cloud.admin, "medicine")
    ident = cloud.create()
    assert cloud.act(ident, "unrescue").status == 409
    answer = cloud.act(ident, "rescue", {"adminPass": "of-my-own", "rescue_image_ref": other})
    assert (answer.status, answer.json) == (200, {"adminPass": "of-my-own"})
    cloud.reach(ident, "RESCUE")
    shown = cloud.show(ident)
    assert (shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:power_state"]) == ("rescued", 1)
    assert shown["image"]["id"] == cloud.image, "the server's own image stays what it is"
    said = cloud.act(ident, "os-getConsoleOutput", {}).json["output"]
    assert f"of image {other}, to the rescue" in said
    assert [one["id"] for one in cloud.member("GET", f"{BASE}/servers?status=RESCUE").json["servers"]] == [ident]
    for action, argument in (
        ("rescue", None),
        ("os-stop", None),
        ("pause", None),
        ("reboot", {"type": "HARD"}),
        ("rebuild", {"imageRef": cloud.image}),
        ("resize", {"flavorRef": "1"}),
        ("shelve", None),
        ("changePassword", {"adminPass": "x"}),
        ("createImage", {"name": "snap"}),
    ):
        assert cloud.act(ident, action, argument).status == 409, action
    assert cloud.act(ident, "unrescue").status == 202
    cloud.reach(ident, "ACTIVE")
    last = cloud.act(ident, "os-getConsoleOutput", {"length": 4}).json["output"]
    assert ("simulated boot 3" in last, "to the rescue" in last) == (True, False)
    events = [one["action"] for one in cloud.member("GET", f"{BASE}/servers/{ident}/os-instance-actions").json["instanceActions"]]
    assert events[:2] == ["unrescue", "rescue"]
    assert cloud.act(ident, "os-stop").status == 202
    cloud.reach(ident, "SHUTOFF")
    assert len(cloud.act(ident, "rescue").json["adminPass"]) == 12
    cloud.reach(ident, "RESCUE")
    cloud.delete(ident)
    cloud.sound()


def test_what_a_rescue_refuses(cloud: Cloud) -> None:
    ident = cloud.create()
    assert cloud.act(ident, "pause").status == 202
    cloud.reach(ident, "PAUSED")
    assert cloud.act(ident, "rescue").status == 409
    assert cloud.act(ident, "unpause").status == 202
    cloud.reach(ident, "ACTIVE")
    for body in ({"rescue_image_ref": NOBODY}, {"rescue_image_ref": "no id"}, {"adminPass": 7}, {"colour": "red"}, "now"):
        refused = cloud.act(ident, "rescue", body)
        assert refused.status == 400, body
    assert cloud.show(ident)["status"] == "ACTIVE"
    stranger = _stranger(cloud)
    for action, argument in (("rescue", None), ("unrescue", None), ("shelve", None), ("unshelve", None)):
        assert stranger("POST", f"{BASE}/servers/{ident}/action", {action: argument}).status == 404
        assert cloud.member("POST", f"{BASE}/servers/{NOBODY}/action", {action: argument}).status == 404
    assert cloud.act(ident, "lock").status == 202
    assert cloud.act(ident, "rescue").status == 409
    assert cloud.act(ident, "unlock").status == 202
    cloud.delete(ident)


def test_a_rescued_server_survives_the_api_process(cloud: Cloud) -> None:
    ident = cloud.create()
    assert cloud.act(ident, "rescue").status == 200
    cloud.processes.kill("api")
    cloud.processes.start("api")
    wait_for(cloud.processes.is_ready, "the cloud to serve again")
    cloud.reach(ident, "RESCUE")
    cloud.delete(ident)
    cloud.sound()


def test_shelve_frees_the_host_and_unshelve_brings_it_all_back(cloud: Cloud) -> None:
    ident = cloud.create(name="resting", metadata={"a": "b"})
    addresses, host = cloud.show(ident)["addresses"], cloud.host_of(ident)
    assert cloud.act(ident, "unshelve").status == 409
    assert cloud.act(ident, "shelve").status == 202
    cloud.reach(ident, "SHELVED_OFFLOADED")
    shown = cloud.show(ident)
    assert (shown["addresses"], shown["hostId"], shown["OS-EXT-STS:vm_state"]) == (addresses, "", "shelved_offloaded")
    assert cloud.host_of(ident) is None
    (image,) = cloud.images("resting-shelved")
    assert (image["status"], image["image_type"], image["instance_uuid"]) == ("active", "snapshot", ident)
    cloud.sound()
    hypervisors = cloud.admin("GET", f"{BASE}/os-hypervisors/detail").json["hypervisors"]
    assert {one["running_vms"] for one in hypervisors} == {0}
    used = cloud.member("GET", f"{BASE}/limits").json["limits"]["absolute"]
    assert used["totalInstancesUsed"] == 1, "its place in the quota stays its own"
    for action, argument in (
        ("shelve", None),
        ("os-start", None),
        ("os-stop", None),
        ("reboot", {"type": "HARD"}),
        ("rescue", None),
        ("rebuild", {"imageRef": cloud.image}),
        ("os-getConsoleOutput", {}),
    ):
        assert cloud.act(ident, action, argument).status == 409, action
    for verb in ("start", "restart", "pause"):
        refused = cloud.docker("POST", f"/containers/{ident}/{verb}")
        assert (refused.status, "shelved" in refused.json["message"]) == (409, True), verb
    assert cloud.act(ident, "shelveOffload").status == 403
    assert cloud.admin("POST", f"{BASE}/servers/{ident}/action", {"shelveOffload": None}).status == 409
    assert cloud.act(ident, "unshelve", {"availability_zone": "nova"}, 76).status == 400
    assert cloud.act(ident, "unshelve", {"availability_zone": "no-such-zone"}, 77).status == 409
    assert cloud.act(ident, "unshelve", {"host": host}, 91).status == 403
    assert cloud.act(ident, "unshelve", {}, 91).status == 400
    other = next(one["hypervisor_hostname"] for one in hypervisors if one["hypervisor_hostname"] != host)
    moved = cloud.admin("POST", f"{BASE}/servers/{ident}/action", {"unshelve": {"host": other}}, at(91))
    assert moved.status == 202, moved.body
    cloud.reach(ident, "ACTIVE")
    shown = cloud.show(ident)
    assert (shown["addresses"], shown["metadata"], shown["image"]["id"]) == (addresses, {"a": "b"}, cloud.image)
    assert cloud.host_of(ident) == other
    wait_for(lambda: not cloud.images("resting-shelved"), "the image to go")
    assert cloud.act(ident, "shelve").status == 202
    cloud.reach(ident, "SHELVED_OFFLOADED")
    assert cloud.act(ident, "unshelve").status == 202
    cloud.reach(ident, "ACTIVE")
    cloud.delete(ident)
    cloud.sound()


def test_a_shelved_server_that_is_deleted_takes_its_image_along(cloud: Cloud) -> None:
    ident = cloud.create(name="fading")
    assert cloud.act(ident, "suspend").status == 202
    cloud.reach(ident, "SUSPENDED")
    assert cloud.act(ident, "shelve").status == 202
    assert cloud.act(ident, "shelve").status == 409, "the same request comes twice"
    cloud.reach(ident, "SHELVED_OFFLOADED")
    cloud.delete(ident)
    wait_for(lambda: not cloud.images("fading-shelved"), "the image to go")
    cloud.sound()


def test_shelving_goes_on_where_a_killed_process_left_it(cloud: Cloud) -> None:
    ident = cloud.create(name="stubborn")
    cloud.processes.kill("node")
    assert cloud.act(ident, "shelve").status == 202
    cloud.processes.kill("api")
    cloud.processes.start("api")
    cloud.processes.start("node")
    wait_for(cloud.processes.is_ready, "the cloud to serve again")
    cloud.reach(ident, "SHELVED_OFFLOADED")
    (image,) = cloud.images("stubborn-shelved")
    assert cloud.member("DELETE", f"/image/v2/images/{image['id']}").status == 204
    lost = cloud.act(ident, "unshelve")
    assert (lost.status, "cannot be found" in lost.json["conflictingRequest"]["message"]) == (409, True)
    assert cloud.show(ident)["status"] == "SHELVED_OFFLOADED", "nothing is half made"
    cloud.delete(ident)
    cloud.sound()


def test_an_image_that_somebody_deletes_while_it_is_made_is_begun_anew(cloud: Cloud) -> None:
    ident = cloud.create(name="contested")
    cloud.processes.kill("node")
    assert cloud.act(ident, "shelve").status == 202
    (image,) = cloud.images("contested-shelved")
    assert cloud.member("DELETE", f"/image/v2/images/{image['id']}").status == 204
    cloud.processes.start("node")
    cloud.reach(ident, "SHELVED_OFFLOADED")
    (second,) = cloud.images("contested-shelved")
    assert second["id"] != image["id"]
    assert cloud.act(ident, "unshelve").status == 202
    cloud.reach(ident, "ACTIVE")
    cloud.delete(ident)
    cloud.sound()


def test_no_server_takes_the_port_that_another_project_has_on_ones_network(cloud: Cloud) -> None:
    stranger, networking = _stranger(cloud), "/network/v2.0"
    theirs = cloud.admin("GET", "/identity/v3/projects?name=strangers").json["projects"][0]["id"]
    shared = {"object_type": "network", "object_id": cloud.network, "target_tenant": theirs, "action": "access_as_shared"}
    policy = cloud.member("POST", f"{networking}/rbac-policies", {"rbac_policy": shared}).json["rbac_policy"]["id"]
    port = stranger("POST", f"{networking}/ports", {"port": {"network_id": cloud.network}}).json["port"]["id"]
    refused = cloud.member("POST", f"{BASE}/servers", cloud.body(networks=[{"port": port}]))
    assert refused.status == 400, refused.body
    ident = cloud.create()
    attached = cloud.member("POST", f"{BASE}/servers/{ident}/os-interface", {"interfaceAttachment": {"port_id": port}})
    assert attached.status == 400, attached.body
    assert stranger("GET", f"{networking}/ports/{port}").json["port"]["device_id"] == ""
    cloud.delete(ident)
    assert stranger("DELETE", f"{networking}/ports/{port}").status == 204
    assert cloud.member("DELETE", f"{networking}/rbac-policies/{policy}").status == 204


def test_nobody_puts_a_port_into_another_projects_server(cloud: Cloud) -> None:
    stranger, networking = _stranger(cloud), "/network/v2.0"
    ident = cloud.create()
    network = stranger("POST", f"{networking}/networks", {"network": {}}).json["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.66.0.0/24"}
    assert stranger("POST", f"{networking}/subnets", {"subnet": subnet}).status == 201
    smuggled = {"network_id": network, "device_id": ident, "device_owner": "compute:nova"}
    assert stranger("POST", f"{networking}/ports", {"port": smuggled}).status == 403
    port = stranger("POST", f"{networking}/ports", {"port": {"network_id": network, "device_id": "a thing"}}).json["port"]["id"]
    assert stranger("PUT", f"{networking}/ports/{port}", {"port": {"device_id": ident}}).status == 403
    assert len(cloud.member("GET", f"{BASE}/servers/{ident}/os-interface").json["interfaceAttachments"]) == 1
    cloud.delete(ident)
    assert stranger("DELETE", f"{networking}/ports/{port}").status == 204
    assert stranger("DELETE", f"{networking}/networks/{network}").status == 204


def test_passwords(cloud: Cloud) -> None:
    ident = cloud.create()
    assert cloud.act(ident, "changePassword", {"adminPass": "another ü"}).status == 202
    cloud.reach(ident, "ACTIVE")
    for body in (
        None,
        {},
        {"adminPass": None},
        {"adminPass": "a\0b"},
        {"adminPass": "ü" * 256},
        {"adminPass": "x", "user": "root"},
    ):
        assert cloud.act(ident, "changePassword", body).status == 400, body
    path = f"{BASE}/servers/{ident}/os-server-password"
    assert cloud.member("GET", path).json == {"password": ""}
    assert cloud.member("DELETE", path).status == 204
    assert _stranger(cloud)("GET", path).status == 404
    assert cloud.act(ident, "os-stop").status == 202
    cloud.reach(ident, "SHUTOFF")
    assert cloud.act(ident, "changePassword", {"adminPass": "x"}).status == 409
    database = b"".join(path.read_bytes() for path in (cloud.processes.state / "api").glob("nacre.sqlite*"))
    assert b"another \xc3\xbc" not in database, "nobody keeps the password itself"
    cloud.delete(ident)


def test_personality_within_its_limits(cloud: Cloud) -> None:
    files = [{"path": f"/etc/file-{number}", "contents": "aGVsbG8="} for number in range(6)]
    over = cloud.member("POST", f"{BASE}/servers", cloud.body(personality=files))
    assert over.status == 403
    assert "Personality file limit exceeded" in over.json["forbidden"]["message"]
    for bad in ({"path": "/x", "contents": "A" * 4 * 4000}, {"path": "/" + "x" * 300, "contents": ""}):
        assert cloud.member("POST", f"{BASE}/servers", cloud.body(personality=[bad])).status == 403
    assert cloud.member("POST", f"{BASE}/servers", cloud.body(personality=files[:1], networks="none"), at(57)).status == 400
    ident = cloud.create(personality=files[:5])
    assert cloud.act(ident, "rebuild", {"imageRef": cloud.image, "personality": files}).status == 403
    assert cloud.act(ident, "rebuild", {"imageRef": cloud.image, "personality": files[:2]}).status == 202
    cloud.reach(ident, "ACTIVE")
    cloud.delete(ident)


def test_a_serial_console_is_a_websocket_behind_a_token(cloud: Cloud) -> None:
    ident = cloud.create()
    old = cloud.act(ident, "os-getSerialConsole", {"type": "serial"}).json["console"]
    assert old["type"] == "serial"
    made = cloud.member(
        "POST", f"{BASE}/servers/{ident}/remote-consoles", {"remote_console": {"protocol": "serial", "type": "serial"}}, at(6)
    )
    console = made.json["remote_console"]
    assert (made.status, console["protocol"], console["type"]) == (200, "serial", "serial")
    url = console["url"]
    assert url.startswith("ws://")
    assert asyncio.run(_typed(url)) == b"hello\r\n"
    token = url.partition("token=")[2]
    shown = cloud.admin("GET", f"{BASE}/os-console-auth-tokens/{token}", None, at(31)).json["console"]
    assert (shown["instance_uuid"], shown["internal_access_path"]) == (ident, None)
    assert cloud.member("GET", f"{BASE}/os-console-auth-tokens/{token}", None, at(31)).status == 403
    assert cloud.admin("GET", f"{BASE}/os-console-auth-tokens/{token}x", None, at(31)).status == 404
    for wrong in ("", "?token=", "?token=forged", f"?token={token}x"):
        assert cloud.member("GET", f"/compute/serial{wrong}").status == 404
    assert cloud.member("GET", f"/compute/serial?token={token}").status == 400, "it is no page"
    for _ in range(OF_SERVER_MAX):
        newest = cloud.act(ident, "os-getSerialConsole", {"type": "serial"}).json["console"]["url"].partition("token=")[2]
    assert cloud.member("GET", f"/compute/serial?token={token}").status == 404, "as many newer ones took its place"
    assert cloud.member("GET", f"/compute/serial?token={newest}").status == 400
    for kind, name in (("os-getVNCConsole", "novnc"), ("os-getSPICEConsole", "spice-html5"), ("os-getRDPConsole", "rdp-html5")):
        refused = cloud.act(ident, kind, {"type": name}).json["badRequest"]["message"]
        assert refused == f"Unavailable console type {name}."
    path = f"{BASE}/servers/{ident}/remote-consoles"
    for protocol, kind, minor in (
        ("vnc", "serial", 6),
        ("mks", "webmks", 7),
        ("carrier-pigeon", "serial", 6),
        ("vnc", "novnc", 6),
    ):
        body = {"remote_console": {"protocol": protocol, "type": kind}}
        assert cloud.member("POST", path, body, at(minor)).status == 400, protocol
    assert cloud.act(ident, "os-getSerialConsole", {"type": "serial"}, 6).status == 400
    assert _stranger(cloud)("POST", path, {"remote_console": {"protocol": "serial", "type": "serial"}}, at(6)).status == 404
    cloud.delete(ident)
    assert cloud.member("GET", f"/compute/serial?token={token}").status == 404, "the token went with its server"


async def _typed(url: str) -> bytes:
    """What comes back of a line that is typed into a console."""
    got = b""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=("binary",)) as console:
        assert console.protocol == "binary"
        await console.send_bytes(b"hello\r")
        while not got.endswith(b"\n"):
            got += await console.receive_bytes(timeout=60)
    return got


def test_diagnostics_are_the_counters_of_the_host(cloud: Cloud) -> None:
    ident = cloud.create()
    path = f"{BASE}/servers/{ident}/diagnostics"
    flat = cloud.admin("GET", path).json
    assert (flat["cpu0_time"], flat["memory"]) == (0, 64 << 10)
    shown = cloud.admin("GET", path, None, at(48)).json
    assert (shown["state"], shown["num_cpus"], shown["num_nics"]) == ("running", 1, 1)
    assert (shown["memory_details"], shown["nic_details"][0]["rx_octets"]) == ({"maximum": 64, "used": 0}, 0)
    (port,) = cloud.member("GET", f"/network/v2.0/ports?device_id={ident}").json["ports"]
    assert shown["nic_details"][0]["mac_address"] == port["mac_address"]
    assert cloud.member("GET", path).status == 403
    assert cloud.admin("GET", f"{BASE}/servers/{NOBODY}/diagnostics").status == 404
    cloud.delete(ident)


def test_a_host_forced_down_gets_no_servers_and_gives_up_those_it_has(cloud: Cloud) -> None:
    ident = cloud.create()
    host = cloud.host_of(ident)
    act = f"{BASE}/servers/{ident}/action"
    busy = cloud.admin("POST", act, {"evacuate": {}}, at(14))
    assert (busy.status, "still in use" in busy.json["badRequest"]["message"]) == (400, True)
    assert cloud.act(ident, "evacuate", {}, 14).status == 403
    services = cloud.admin("GET", f"{BASE}/os-services", None, at(53)).json["services"]
    service = next(one["id"] for one in services if one["host"] == host)
    assert cloud.admin("DELETE", f"{BASE}/os-services/{service}", None, at(53)).status == 409
    down = cloud.admin("PUT", f"{BASE}/os-services/{service}", {"forced_down": True}, at(53)).json["service"]
    assert (down["forced_down"], down["state"]) == (True, "down")
    assert cloud.admin("POST", act, {"evacuate": {"host": host}}, at(14)).status == 400, "not to the host that is lost"
    answer = cloud.admin("POST", act, {"evacuate": {"adminPass": "known"}})
    assert (answer.status, answer.json) == (200, {"adminPass": "known"})
    cloud.reach(ident, "ACTIVE")
    assert cloud.host_of(ident) != host
    by_name = {"host": host, "binary": "nova-compute", "forced_down": False}
    up = cloud.admin("PUT", f"{BASE}/os-services/force-down", by_name, at(11)).json["service"]
    assert up == {"host": host, "binary": "nova-compute", "forced_down": False}
    cloud.delete(ident)
    cloud.sound()


def test_moves_that_are_not_served_say_so(cloud: Cloud) -> None:
    ident = cloud.create()
    act = f"{BASE}/servers/{ident}/action"
    live = {"host": None, "block_migration": "auto"}
    body = {"os-migrateLive": live}
    assert cloud.admin("POST", f"{BASE}/servers/{NOBODY}/action", body, at(25)).status == 404
    assert cloud.member("POST", act, body, at(25)).status == 403
    assert cloud.act(ident, "trigger_crash_dump", None, 17).status == 400
    assert cloud.member("GET", f"{BASE}/servers/{ident}/migrations", None, at(23)).status == 403
    assert cloud.admin("GET", f"{BASE}/servers/{ident}/migrations", None, at(23)).json == {"migrations": []}
    assert cloud.admin("DELETE", f"{BASE}/servers/{ident}/migrations/1", None, at(24)).status == 404
    assert cloud.member("GET", f"{BASE}/servers/{ident}/topology", None, at(78)).json == {"nodes": [], "pagesize_kb": None}
    cloud.delete(ident)


def test_no_server_has_a_volume(cloud: Cloud) -> None:
    ident = cloud.create()
    path = f"{BASE}/servers/{ident}/os-volume_attachments"
    assert cloud.member("GET", path).json == {"volumeAttachments": []}
    assert cloud.member("POST", path, {"volumeAttachment": {"volumeId": NOBODY}}).status == 404
    assert cloud.member("POST", path, {"volumeAttachment": {"volumeId": "x"}}).status == 400
    for method in ("GET", "DELETE"):
        assert cloud.member(method, f"{path}/{NOBODY}").status == 404
    assert _stranger(cloud)("GET", path).status == 404
    cloud.delete(ident)


def test_a_pin_to_the_zone_comes_and_goes(cloud: Cloud) -> None:
    ident = cloud.create()
    path = f"{BASE}/servers/{ident}"

    def pin(zone: str | None) -> tuple[int, Any]:
        answer = cloud.member("PUT", path, {"server": {"pinned_availability_zone": zone}}, at(104))
        return answer.status, answer.json.get("server", {}).get("pinned_availability_zone")

    assert pin(None) == (200, None)
    assert pin("nova") == (200, "nova")
    assert pin("nova") == (200, "nova")
    assert pin("elsewhere")[0] == 409
    assert cloud.show(ident, 96)["pinned_availability_zone"] == "nova"
    assert pin(None) == (200, None)
    assert cloud.member("PUT", path, {"server": {"pinned_availability_zone": None}}, at(103)).status == 400
    cloud.delete(ident)


def test_a_host_that_is_gone_can_be_forgotten_and_joins_anew(cloud: Cloud) -> None:
    def services() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cloud.admin("GET", f"{BASE}/os-services", None, at(53)).json["services"]
        return found

    path = f"{BASE}/os-services/{services()[0]['id']}"
    assert cloud.member("DELETE", path, None, at(53)).status == 403
    assert cloud.admin("DELETE", path, None, at(53)).status == 409
    assert cloud.admin("DELETE", f"{BASE}/os-services/{NOBODY}", None, at(53)).status == 404
    cloud.processes.kill("node")
    wait_for(lambda: services()[0]["state"] == "down", "the host to be down")
    assert cloud.admin("DELETE", path, None, at(53)).status == 204
    assert len(services()) == 1
    cloud.processes.start("node")
    wait_for(cloud.processes.is_ready, "both hosts to be back")
    wait_for(lambda: [one["state"] for one in services()] == ["up", "up"], "both to be up")
    cloud.sound()


def test_a_server_that_cannot_become_an_image_says_why_and_can_be_started_again(cloud: Cloud) -> None:
    made = {"name": "no-archive", "disk_format": "raw", "container_format": "docker", "visibility": "public"}
    image = cloud.admin("POST", "/image/v2/images", made).json["id"]
    sent = cloud.admin("PUT", f"/image/v2/images/{image}/file", b"bytes", {"Content-Type": "application/octet-stream"})
    assert sent.status == 204
    ident = cloud.create(imageRef=image, name="brittle")
    assert cloud.act(ident, "shelve").status == 202
    wait_for(lambda: cloud.show(ident)["status"] == "ERROR", "the cause to be shown")
    assert "cannot become an image yet" in cloud.show(ident)["fault"]["message"]
    assert cloud.act(ident, "reboot", {"type": "HARD"}).status == 202
    cloud.reach(ident, "ACTIVE")
    wait_for(lambda: not cloud.images("brittle-shelved"), "the image that never was to go")
    cloud.delete(ident)
    cloud.sound()
