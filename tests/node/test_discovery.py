"""A project's catalog on a real cloud: containers that register themselves, checks that are asked from inside their network, names that
other containers look up, and Consul's API without a secret from within.
"""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import consul
import pytest
import requests

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
        # One that was run with --rm may be on its way out already.
        wait_for(lambda project=project: emptied(cloud, project), "all containers to be gone")


def emptied(cloud: Site, project: str) -> bool:
    left = cloud.say("ps", "-aq", project=project).split()
    if left:
        cloud.docker("rm", "-f", *left, project=project)
    return not left


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


AWAY = "HTTP/1.0 302 Found\\r\\nLocation: http://203.0.113.9/\\r\\n\\r\\n"
LATER = f"""mkdir -p /www/cgi-bin; printf '#!/bin/sh\\nprintf "{AWAY}"\\n' > /www/cgi-bin/away; chmod +x /www/cgi-bin/away
while [ ! -e /go ]; do sleep 0.1; done; exec httpd -f -p 8080 -h /www"""


def output(agent: consul.Consul, name: str) -> str:
    """What its check found last, with the status before it."""
    found = agent.agent.checks()[f"service:{name}"]
    return f"{found['Status']}: {found['Output']}"


def test_redirects_and_foreign_addresses_are_told_as_soon_as_they_are_found_also_after_a_restart(cloud: Site) -> None:
    agent = client(cloud)
    run(cloud, "late", "busybox", "sh", "-c", LATER)
    address = address_of(cloud, "late")
    for name, url, interval in (
        ("away", f"http://{address}:8080/cgi-bin/away", "1s"),
        ("seldom", f"http://{address}:8080/", "1h"),
        ("foreign", "http://203.0.113.9/", "1s"),
        ("host", "http://127.0.0.1:8080/", "1s"),
    ):
        assert agent.agent.service.register(name, check=consul.Check.http(url, interval))
    try:
        wait_for(lambda: "refused" in output(agent, "away"), "the answer while nobody listens")
        wait_for(lambda: "refused" in output(agent, "seldom"), "the first answer of what is asked once in an hour")
        cloud.say("exec", "late", "touch", "/go")
        wait_for(lambda: "302 Found" in output(agent, "away"), "another cause of the same status")
        assert output(agent, "away").startswith("critical: "), "nobody follows it to a foreign place"
        for name in ("foreign", "host"):
            wait_for(lambda name=name: "no address of this project's" in output(agent, name), "nobody is asked")
        os.kill(int(json.loads((cloud.state / "run" / "api.pid").read_text())[0]), signal.SIGKILL)
        wait_for(lambda: reached(agent), "the API to be back")
        here = """printf '#!/bin/sh\nprintf "HTTP/1.0 204 Here\\r\\n\\r\\n"' > /www/cgi-bin/away"""
        # Until its host is back too, an exec fails, and says so by its status.
        wait_for(lambda: cloud.docker("exec", "late", "sh", "-c", here).code == 0, "an exec after the restart")
        wait_for(lambda: output(agent, "away").startswith("passing: "), "the answer that does not redirect")
        wait_for(lambda: "404 Not Found" in output(agent, "seldom"), "the first answer after the restart")
        assert output(agent, "foreign").startswith("critical: "), "still nobody is asked there"
    finally:
        for name in ("away", "seldom", "foreign", "host"):
            agent.agent.service.deregister(name)


def reached(agent: consul.Consul) -> bool:
    try:
        return bool(agent.agent.checks())
    except (requests.ConnectionError, consul.ConsulException):
        return False
