"""Stories of Apache Libcloud's OpenStack driver, run by the Python of its own environment: `libcloud_stories.py URL STORY`."""

import sys
import time
from collections.abc import Callable
from typing import Any

from libcloud.common.types import InvalidCredsError
from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState, Provider

WAIT_S = 120.0
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGDFBKVLwGLMVWFgEQlvLZxQrZ0Z8oGxGnkQ7zQm2mTq somebody"


def connect(url: str, user: str, password: str = "") -> Any:
    """The driver for the current API; it finds the other services in the catalog."""
    return get_driver(Provider.OPENSTACK)(
        user,
        password or f"{user}-secret",
        api_version="2.2",
        ex_force_auth_url=f"{url}/identity",
        ex_force_auth_version="3.x_password",
        ex_tenant_name=user,
        ex_domain_name="Default",
        ex_force_service_region="RegionOne",
    )


def until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's value as soon as it is true."""
    end = time.monotonic() + WAIT_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {WAIT_S:.0f} s in vain for {what}"
        time.sleep(0.1)


def named(things: list[Any], name: str) -> Any:
    return next(thing for thing in things if thing.name == name)


def make_network(cloud: Any, name: str, cidr: str) -> tuple[Any, Any, Any]:
    """A network that reaches the outside."""
    public = named(cloud.ex_list_networks(), "public")
    network = cloud.ex_create_network(name)
    subnet = cloud.ex_create_subnet(name, network, cidr, dns_nameservers=["198.18.0.53"])
    router = cloud.ex_create_router(name, external_gateway_info={"network_id": public.id})
    assert cloud.ex_add_router_subnet(router, subnet)
    return network, subnet, router


def remove_network(cloud: Any, network: Any, subnet: Any, router: Any) -> None:
    assert cloud.ex_del_router_subnet(router, subnet)
    assert cloud.ex_delete_router(router)
    assert cloud.ex_delete_subnet(subnet)
    assert cloud.ex_delete_network(network)


def networks(url: str) -> None:
    """Network, subnet, router, port, security group and rule; and back."""
    cloud = connect(url, "demo")
    network, subnet, router = make_network(cloud, "networks", "10.91.0.0/24")
    assert cloud.ex_get_network(network.id).name == "networks"
    assert cloud.ex_update_subnet(subnet, name="renamed").name == "renamed"
    assert named(cloud.ex_list_subnets(), "renamed").cidr == "10.91.0.0/24"
    assert named(cloud.ex_list_routers(), "networks").status == "ACTIVE"
    port = cloud.ex_create_port(network, description="by hand", name="port")
    assert cloud.ex_get_port(port.id).extra["fixed_ips"][0]["subnet_id"] == subnet.id
    assert cloud.ex_update_port(port, name="other").extra["name"] == "other"
    assert cloud.ex_delete_port(port)
    group = cloud.ex_create_security_group("web", "lets the web in")
    rule = cloud.ex_create_security_group_rule(group, "tcp", 80, 80, cidr="0.0.0.0/0")
    shown = named(cloud.ex_list_security_groups(), "web").rules
    assert [(r.from_port, r.to_port, r.ip_range) for r in shown if r.id == rule.id] == [(80, 80, "0.0.0.0/0")]
    assert cloud.ex_delete_security_group_rule(rule)
    assert cloud.ex_delete_security_group(group)
    remove_network(cloud, network, subnet, router)
    assert [left.name for left in cloud.ex_list_networks()] == ["public"]


def servers(url: str) -> None:
    """A server with a key, a group, user data, metadata and a floating IP, through its states; and back."""
    cloud = connect(url, "demo")
    network, subnet, router = make_network(cloud, "servers", "10.92.0.0/24")
    group = cloud.ex_create_security_group("ssh", "lets ssh in")
    key = cloud.import_key_pair_from_string("mine", KEY)
    apart = cloud.ex_add_server_group("apart", "anti-affinity")
    made = cloud.create_node(
        "first",
        size=named(cloud.list_sizes(), "m1.nano"),
        image=named(cloud.list_images(), "tiny"),
        networks=[network],
        ex_keyname="mine",
        ex_userdata="#!/bin/sh\necho hello\n",
        ex_security_groups=[group],
        ex_metadata={"a": "b"},
        ex_config_drive=True,
        ex_os_scheduler_hints={"group": apart.id},
    )
    ((node, addresses),) = cloud.wait_until_running([made], wait_period=0.2, timeout=WAIT_S, ssh_interface="private_ips")
    assert (node.id, addresses, node.private_ips) == (made.id, node.private_ips, made.private_ips)
    assert node.private_ips[0].startswith("10.92.0.")
    assert (node.extra["key_name"], node.extra["metadata"], node.extra["config_drive"]) == ("mine", {"a": "b"}, "True")
    assert cloud.ex_get_server_group(apart.id).members == [node.id]
    assert [member.name for member in cloud.ex_get_node_security_groups(node)] == ["ssh"]
    give_floating_ip(cloud, node)
    walk_states(cloud, node)
    resize(cloud, node)
    keep_image(cloud, node)
    assert cloud.destroy_node(node)
    until(lambda: cloud.list_nodes() == [], "the server to be gone")
    assert cloud.ex_del_server_group(apart)
    assert cloud.delete_key_pair(key)
    assert cloud.ex_delete_security_group(group)
    remove_network(cloud, network, subnet, router)


