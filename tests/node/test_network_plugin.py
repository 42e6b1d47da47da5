"""Networks of a plugin on the host (libnetwork's remote driver protocol), by the docker CLI on a real cloud; and nodes killed in the middle."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.dockercli import Site, has_client, run, site
from tests.node.networkplugin import NetworkPlugin, ip, network_plugin
from tests.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]

SLEEP = ("busybox", "sleep", "10000")
ONCE = ["CreateEndpoint", "Join", "EndpointOperInfo"]
UNDONE = ["Leave", "DeleteEndpoint"]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-netplugin-") as made:
        yield made


@pytest.fixture
def plugin(cloud: Site) -> Iterator[NetworkPlugin]:
    with network_plugin() as made:
        yield made
        made.held.clear()
        left = cloud.say("ps", "-aq").split()
        if left:
            cloud.say("rm", "-f", *left)
        cloud.say("network", "prune", "-f")
        wait_for(lambda: not made.networks, "the plugin to be told that the network goes")
    assert not [link for link in json.loads(ip("-j", "link")) if link["ifname"][:2] in ("tb", "to", "ti")]


def node_of(cloud: Site) -> int:
    """The cloud's own node process; 0 while there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"nacre.node" in words and any(word.startswith(bytes(cloud.state)) for word in words):
            return int(folder.name)
    return 0


def kill_node(cloud: Site) -> int:
    before = node_of(cloud)
    assert before
    os.kill(before, signal.SIGKILL)
    return before


def restart_node(cloud: Site) -> None:
    before = kill_node(cloud)
    wait_for(lambda: node_of(cloud) not in (0, before), "another node")


def network(cloud: Site, plugin: NetworkPlugin, *options: str) -> None:
    """The host's plugin is known to the cloud with a beat of its node."""
    words = ("network", "create", "-d", plugin.name, "--subnet", "10.77.0.0/24", *options, "wired")
    wait_for(lambda: cloud.docker(*words).code == 0, "the plugin to be found")


