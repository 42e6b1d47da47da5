"""Docker's networks on a real cloud, by the docker CLI: names, published ports, networks that come and go under running containers."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.dockercli import Site, has_client, site
from tests.processes import free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]

SERVE = ("busybox", "sh", "-c", "hostname >/index.html; exec httpd -f -p 80 -h /")
SLEEP = ("busybox", "sleep", "10000")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-docknet-") as made:
        yield made


@pytest.fixture(autouse=True)
def clean(cloud: Site) -> Iterator[None]:
    """Each story begins and ends without containers and networks."""
    yield
    for project in ("demo", "admin"):
        left = cloud.say("ps", "-aq", project=project).split()
        if left:
            cloud.say("rm", "-f", *left, project=project)
        wait_for(lambda project=project: not cloud.say("ps", "-aq", project=project), "no container to be left")  # type: ignore[misc]
        cloud.say("network", "prune", "-f", project=project)


def run(cloud: Site, name: str, *options: str, image: tuple[str, ...] = SLEEP, project: str = "demo") -> str:
    return cloud.say("run", "-d", "--name", name, *options, *image, project=project)


def looked_up(cloud: Site, container: str, name: str, project: str = "demo") -> set[str]:
    """The addresses that nslookup in the container finds; none where there is no such name."""
    lines = cloud.docker("exec", container, "nslookup", name, project=project).out.partition("\n\n")[2].splitlines()
    return {line.partition(": ")[2] for line in lines if line.startswith("Address: ")}


def address(cloud: Site, container: str, network: str, project: str = "demo", field: str = "IPAddress") -> str:
    found: str = cloud.inspect(container, project)["NetworkSettings"]["Networks"][network][field]
    return found


def host_address() -> str:
    """An address of the host that is not its loopback: the one that leads out, else any."""
    shown = json.loads(subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, text=True, check=True).stdout)
    return next(found["local"] for link in shown for found in link["addr_info"] if found["scope"] == "global")


def fetched(url: str) -> str:
    return subprocess.run(["curl", "-s", "-m", "10", url], capture_output=True, text=True, check=False).stdout.strip()


def test_a_published_port_is_reached_from_everywhere_and_ends_with_its_container(cloud: Site) -> None:
    port, own = free_port(), host_address()
    run(cloud, "web", "-p", f"{port}:80", "--hostname", "web", image=SERVE)
    for host in ("127.0.0.1", own):
        assert wait_for(lambda host=host: fetched(f"http://{host}:{port}/"), f"the page at {host}") == "web"  # type: ignore[misc]
    run(cloud, "guest")
    assert cloud.say("exec", "guest", "wget", "-qO-", f"http://{own}:{port}/") == "web"
    assert cloud.say("port", "web") == f"80/tcp -> 0.0.0.0:{port}"
    second = cloud.docker("run", "-d", "--name", "late", "-p", f"{port}:80", *SERVE)
    assert second.code == 125
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in second.err
    cloud.say("rm", "-f", "late")
    cloud.say("restart", "-t", "0", "web")
    assert cloud.say("port", "web") == f"80/tcp -> 0.0.0.0:{port}"
    assert wait_for(lambda: fetched(f"http://127.0.0.1:{port}/"), "the page after the restart") == "web"
    # The end gives the port back, and another container may have it.
    cloud.say("stop", "-t", "0", "web")
    assert wait_for(lambda: cloud.say("ps", "-a", "--filter", "name=web", "--format", "-{{.Ports}}-") == "--", "no port shown")
    assert wait_for(lambda: fetched(f"http://127.0.0.1:{port}/") == "", "nobody to answer")
    run(cloud, "next", "-p", f"127.0.0.1:{port}:80", "--hostname", "next", image=SERVE)
    assert wait_for(lambda: fetched(f"http://127.0.0.1:{port}/"), "the other's page") == "next"
    assert fetched(f"http://{own}:{port}/") == ""
    assert "port is already allocated" in cloud.docker("start", "web").err
    cloud.say("rm", "-f", "next")
    assert wait_for(lambda: fetched(f"http://127.0.0.1:{port}/") == "", "nobody to answer")
    cloud.nacre("audit")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
def test_a_port_is_published_on_addresses_of_version_6_too(cloud: Site) -> None:
    port = free_port()
    run(cloud, "both", "-p", f"{port}:80", "--hostname", "both", image=SERVE)
    for host in ("127.0.0.1", "[::1]"):
        assert wait_for(lambda host=host: fetched(f"http://{host}:{port}/"), f"the page at {host}") == "both"  # type: ignore[misc]
    taken = cloud.docker("run", "-d", "--name", "late", "-p", f"[::1]:{port}:80", *SERVE)
    assert f"Bind for ::1:{port} failed: port is already allocated" in taken.err
    cloud.say("rm", "-f", "late", "both")
    run(cloud, "six", "-p", f"[::1]:{port}:80", "--hostname", "six", image=SERVE)
    run(cloud, "four", "-p", f"0.0.0.0:{port}:80", "--hostname", "four", image=SERVE)
    assert cloud.say("port", "six") == f"80/tcp -> [::1]:{port}"
    for host, said in (("127.0.0.1", "four"), ("[::1]", "six")):
        wait_for(lambda host=host, said=said: fetched(f"http://{host}:{port}/") == said, f"{said} at {host}")  # type: ignore[misc]
    cloud.say("rm", "-f", "six")
    wait_for(lambda: fetched(f"http://[::1]:{port}/") == "", "nobody to answer")
    wait_for(lambda: fetched(f"http://127.0.0.1:{port}/") == "four", "the other's page, still")
    cloud.nacre("audit")


def test_all_exposed_ports_are_published_where_there_is_room(cloud: Site) -> None:
    run(cloud, "web", "-P", "--expose", "80", "--expose", "53/udp", "--hostname", "web", image=SERVE)
    shown = dict(line.split(" -> ") for line in cloud.say("port", "web").splitlines())
    assert set(shown) == {"80/tcp", "53/udp"}
    port = shown["80/tcp"].rpartition(":")[2]
    assert wait_for(lambda: fetched(f"http://127.0.0.1:{port}/"), "the page") == "web"


def test_containers_are_found_by_every_name_they_have(cloud: Site) -> None:
    cloud.say("network", "create", "front")
    ident = run(cloud, "db", "--network", "front", "--network-alias", "store", "-e", "SERVICE_NAME=sql", "--expose", "80")
    run(cloud, "app", "--network", "front", "--link", "db:linked")
    found = {address(cloud, "db", "front")}
    for name in ("db", "store", "linked", ident[:12], "db.demo.nacre"):
        assert looked_up(cloud, "app", name) == found, name
    assert wait_for(lambda: looked_up(cloud, "app", "sql.service.consul"), "the catalog's word") == found
    assert cloud.inspect("app")["NetworkSettings"]["Networks"]["front"]["Links"] == ["db:linked"]
    # The link is the other's name for app alone, and stays when the other is renamed or comes back with another address.
    assert looked_up(cloud, "db", "linked") == set()
    cloud.say("rename", "db", "base")
    assert wait_for(lambda: looked_up(cloud, "app", "base") == found, "the new name")
    assert looked_up(cloud, "app", "linked") == found
    assert wait_for(lambda: looked_up(cloud, "app", "db") == set(), "the old name to be gone")
    # On the default network names are found too, and a link's stand in /etc/hosts.
    run(cloud, "one")
    run(cloud, "two", "--link", "one:uno")
    assert cloud.say("exec", "two", "ping", "-c", "1", "uno")
    assert looked_up(cloud, "two", "one") == {address(cloud, "one", "bridge")}


def test_networks_come_and_go_under_a_running_container(cloud: Site) -> None:
    began = cloud.say("info", "--format", "{{.SystemTime}}")
    cloud.say("network", "create", "front")
    cloud.say("network", "create", "back")
    run(cloud, "db", "--network", "back")
    run(cloud, "app", "--network", "front")
    assert looked_up(cloud, "app", "db") == set()
    cloud.say("network", "connect", "--alias", "server", "--link", "db:storage", "back", "app")
    found = {address(cloud, "db", "back")}
    for name in ("db", "storage"):
        assert wait_for(lambda name=name: looked_up(cloud, "app", name), f"{name} to be found") == found  # type: ignore[misc]
    assert cloud.say("exec", "app", "ping", "-c", "1", "storage")
    assert looked_up(cloud, "db", "server") == {address(cloud, "app", "back")}
    assert "already exists in network back" in cloud.docker("network", "connect", "back", "app").err
    assert "has active endpoints" in cloud.docker("network", "rm", "back").err
    cloud.say("network", "disconnect", "back", "app")
    assert wait_for(lambda: looked_up(cloud, "app", "db") == set(), "the name to be gone")
    assert list(cloud.inspect("app")["NetworkSettings"]["Networks"]) == ["front"]
    cloud.say("rm", "-f", "app", "db")
    wait_for(lambda: cloud.docker("network", "rm", "front", "back").code == 0, "the networks to be free")
    ended = cloud.say("info", "--format", "{{.SystemTime}}")
    told = cloud.say("events", "--since", began, "--until", ended, "--filter", "type=network", "--format", "{{json .}}")
    seen = [(event["Actor"]["Attributes"]["name"], event["Action"]) for event in map(json.loads, told.splitlines())]
    assert [action for name, action in seen if name == "front"] == ["create", "connect", "disconnect", "destroy"]
    back = [action for name, action in seen if name == "back"]
    assert back == ["create", "connect", "connect", "disconnect", "disconnect", "destroy"]


def test_a_container_in_two_networks_from_the_start(cloud: Site) -> None:
    """As compose files have it: the front sees the app, the app sees the store, the front does not see the store."""
    cloud.say("network", "create", "front")
    cloud.say("network", "create", "--internal", "back")
    run(cloud, "proxy", "--network", "front")
    run(cloud, "store", "--network", "back")
    run(cloud, "app", "--network", "name=front,alias=application", "--network", "name=back,alias=application")
    assert looked_up(cloud, "proxy", "application") == {address(cloud, "app", "front")}
    assert looked_up(cloud, "store", "application") == {address(cloud, "app", "back")}
    assert cloud.say("exec", "app", "ping", "-c", "1", "store")
    assert cloud.say("exec", "app", "ping", "-c", "1", "proxy")
    assert looked_up(cloud, "proxy", "store") == set()
    assert cloud.docker("exec", "proxy", "ping", "-c", "1", "-W", "2", address(cloud, "store", "back")).code == 1


def test_another_containers_network_and_none(cloud: Site) -> None:
    port = free_port()
    run(cloud, "web", "-p", f"{port}:80")
    run(
        cloud,
        "side",
        "--network",
        "container:web",
        image=("busybox", "sh", "-c", "echo side >/index.html; exec httpd -f -p 80 -h /"),
    )
    addresses = [cloud.say("exec", name, "ip", "-o", "addr", "show", "eth0") for name in ("web", "side")]
    assert addresses[0] == addresses[1]
    assert wait_for(lambda: fetched(f"http://127.0.0.1:{port}/"), "the page by the other's port") == "side"
    assert cloud.say("exec", "web", "wget", "-qO-", "http://127.0.0.1/") == "side"
    run(cloud, "alone", "--network", "none")
    assert "eth0" not in cloud.say("exec", "alone", "ip", "-o", "link")
    refused = cloud.docker("run", "--rm", "--network", "container:web", "-p", "81:81", "busybox", "true")
    assert "conflicting options: port publishing and the container type network mode" in refused.err


def test_what_an_endpoint_cannot_have_is_refused(cloud: Site) -> None:
    cloud.say("network", "create", "front")
    run(cloud, "web")
    for options, words in (
        (("-p", "[::1]:8080:80/udp"), "by IPv6 tcp alone is published in this cloud: 80/udp on ::1 is not"),
        (("--network", "name=front,driver-opt=a=b"), "DriverOpts is not available in this cloud"),
        (("--network", "name=front,link-local-ip=169.254.8.8"), "IPAMConfig.LinkLocalIPs is not available in this cloud"),
        (("--network", "name=front,gw-priority=3"), "GwPriority is not available in this cloud"),
    ):
        assert words in cloud.docker("create", *options, *SLEEP).err
    assert "DriverOpts is not available" in cloud.docker("network", "connect", "--driver-opt", "a=b", "front", "web").err


def test_two_tenants_with_the_same_subnets_never_meet(cloud: Site) -> None:
    for project in ("demo", "admin"):
        cloud.say("network", "create", "--subnet", "10.99.0.0/24", "same", project=project)
        run(cloud, "web", "--network", "same", "--ip", "10.99.0.7", "--hostname", project, image=SERVE, project=project)
        run(cloud, "guest", "--network", "same", project=project)
    for project in ("demo", "admin"):
        assert looked_up(cloud, "guest", "web", project) == {"10.99.0.7"}
        page = wait_for(
            lambda project=project: cloud.docker("exec", "guest", "wget", "-qO-", "http://web/", project=project).out, "it"
        )  # type: ignore[misc]
        assert page.strip() == project
    assert looked_up(cloud, "guest", "web.admin.nacre") == set()
    assert cloud.say("network", "ls", "--filter", "name=same", "-q") != cloud.say(
        "network", "ls", "--filter", "name=same", "-q", project="admin"
    )


def test_two_containers_by_ipv6(cloud: Site) -> None:
    cloud.say("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "six")
    run(cloud, "one", "--network", "six", "--ip6", "fd00:77::11")
    run(cloud, "two", "--network", "six")
    assert address(cloud, "one", "six", field="GlobalIPv6Address") == "fd00:77::11"
    assert "fd00:77::11" in looked_up(cloud, "two", "one")
    assert cloud.say("exec", "two", "ping", "-6", "-c", "1", "one")
    assert cloud.say("exec", "one", "ping", "-6", "-c", "1", address(cloud, "two", "six", field="GlobalIPv6Address"))


def test_a_project_publishes_on_floating_ips_where_an_admin_says_so(cloud: Site) -> None:
    cloud.nacre("docker", "publish", "floating")
    try:
        run(cloud, "one", "-p", "80:80", "-p", "53:53/udp", "--hostname", "one", image=SERVE)
        run(cloud, "two", "-p", "80:80", "--hostname", "two", image=SERVE)
        places = {name: cloud.inspect(name)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"] for name in ("one", "two")}
        assert places["one"] != places["two"]
        for name, place in places.items():
            assert wait_for(lambda place=place: fetched(f"http://{place}/"), f"the page at {place}") == name  # type: ignore[misc]
        assert f"{places['one']}:80->80/tcp" in cloud.say("ps", "--filter", "name=one", "--format", "{{.Ports}}")
        # One of the project's guests calls it as well; and what is not published is not there.
        assert cloud.say("exec", "two", "wget", "-qO-", f"http://{places['one']}/") == "one"
        cloud.say("exec", "-d", "one", "httpd", "-p", "81", "-h", "/")
        assert fetched(f"http://{places['one']}:81/") == ""
        assert {row["Floating IP Address"] for row in floating_ips(cloud)} == set(places.values())
        cloud.say("restart", "-t", "0", "one")
        assert wait_for(lambda: fetched(f"http://{places['one']}/"), "the page after the restart") == "one"
        cloud.say("stop", "-t", "0", "one")
        wait_for(lambda: fetched(f"http://{places['one']}/") == "", "nobody to answer")
        cloud.say("start", "one")
        assert wait_for(lambda: fetched(f"http://{places['one']}/"), "the page at the same address") == "one"
        refused = cloud.docker("create", "-p", "127.0.0.1:80:80", *SERVE)
        assert "published on a floating IP of the container's own, not on 127.0.0.1" in refused.err
        cloud.say("rm", "-f", "one", "two")
        wait_for(lambda: floating_ips(cloud) == [], "the addresses to be given back")
    finally:
        cloud.nacre("docker", "publish", "host")
    cloud.nacre("audit")  # The quota is counted again, too.


def floating_ips(cloud: Site) -> list[dict[str, str]]:
    found: list[dict[str, str]] = cloud.openstack("floating", "ip", "list", "-f", "json")
    return found