def give_floating_ip(cloud: Any, node: Any) -> None:
    """The driver goes by the number alone: a floating IP from a range for private use is private to it."""
    (pool,) = cloud.ex_list_floating_ip_pools()
    floating = pool.create_floating_ip()
    assert cloud.ex_attach_floating_ip_to_node(node, floating)
    seen = cloud.ex_get_node_details(node.id)
    assert {*seen.public_ips, *seen.private_ips} == {*node.private_ips, floating.ip_address}
    assert cloud.ex_get_floating_ip(floating.ip_address).get_node_id() == node.id
    assert cloud.ex_detach_floating_ip_from_node(node, floating)
    assert cloud.ex_delete_floating_ip(floating)
    assert cloud.ex_list_floating_ips() == []


def walk_states(cloud: Any, node: Any) -> None:
    """Each action, and the state it leads to. The driver has no name for PAUSED: it says unknown."""
    walk = (
        (cloud.ex_stop_node, NodeState.STOPPED),
        (cloud.ex_start_node, NodeState.RUNNING),
        (cloud.ex_pause_node, NodeState.UNKNOWN),
        (cloud.ex_unpause_node, NodeState.RUNNING),
        (cloud.ex_suspend_node, NodeState.SUSPENDED),
        (cloud.ex_resume_node, NodeState.RUNNING),
        (cloud.ex_soft_reboot_node, NodeState.RUNNING),
        (cloud.ex_hard_reboot_node, NodeState.RUNNING),
    )
    for action, state in walk:
        assert action(node)
        settle(cloud, node, state)
    assert cloud.ex_set_server_name(node, "renamed").name == "renamed"
    assert cloud.ex_set_metadata(node, {"c": "d"}) == {"c": "d"}
    assert cloud.ex_get_metadata(node) == {"c": "d"}
    assert cloud.ex_get_console_output(node)["output"]


def settle(cloud: Any, node: Any, state: str) -> None:
    """Wait until the server is in the state and no task is under way."""

    def is_there() -> bool:
        seen = cloud.ex_get_node_details(node.id)
        return seen.state == state and seen.extra["task_state"] is None

    until(is_there, f"{state} of the server")


def resize(cloud: Any, node: Any) -> None:
    """The driver says `running` of a resize that waits for its confirmation; what it waits for is in the extras."""
    bigger = named(cloud.list_sizes(), "m1.tiny")
    assert cloud.ex_resize(node, bigger)
    until(lambda: cloud.ex_get_node_details(node.id).extra["vm_state"] == "resized", "the resize to wait")
    assert cloud.ex_confirm_resize(node)
    settle(cloud, node, NodeState.RUNNING)
    assert cloud.ex_get_node_details(node.id).extra["flavorId"] == bigger.id


def keep_image(cloud: Any, node: Any) -> None:
    snapshot = cloud.create_image(node, "kept", metadata={"why": "test"})
    until(lambda: cloud.get_image(snapshot.id).extra["status"] == "active", "the image to be whole")
    cloud.ex_update_image(snapshot.id, [{"op": "replace", "path": "/name", "value": "renamed"}])
    assert named(cloud.list_images(), "renamed").id == snapshot.id
    assert cloud.delete_image(snapshot)


def limits(url: str) -> None:
    """Quotas with what is in use; what an admin sees of all projects; a wrong password."""
    cloud, admin = connect(url, "demo"), connect(url, "admin")
    project = named(cloud.ex_list_security_groups(), "default").tenant_id
    assert cloud.ex_get_quota_set(project).instances.in_use == 0
    assert cloud.ex_get_network_quotas(project).network.limit > 0
    assert admin.list_nodes(ex_all_tenants=True) == []
    try:
        connect(url, "demo", "wrong").list_nodes()
    except InvalidCredsError:
        return
    raise AssertionError("a wrong password was taken")


if __name__ == "__main__":
    {"networks": networks, "servers": servers, "limits": limits}[sys.argv[2]](sys.argv[1])