def endpoint(cloud: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cloud.inspect(name)["NetworkSettings"]["Networks"]["wired"]
    return found


def pings(cloud: Site, name: str, target: str) -> None:
    """A node that was just started takes a moment before it serves a docker exec."""
    words = ("exec", name, "ping", "-c", "1", "-W", "10", target)
    wait_for(lambda: "1 packets received" in cloud.docker(*words).out, f"an answer of {target} to {name}")


def audited(cloud: Site) -> None:
    wait_for(lambda: "0 findings" in cloud.nacre("audit"), "the audit to find nothing")


def test_two_containers_on_a_plugins_network_live_and_end_as_the_protocol_has_it(cloud: Site, plugin: NetworkPlugin) -> None:
    assert 'plugin "nosuch" not found' in cloud.docker("network", "create", "-d", "nosuch", "nowhere").err
    network(cloud, plugin, "-o", "colour=green")
    for name in ("one", "two"):
        cloud.say("run", "-d", "--name", name, "--network", "wired", *SLEEP)
    shown = json.loads(cloud.say("network", "inspect", "wired"))[0]
    assert (shown["Driver"], shown["Options"]) == (plugin.name, {"colour": "green"})
    (made,) = [body for method, body in plugin.calls if method == "CreateNetwork"]
    assert made["NetworkID"] == shown["Id"]
    assert made["Options"]["com.docker.network.generic"] == {"colour": "green"}
    pool = {"AddressSpace": "LocalDefault", "Pool": "10.77.0.0/24", "Gateway": "10.77.0.1/24"}
    assert made["IPv4Data"] == [pool]
    both = {name: endpoint(cloud, name) for name in ("one", "two")}
    asked = {body["EndpointID"]: body["Interface"] for method, body in plugin.calls if method == "CreateEndpoint"}
    for each in both.values():
        assert asked[each["EndpointID"]]["Address"] == f"{each['IPAddress']}/24"
        assert plugin.log(each["EndpointID"]) == ONCE
    inside = cloud.say("exec", "one", "ip", "addr", "show", "wire0")
    assert both["one"]["IPAddress"] in inside
    assert both["one"]["MacAddress"] in inside
    routes = cloud.say("exec", "one", "ip", "route")
    assert "default via 10.77.0.1 dev wire0" in routes
    assert "192.0.2.0/24 via 10.77.0.1 dev wire0" in routes
    for target in (both["two"]["IPAddress"], "10.77.0.1"):
        pings(cloud, "one", target)
    listed = json.dumps(cloud.openstack("port", "list", "--network", "wired", "-f", "json"))
    assert all(each["IPAddress"] in listed for each in both.values())

    cloud.say("stop", "-t", "0", "two")
    restart_node(cloud)
    cloud.say("start", "two")
    pings(cloud, "two", both["one"]["IPAddress"])
    restart_node(cloud)
    pings(cloud, "one", both["two"]["IPAddress"])
    assert all(plugin.log(each["EndpointID"]) == ONCE for each in both.values()), "exactly once, whatever was restarted"
    assert "has active endpoints" in cloud.docker("network", "rm", "wired").err
    audited(cloud)

    cloud.say("rm", "-f", "one", "two")
    wait_for(lambda: not plugin.endpoints, "the endpoints to go")
    cloud.say("network", "rm", "wired")
    wait_for(lambda: not plugin.networks, "the network to go")
    assert all(plugin.log(each["EndpointID"]) == ONCE + UNDONE for each in both.values())
    assert plugin.of_networks() == ["CreateNetwork", "DeleteNetwork"]
    audited(cloud)


def test_a_node_killed_while_the_plugin_works_undoes_and_asks_again(cloud: Site, plugin: NetworkPlugin) -> None:
    network(cloud, plugin)
    for method, name, calls in (
        ("CreateEndpoint", "early", ["CreateEndpoint", "DeleteEndpoint", "CreateEndpoint", "Join", "EndpointOperInfo"]),
        ("Join", "late", ["CreateEndpoint", "Join", "Leave", "Join", "EndpointOperInfo"]),
    ):
        plugin.held[method] = threading.Event()
        before = len(plugin.calls)
        starting = threading.Thread(target=cloud.docker, args=("run", "-d", "--name", name, "--network", "wired", *SLEEP))
        starting.start()
        wait_for(lambda: method in [each for each, _ in plugin.calls[before:]], f"{method} under way")  # noqa: B023
        kill_node(cloud)
        plugin.held.pop(method).set()
        starting.join()
        cloud.say("start", name)
        wait_for(lambda: cloud.inspect(name)["State"]["Running"], "it to run after all")  # noqa: B023
        assert plugin.log(endpoint(cloud, name)["EndpointID"]) == calls
    other = endpoint(cloud, "late")["IPAddress"]
    pings(cloud, "early", other)
    plugin.held["DeleteEndpoint"] = threading.Event()
    leaving = endpoint(cloud, "late")["EndpointID"]
    ending = threading.Thread(target=cloud.docker, args=("rm", "-f", "late"))
    ending.start()
    wait_for(lambda: plugin.log(leaving)[-1] == "DeleteEndpoint", "DeleteEndpoint under way")
    kill_node(cloud)
    plugin.held.pop("DeleteEndpoint").set()
    ending.join()
    wait_for(lambda: cloud.docker("inspect", "late").code != 0, "it to be gone")
    wait_for(lambda: cloud.say("ps", "-aq", "--filter", "name=late") == "", "it to be gone from the list")
    cloud.say("rm", "-f", "early")
    cloud.say("network", "rm", "wired")
    wait_for(lambda: not plugin.endpoints and not plugin.networks, "nothing to be left with the plugin")
    audited(cloud)


def test_a_plugin_that_refuses_talks_nonsense_or_is_dead_is_heard(cloud: Site, plugin: NetworkPlugin) -> None:
    network(cloud, plugin)
    ports = cloud.docker("run", "-d", "--network", "wired", "-p", "80", *SLEEP)
    assert f"ports are not published from network wired: its driver {plugin.name} is in charge" in ports.err
    for number, (method, answer, words) in enumerate(
        (
            ("CreateEndpoint", {"Err": "no wire is left"}, "no wire is left"),
            ("CreateEndpoint", {"Interface": {"Address": "10.9.9.9/24"}}, "whose addresses were given"),
            ("Join", {"InterfaceName": {"SrcName": "../etc", "DstPrefix": "wire"}}, "is not the name of an interface"),
            ("Join", {"InterfaceName": {"SrcName": "nowhere", "DstPrefix": "wire"}}, "there is no interface nowhere"),
        )
    ):
        plugin.wrong = {method: answer}
        done = cloud.docker("run", "-d", "--name", f"bad{number}", "--network", "wired", *SLEEP)
        assert done.code != 0, done
        assert words in done.err, done.err
        plugin.wrong = {}
        cloud.docker("rm", "-f", f"bad{number}")
        wait_for(lambda: not plugin.endpoints, "no endpoint to be left")
    cloud.say("run", "-d", "--name", "good", "--network", "wired", *SLEEP)
    plugin.die()
    done = cloud.docker("run", "-d", "--name", "late", "--network", "wired", *SLEEP)
    assert f"network plugin {plugin.name} cannot be reached" in done.err, done
    removal = threading.Thread(target=cloud.docker, args=("rm", "-f", "good"))
    removal.start()
    plugin.socket.unlink()
    plugin.start()
    removal.join()
    cloud.docker("rm", "-f", "late")
    wait_for(lambda: cloud.say("ps", "-aq") == "", "the removal, once the plugin is back")
    cloud.say("network", "rm", "wired")
    wait_for(lambda: not plugin.networks, "the network to go")
    audited(cloud)


def test_what_the_driver_is_in_charge_of_is_refused(cloud: Site, plugin: NetworkPlugin) -> None:
    network(cloud, plugin)
    cloud.say("run", "-d", "--name", "one", "--network", "wired", *SLEEP)
    # A container of the cloud's own network comes in and goes while it runs, and so does one of two wires.
    cloud.say("network", "create", "-d", plugin.name, "--subnet", "10.79.0.0/24", "second")
    cloud.say("run", "-d", "--name", "both", *SLEEP)
    for name, interface in (("wired", "wire0"), ("second", "wire1")):
        cloud.say("network", "connect", name, "both")
        wait_for(lambda: cloud.docker("exec", "both", "ip", "link", "show", interface).code == 0, interface)  # noqa: B023
    pings(cloud, "both", endpoint(cloud, "one")["IPAddress"])
    gone = endpoint(cloud, "both")["EndpointID"]
    cloud.say("network", "disconnect", "wired", "both")
    wait_for(lambda: plugin.log(gone) == ONCE + UNDONE, "the plugin to be told")
    assert cloud.docker("exec", "both", "ip", "link", "show", "wire0").code != 0
    assert "default via" in cloud.say("exec", "both", "ip", "route")
    cloud.say("rm", "-f", "both")
    (port,) = cloud.openstack("port", "list", "--network", "wired", "-f", "json")
    env = {**cloud.env, "OS_CLIENT_CONFIG_FILE": str(cloud.state / "clouds.yaml"), "OS_CLOUD": "nacre"}
    client = str(Path(sys.executable).parent / "openstack")
    for words in (
        ("port", "set", "--security-group", "default", port["ID"]),
        ("port", "create", "--network", "wired", "own"),
        ("floating", "ip", "create", "--port", port["ID"], "public"),
        ("subnet", "create", "--network", "wired", "--subnet-range", "10.78.0.0/24", "more"),
    ):
        done = run([client, *words], env)
        assert done.code != 0, words
        assert f"its driver {plugin.name} is in charge of it" in done.err, (words, done.err)


def test_a_cloud_that_is_purged_leaves_nothing_with_the_plugin() -> None:
    with network_plugin() as plugin:
        with site("nacre-netpurge-") as cloud:
            network(cloud, plugin)
            cloud.say("run", "-d", "--name", "one", "--network", "wired", *SLEEP)
            wired = endpoint(cloud, "one")["EndpointID"]
        assert plugin.log(wired) == ONCE + UNDONE
        assert (plugin.endpoints, plugin.networks) == ({}, {})
