"""A project's catalog on a real cloud: containers that register themselves, checks that are asked from inside their network, names that
other containers look up, and Consul's API without a secret from within.
"""

from collections.abc import Iterator
from typing import Any

import consul
import pytest

from tests.node.dockercli import Site, has_client, site
from tests.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]

AT = "http://169.254.169.254:8500"
SERVE = "mkdir -p /www; echo fine > /www/ok; exec httpd -f -p 8080 -h /www"
WEB = ("--expose", "8080", "-e", "SERVICE_8080_NAME=shop", "-e", "SERVICE_TAGS=blue,v1", "-e", "SERVICE_CHECK_INTERVAL=1s")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-discovery-") as made:
        for project in ("demo", "admin"):
            made.say("network", "create", "tier", project=project)
        yield made


@pytest.fixture(autouse=True)
def clean(cloud: Site) -> Iterator[None]:
    yield
    for project in ("demo", "admin"):
        left = cloud.say("ps", "-aq", project=project).split()
        if left:
            cloud.say("rm", "-f", *left, project=project)


def client(cloud: Site) -> consul.Consul:
    """py-consul of the host, with the demo project's token."""
    token = cloud.openstack("token", "issue", "-f", "json")["id"]
    return consul.Consul(host="127.0.0.1", port=cloud.port, token=token)


def run(cloud: Site, name: str, *arguments: str, project: str = "demo") -> str:
    return cloud.say("run", "-d", "--name", name, "--network", "tier", *arguments, project=project)


def inside(cloud: Site, *argv: str, project: str = "demo") -> str:
    """What a container of the same network says that runs this."""
    return cloud.docker("run", "--rm", "--network", "tier", "busybox", *argv, project=project).out


def passing(agent: consul.Consul, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.health.service(name, passing=True)[1]
    return found


def statuses(agent: consul.Consul, name: str) -> set[str]:
    return {each["Status"] for each in agent.health.checks(name)[1]}


def address_of(cloud: Site, name: str) -> str:
    return str(cloud.inspect(name)["NetworkSettings"]["Networks"]["tier"]["IPAddress"])


def test_a_container_registers_itself_is_checked_is_found_and_goes(cloud: Site) -> None:
    agent = client(cloud)
    run(cloud, "web", *WEB, "-e", "SERVICE_CHECK_HTTP=/ok", "busybox", "sh", "-c", SERVE)
    run(cloud, "other", *WEB, "-e", "SERVICE_CHECK_TCP=true", "busybox", "sh", "-c", SERVE)
    found = wait_for(lambda: len(now := passing(agent, "shop")) == 2 and now, "both to pass")
    addresses = {address_of(cloud, "web"), address_of(cloud, "other")}
    assert {each["Service"]["Address"] for each in found} == addresses
    assert all(each["Service"]["Port"] == 8080 and {"blue", "v1"} <= set(each["Service"]["Tags"]) for each in found)
    answer = inside(cloud, "nslookup", "blue.shop.service.consul")
    assert all(address in answer for address in addresses), answer
    assert address_of(cloud, "web") in inside(cloud, "nslookup", "web.demo.nacre")
    assert "fine" in inside(cloud, "wget", "-qO-", "http://web.demo.nacre:8080/ok")
    cloud.say("exec", "web", "rm", "/www/ok")
    wait_for(lambda: len(passing(agent, "shop")) == 1, "a check that fails to take it out")
    gone = address_of(cloud, "web")
    wait_for(lambda: gone not in inside(cloud, "nslookup", "shop.service.consul"), "its name to be gone")
    cloud.say("kill", "other")
    wait_for(lambda: passing(agent, "shop") == [], "a killed one to be gone")
    wait_for(lambda: "NXDOMAIN" in cloud.docker(
        "run", "--rm", "--network", "tier", "busybox", "sh", "-c", "nslookup shop.service.consul 2>&1"
    ).out, "its name to be gone")  # fmt: skip


def test_guests_use_their_projects_catalog_without_a_secret(cloud: Site) -> None:
    agent = client(cloud)
    agent.kv.put("color", "blue")
    assert inside(cloud, "wget", "-qO-", f"{AT}/v1/kv/color?raw") == "blue"
    assert inside(cloud, "wget", "-qO-", f"{AT}/v1/kv/color?raw", project="admin") == "", "another project has its own"
    assert inside(cloud, "wget", "-qO-", f"{AT}/_ping") == "", "nothing but the catalog is there"
    host = cloud.openstack("token", "issue", "-f", "json")["id"]
    stolen = inside(cloud, "wget", "-qO-", "--header", f"X-Consul-Token: {host}", f"{AT}/v1/kv/color?raw", project="admin")
    assert stolen == "", "who asks is who bears the port"
    index = agent.kv.get("color")[0]
    cloud.say("run", "-d", "--name", "waiter", "busybox", "wget", "-qO-", f"{AT}/v1/kv/color?raw&index={index}&wait=60s")
    agent.kv.put("color", "green")
    wait_for(lambda: cloud.say("logs", "waiter") == "green", "a query that waits inside to be answered")
