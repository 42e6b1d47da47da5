"""Servers over HTTP, on a simulated host: what a client does with them from create to delete."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Processes, wait_for
from tests.support import Answer, Client

BASE = "/compute/v2.1"
NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass
class Site:
    """A running cloud with an image and a network of the ordinary project."""

    admin: Client
    member: Client
    image: str
    network: str

    def body(self, **more: Any) -> dict[str, Any]:
        server = {"name": "web", "imageRef": self.image, "flavorRef": "42", "networks": [{"uuid": self.network}]}
        return {"server": {**server, **more}}

    def create(self, minor: int = 1, **more: Any) -> str:
        answer = self.member("POST", f"{BASE}/servers", self.body(**more), at(minor))
        assert answer.status == 202, answer.body
        ident: str = answer.json["server"]["id"]
        self.reach(ident, "ACTIVE")
        return ident

    def show(self, ident: str, minor: int = 1) -> dict[str, Any]:
        shown: dict[str, Any] = self.member("GET", f"{BASE}/servers/{ident}", None, at(minor)).json["server"]
        return shown

    def reach(self, ident: str, status: str) -> None:
        def reached() -> bool:
            shown = self.show(ident)
            return bool(shown["status"] == status and shown["OS-EXT-STS:task_state"] is None)

        wait_for(reached, f"{ident} to be {status}")

    def act(self, ident: str, name: str, argument: Any = None, minor: int = 1) -> Answer:
        return self.member("POST", f"{BASE}/servers/{ident}/action", {name: argument}, at(minor))

    def delete(self, ident: str) -> None:
        assert self.member("DELETE", f"{BASE}/servers/{ident}").status == 204
        wait_for(lambda: self.member("GET", f"{BASE}/servers/{ident}").status == 404, f"{ident} to be gone")


def at(minor: int) -> dict[str, str]:
    return {"OpenStack-API-Version": f"compute 2.{minor}"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    state: Path = tmp_path_factory.mktemp("site")
    processes = Processes(state, simulate=1, cloud_id="c0de").up()
    try:
        admin, member = processes.login("admin", "admin"), processes.login("demo", "demo")
        made = {"name": "busybox", "disk_format": "raw", "container_format": "docker", "visibility": "public"}
        image = admin("POST", "/image/v2/images", made).json["id"]
        sent = admin("PUT", f"/image/v2/images/{image}/file", b"bytes", {"Content-Type": "application/octet-stream"})
        assert sent.status == 204, sent.body
        network = member("POST", "/network/v2.0/networks", {"network": {"name": "office"}}).json["network"]["id"]
        subnet = {"network_id": network, "cidr": "10.77.0.0/16", "ip_version": 4}
        assert member("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
        yield Site(admin, member, image, network)
    finally:
        processes.down()


def test_a_server_from_create_to_delete(site: Site) -> None:
    answer = site.member("POST", f"{BASE}/servers", site.body(metadata={"role": "web"}, accessIPv4="192.0.2.7"))
    server = answer.json["server"]
    assert answer.headers["Location"].endswith(f"/compute/v2.1/servers/{server['id']}")
    assert len(server["adminPass"]) >= 12
    site.reach(server["id"], "ACTIVE")
    shown = site.show(server["id"])
    (address,) = shown["addresses"]["office"]
    assert address["addr"].startswith("10.77.")
    assert (address["OS-EXT-IPS:type"], shown["accessIPv4"], shown["metadata"]) == ("fixed", "192.0.2.7", {"role": "web"})
    assert shown["security_groups"] == [{"name": "default"}]
    assert not [name for name in shown if name.startswith("OS-EXT-SRV-ATTR")]
    seen_by_admin = site.admin("GET", f"{BASE}/servers/{server['id']}").json["server"]
    assert seen_by_admin["OS-EXT-SRV-ATTR:host"]
    renamed = site.member("PUT", f"{BASE}/servers/{server['id']}", {"server": {"name": "bücher", "accessIPv6": "2001:db8::7"}})
    assert (renamed.json["server"]["name"], renamed.json["server"]["accessIPv6"]) == ("bücher", "2001:db8::7")
    site.delete(server["id"])


def test_power_pause_and_reboot(site: Site) -> None:
    ident = site.create()
    assert site.act(ident, "os-start").status == 409
    for action, argument, status in (
        ("os-stop", None, "SHUTOFF"),
        ("os-start", None, "ACTIVE"),
        ("pause", None, "PAUSED"),
        ("unpause", None, "ACTIVE"),
        ("suspend", None, "SUSPENDED"),
        ("resume", None, "ACTIVE"),
        ("reboot", {"type": "SOFT"}, "ACTIVE"),
        ("reboot", {"type": "Hard"}, "ACTIVE"),
    ):
        assert site.act(ident, action, argument).status == 202, action
        site.reach(ident, status)
    assert site.act(ident, "reboot", {"type": "gently"}).status == 400
    assert site.act(ident, "os-stop", {"now": True}).status == 400
    assert site.act(ident, "levitate", {}).json["badRequest"]["message"] == "There is no such action: levitate"
    done = site.member("GET", f"{BASE}/servers/{ident}/os-instance-actions").json["instanceActions"]
    assert [action["action"] for action in reversed(done)] == [
        "create",
        "stop",
        "start",
        "pause",
        "unpause",
        "suspend",
        "resume",
        "reboot",
        "reboot",
    ]
    path = f"{BASE}/servers/{ident}/os-instance-actions/{done[-1]['request_id']}"
    events = site.member("GET", path, None, at(62)).json["instanceAction"]["events"]
    assert "compute__do_build_and_run_instance" in [event["event"] for event in events]
    assert all(event["result"] == "Success" and event["hostId"] for event in events)
    assert site.member("GET", f"{BASE}/servers/{ident}/os-instance-actions/req-{NOBODY}").status == 404
    site.delete(ident)


def test_a_resize_keeps_both_sizes_claimed_until_it_is_settled(site: Site) -> None:
    def in_use() -> tuple[int, int]:
        limits = site.member("GET", f"{BASE}/limits").json["limits"]["absolute"]
        return limits["totalCoresUsed"], limits["totalRAMUsed"]

    before = in_use()
    ident = site.create()
    assert in_use() == (before[0] + 1, before[1] + 64)
    assert site.act(ident, "resize", {"flavorRef": "42"}).status == 400
    assert site.act(ident, "resize", {"flavorRef": "no-such"}).status == 400
    assert site.act(ident, "confirmResize").status == 409
    assert site.act(ident, "resize", {"flavorRef": "3"}).status == 202
    site.reach(ident, "VERIFY_RESIZE")
    found = site.member("GET", f"{BASE}/servers?status=VERIFY_RESIZE").json["servers"]
    assert [server["id"] for server in found] == [ident]
    assert site.act(ident, "os-stop").status == 409
    assert in_use() == (before[0] + 2, before[1] + 4096)
    assert site.act(ident, "revertResize").status == 202
    site.reach(ident, "ACTIVE")
    assert (site.show(ident, 47)["flavor"]["ram"], in_use()) == (64, (before[0] + 1, before[1] + 64))
    assert site.act(ident, "resize", {"flavorRef": "1"}).status == 202
    site.reach(ident, "VERIFY_RESIZE")
    assert site.act(ident, "confirmResize").status == 204
    site.reach(ident, "ACTIVE")
    assert (site.show(ident, 47)["flavor"]["ram"], in_use()) == (512, (before[0] + 1, before[1] + 512))
    site.delete(ident)
    assert in_use() == before
    assert site.admin("GET", "/nacre/v1/audit").json["findings"] == []


def test_a_rebuild_keeps_the_address_and_changes_what_was_asked(site: Site) -> None:
    ident = site.create()
    address = site.show(ident)["addresses"]
    body = {
        "imageRef": site.image,
        "name": "anew",
        "metadata": {"round": "2"},
        "adminPass": "secret-of-mine",
        "user_data": "IyEvYmluL3NoCg==",
    }
    assert site.act(ident, "rebuild", body, 56).status == 400
    answer = site.act(ident, "rebuild", body, 57)
    assert (answer.status, answer.json["server"]["adminPass"], answer.json["server"]["user_data"]) == (
        202,
        "secret-of-mine",
        "IyEvYmluL3NoCg==",
    )
    site.reach(ident, "ACTIVE")
    shown = site.show(ident)
    assert (shown["name"], shown["metadata"], shown["addresses"]) == ("anew", {"round": "2"}, address)
    assert site.act(ident, "rebuild", {"imageRef": NOBODY}).status == 400
    assert site.member("POST", f"{BASE}/servers/{NOBODY}/action", {"rebuild": {"imageRef": site.image}}).status == 404
    assert site.act(ident, "os-stop").status == 202
    site.reach(ident, "SHUTOFF")
    assert site.act(ident, "rebuild", {"imageRef": site.image}).status == 202
    site.reach(ident, "SHUTOFF")
    site.delete(ident)


def test_an_image_whose_bytes_never_come_is_gone(site: Site) -> None:
    """A simulated host has nothing that could become a layer."""
    ident = site.create()
    answer = site.act(ident, "createImage", {"name": "snap", "metadata": {"role": "web"}}, 45)
    image = answer.json["image_id"]
    wait_for(lambda: site.member("GET", f"/image/v2/images/{image}").status == 404, "the image to be given up")
    old = site.act(ident, "createBackup", {"name": "backup", "backup_type": "daily", "rotation": 1}, 44)
    assert (old.status, "/image/images/" in old.headers["Location"]) == (202, True)
    assert site.act(ident, "createImage", {"name": " "}).status == 400
    assert site.act(ident, "createBackup", {"name": "backup", "backup_type": "daily", "rotation": -1}).status == 400
    assert site.member("POST", f"{BASE}/servers/{NOBODY}/action", {"createImage": {"name": "snap"}}).status == 404
    done = site.member("GET", f"{BASE}/servers/{ident}/os-instance-actions").json["instanceActions"]
    assert [action["action"] for action in done][:2] == ["createBackup", "createImage"]
    site.delete(ident)


def test_a_locked_server_is_its_owners_to_unlock(site: Site) -> None:
    ident = site.create()
    assert site.act(ident, "lock", {"locked_reason": "audit"}, 73).status == 202
    assert site.show(ident, 73)["locked_reason"] == "audit"
    assert site.act(ident, "os-stop").status == 409
    assert site.member("DELETE", f"{BASE}/servers/{ident}").status == 409
    locked = site.member("GET", f"{BASE}/servers?locked=true", None, at(73)).json["servers"]
    assert [server["id"] for server in locked] == [ident]
    assert site.act(ident, "lock", {"locked_reason": "early"}, 72).status == 400
    assert site.act(ident, "unlock").status == 202
    site.delete(ident)


def test_metadata_item_by_item(site: Site) -> None:
    ident = site.create(metadata={"a": "1"})
    path = f"{BASE}/servers/{ident}/metadata"
    assert site.member("POST", path, {"metadata": {"b": "zwei ü"}}).json == {"metadata": {"a": "1", "b": "zwei ü"}}
    assert site.member("PUT", f"{path}/c", {"meta": {"c": "3"}}).json == {"meta": {"c": "3"}}
    assert site.member("PUT", f"{path}/c", {"meta": {"d": "3"}}).status == 400
    assert site.member("GET", f"{path}/b").json == {"meta": {"b": "zwei ü"}}
    assert site.member("DELETE", f"{path}/a").status == 204
    assert site.member("DELETE", f"{path}/a").status == 404
    assert site.member("PUT", path, {"metadata": {"only": "this"}}).json == {"metadata": {"only": "this"}}
    assert site.member("POST", path, {"metadata": {"k" * 256: "v"}}).status == 400
    assert site.member("POST", path, {"metadata": {"": "v"}}).status == 400
    assert site.member("POST", path, {"metadata": {"n": 1}}).status == 400
    assert site.member("POST", path, {"metadata": {f"k{number}": "v" for number in range(129)}}).status == 403
    assert site.show(ident)["metadata"] == {"only": "this"}
    site.delete(ident)


def test_tags(site: Site) -> None:
    ident = site.create(52, tags=["blue"])
    path = f"{BASE}/servers/{ident}/tags"
    assert site.member("GET", path, None, at(25)).status == 404
    assert site.member("PUT", f"{path}/red", None, at(26)).status == 201
    assert site.member("PUT", f"{path}/red", None, at(26)).status == 204
    found = site.member("GET", f"{BASE}/servers?tags=red,blue", None, at(26)).json["servers"]
    assert [server["id"] for server in found] == [ident]
    assert site.member("GET", f"{BASE}/servers?not-tags-any=red", None, at(26)).json["servers"] == []
    assert site.member("PUT", path, {"tags": ["a,b"]}, at(26)).status == 400
    assert site.member("PUT", path, {"tags": ["x"] * 2}, at(26)).status == 400
    assert site.member("DELETE", f"{path}/red", None, at(26)).status == 204
    assert site.member("GET", f"{path}/red", None, at(26)).status == 404
    assert site.member("DELETE", path, None, at(26)).status == 204
    assert site.show(ident, 26)["tags"] == []
    site.delete(ident)


def test_interfaces_come_and_go(site: Site) -> None:
    ident = site.create()
    path = f"{BASE}/servers/{ident}/os-interface"
    (first,) = site.member("GET", path).json["interfaceAttachments"]
    wanted = {"interfaceAttachment": {"net_id": site.network, "fixed_ips": [{"ip_address": "10.77.9.9"}]}}
    second = site.member("POST", path, wanted).json["interfaceAttachment"]
    assert second["fixed_ips"][0]["ip_address"] == "10.77.9.9"
    shown = site.member("GET", f"{BASE}/servers/{ident}/ips/office").json["office"]
    assert {"version": 4, "addr": "10.77.9.9"} in shown
    by_address = site.member("GET", f"{BASE}/servers?ip=10.77.9.9").json["servers"]
    assert [server["id"] for server in by_address] == [ident]
    assert site.member("POST", path, wanted).status in (400, 409)
    both = {"interfaceAttachment": {"net_id": site.network, "port_id": first["port_id"]}}
    assert site.member("POST", path, both).status == 400
    assert site.member("DELETE", f"{path}/{second['port_id']}").status == 202
    assert site.member("GET", f"{path}/{second['port_id']}").status == 404
    assert site.member("DELETE", f"{path}/{NOBODY}").status == 404
    assert site.member("GET", f"{BASE}/servers/{ident}/ips/elsewhere").status == 404
    assert site.act(ident, "addFixedIp", {"networkId": site.network}).status == 202
    addresses = site.member("GET", f"{BASE}/servers/{ident}/ips").json["addresses"]["office"]
    assert len(addresses) == 2
    assert site.act(ident, "removeFixedIp", {"address": addresses[1]["addr"]}).status == 202
    assert len(site.member("GET", f"{BASE}/servers/{ident}/ips").json["addresses"]["office"]) == 1
    assert site.act(ident, "addFixedIp", {"networkId": site.network}, 44).status == 400
    site.delete(ident)


def test_lists_filter_sort_and_page(site: Site) -> None:
    made = site.member("POST", f"{BASE}/servers", site.body(name="row", min_count=4, return_reservation_id=True)).json
    mine = f"{BASE}/servers/detail?reservation_id={made['reservation_id']}"

    def names(more: str, minor: int = 1) -> list[str]:
        answer = site.member("GET", mine + more, None, at(minor))
        assert answer.status == 200, answer.body
        return [server["name"] for server in answer.json["servers"]]

    wait_for(lambda: len(names("&status=ACTIVE")) == 4, "four servers")
    assert names("&sort_key=display_name&sort_dir=asc") == ["row-1", "row-2", "row-3", "row-4"]
    assert names("&name=row-3") == ["row-3"]
    assert sorted(names("&name=^row-[12]$")) == ["row-1", "row-2"]
    assert names("&status=SHUTOFF") == names("&status=nonsense") == []
    assert len(names(f"&image={site.image}&flavor=42")) == 4
    assert names("&changes-since=2100-01-01T00:00:00Z") == []
    page = site.member("GET", f"{mine}&sort_key=display_name&sort_dir=asc&limit=3").json
    following = page["servers_links"][0]["href"].removeprefix(site.member.base_url)
    rest = site.member("GET", following).json
    assert [server["name"] for server in rest["servers"]] == ["row-4"]
    assert "servers_links" not in rest
    for wrong in (
        "&name=(a%2B)%2B",
        "&name=[",
        "&limit=-1",
        "&limit=x",
        f"&marker={NOBODY}",
        "&sort_key=colour",
        "&changes-since=soon",
    ):
        assert site.member("GET", mine + wrong).status == 400, wrong
    assert site.member("GET", f"{mine}&status=nonsense", None, at(38)).status == 400
    assert site.member("GET", f"{mine}&colour=red", None, at(75)).status == 400
    assert site.member("GET", f"{mine}&all_tenants=1").status == 403
    assert len(site.admin("GET", f"{mine}&all_tenants=1").json["servers"]) == 4
    assert site.admin("GET", mine).json["servers"] == []
    for server in site.member("GET", mine).json["servers"]:
        site.delete(server["id"])


def test_what_the_limits_count(site: Site) -> None:
    before = site.member("GET", f"{BASE}/limits").json["limits"]["absolute"]
    ident = site.create()
    after = site.member("GET", f"{BASE}/limits").json["limits"]["absolute"]
    assert after["totalInstancesUsed"] - before["totalInstancesUsed"] == 1
    assert after["totalRAMUsed"] - before["totalRAMUsed"] == 64
    project = site.show(ident)["tenant_id"]
    quota = f"{BASE}/os-quota-sets/{project}"
    assert site.admin("PUT", quota, {"quota_set": {"instances": 0}}).status == 400
    site.admin("PUT", quota, {"quota_set": {"instances": after["totalInstancesUsed"]}})
    over = site.member("POST", f"{BASE}/servers", site.body())
    assert (over.status, "Quota exceeded for instances" in over.json["forbidden"]["message"]) == (403, True)
    site.admin("DELETE", quota)
    site.delete(ident)


def test_another_projects_servers_do_not_exist(site: Site) -> None:
    ident = site.create()
    stranger = Client(site.member.base_url, site.admin.token)
    project = stranger("POST", "/identity/v3/projects", {"project": {"name": "strangers"}}).json["project"]["id"]
    user = stranger("POST", "/identity/v3/users", {"user": {"name": "str", "password": "str-secret"}}).json["user"]["id"]
    role = stranger("GET", "/identity/v3/roles?name=member").json["roles"][0]["id"]
    stranger("PUT", f"/identity/v3/projects/{project}/users/{user}/roles/{role}")
    scope = {"project": {"id": project}}
    identity = {"methods": ["password"], "password": {"user": {"id": user, "password": "str-secret"}}}
    issued = stranger("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
    other = Client(stranger.base_url, {name.lower(): value for name, value in issued.headers.items()}["x-subject-token"])
    path = f"{BASE}/servers/{ident}"
    for method, where, body in (
        ("GET", path, None),
        ("DELETE", path, None),
        ("PUT", path, {"server": {"name": "mine"}}),
        ("POST", f"{path}/action", {"os-stop": None}),
        ("GET", f"{path}/metadata", None),
        ("GET", f"{path}/os-interface", None),
        ("GET", f"{path}/os-instance-actions", None),
    ):
        assert other(method, where, body).status == 404, (method, where)
    assert other("GET", f"{BASE}/servers").json == {"servers": []}
    site.delete(ident)


BAD = [
    ("name", ""),
    ("name", "   "),
    ("name", "x" * 256),
    ("name", 7),
    ("name", "tab\there"),
    ("flavorRef", "no-such"),
    ("imageRef", NOBODY),
    ("imageRef", "not-a-uuid"),
    ("networks", [{"uuid": NOBODY}]),
    ("networks", [{"uuid": "x"}]),
    ("networks", [{}]),
    ("networks", [{"colour": "red"}]),
    ("networks", "auto"),
    ("metadata", {"a": 1}),
    ("metadata", {"a": "x" * 256}),
    ("min_count", 0),
    ("min_count", 10**40),
    ("min_count", "two"),
    ("max_count", -1),
    ("accessIPv4", "999.1.1.1"),
    ("accessIPv6", "10.0.0.1"),
    ("key_name", "no-such-key"),
    ("user_data", "not base64!"),
    ("user_data", base64.b64encode(b"x" * 65_535).decode()),
    ("security_groups", [{"name": "no-such-group"}]),
    ("security_groups", ["default"]),
    ("personality", [{"path": "/../motd", "contents": ""}]),
    ("personality", [{"path": "/motd", "contents": "not base64"}]),
    ("block_device_mapping", [{"volume_id": NOBODY}]),
    ("block_device_mapping_v2", [{"source_type": "volume", "uuid": NOBODY, "boot_index": 0}]),
    ("OS-DCF:diskConfig", "SOMETIMES"),
    ("config_drive", "perhaps"),
    ("description", "needs 2.19"),
    ("tags", ["needs 2.52"]),
    ("colour", "red"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_input_is_refused_and_nothing_is_made(site: Site, field: str, value: Any) -> None:
    before = site.member("GET", f"{BASE}/servers").json["servers"]
    answer = site.member("POST", f"{BASE}/servers", site.body(**{field: value}))
    assert answer.status == 400, answer.body
    assert answer.json["badRequest"]["code"] == 400
    assert answer.json["badRequest"]["message"]
    assert site.member("GET", f"{BASE}/servers").json["servers"] == before
    ports = site.member("GET", "/network/v2.0/ports?device_owner=compute:nova").json["ports"]
    assert len(ports) == len(before)


def test_the_boot_device_of_the_image_itself_may_be_spelled_out(site: Site) -> None:
    device = {"uuid": site.image, "source_type": "image", "destination_type": "local", "boot_index": 0}
    ident = site.create(block_device_mapping_v2=[{**device, "delete_on_termination": True}])
    assert site.show(ident)["image"]["id"] == site.image
    site.delete(ident)


def test_networks_auto_and_none(site: Site) -> None:
    alone = site.create(37, networks="none")
    assert site.show(alone)["addresses"] == {}
    assert "security_groups" not in site.show(alone)
    missing = site.body()
    del missing["server"]["networks"]
    assert site.member("POST", f"{BASE}/servers", missing, at(37)).status == 400
    site.delete(alone)


def test_hosts_as_an_admin_sees_them(site: Site) -> None:
    (hypervisor,) = site.admin("GET", f"{BASE}/os-hypervisors/detail", None, at(53)).json["hypervisors"]
    assert (hypervisor["state"], hypervisor["status"]) == ("up", "enabled")
    one = site.admin("GET", f"{BASE}/os-hypervisors/{hypervisor['id']}", None, at(88)).json["hypervisor"]
    assert "vcpus" not in one
    (service,) = site.admin("GET", f"{BASE}/os-services?binary=nova-compute", None, at(53)).json["services"]
    path = f"{BASE}/os-services/{service['id']}"
    off = site.admin("PUT", path, {"status": "disabled", "disabled_reason": "dust"}, at(53)).json["service"]
    assert (off["status"], off["disabled_reason"]) == ("disabled", "dust")
    stuck = site.member("POST", f"{BASE}/servers", site.body()).json["server"]["id"]
    site.reach(stuck, "ERROR")
    assert "1 disabled by an operator" in site.show(stuck)["fault"]["message"]
    site.delete(stuck)
    by_name = {"host": service["host"], "binary": "nova-compute"}
    assert site.admin("PUT", f"{BASE}/os-services/enable", by_name).json["service"]["status"] == "enabled"
    assert site.admin("PUT", f"{BASE}/os-services/enable", {**by_name, "host": "nowhere"}).status == 404
    (zone,) = site.member("GET", f"{BASE}/os-availability-zone").json["availabilityZoneInfo"]
    assert zone == {"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}
    for path in ("/os-hypervisors", "/os-services", "/os-availability-zone/detail"):
        assert site.member("GET", BASE + path).status == 403


def test_a_security_group_by_novas_own_calls(site: Site) -> None:
    group = site.member("POST", f"{BASE}/os-security-groups", {"security_group": {"name": "web", "description": "80"}})
    ident = group.json["security_group"]["id"]
    rule = {"parent_group_id": ident, "ip_protocol": "tcp", "from_port": 80, "to_port": "80", "cidr": "10.0.0.0/8"}
    made = site.member("POST", f"{BASE}/os-security-group-rules", {"security_group_rule": rule}).json["security_group_rule"]
    assert (made["from_port"], made["ip_range"], made["group"]) == (80, {"cidr": "10.0.0.0/8"}, {})
    shown = site.member("GET", f"{BASE}/os-security-groups/{ident}").json["security_group"]
    assert [each["id"] for each in shown["rules"]] == [made["id"]]
    server = site.create()
    assert site.act(server, "addSecurityGroup", {"name": "web"}).status == 202
    assert {"name": "web"} in site.show(server)["security_groups"]
    held = site.member("GET", f"{BASE}/servers/{server}/os-security-groups").json["security_groups"]
    assert {each["name"] for each in held} == {"default", "web"}
    assert site.member("DELETE", f"{BASE}/os-security-groups/{ident}").status == 400
    assert site.act(server, "removeSecurityGroup", {"name": "web"}).status == 202
    assert site.act(server, "removeSecurityGroup", {"name": "web"}).status == 404
    assert site.member("DELETE", f"{BASE}/os-security-group-rules/{made['id']}").status == 202
    site.delete(server)
    assert site.member("DELETE", f"{BASE}/os-security-groups/{ident}").status == 202
