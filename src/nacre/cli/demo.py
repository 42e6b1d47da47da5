"""`nacre up --demo`: a first server through the real APIs, as an ordinary user would make it. Every step looks first, so it may be repeated."""

import base64
import time
from typing import Any

import click

from nacre.cli.client import ApiError, Client, connect, send
from nacre.cli.state import State, say

NAME = "demo"
CIDR = "10.20.0.0/24"
SERVER_WAIT_S = 120.0
PAGE_WAIT_S = 60.0
POLL_S = 0.1

FLAVOR = {"name": "nacre.tiny", "vcpus": 1, "ram": 128, "disk": 1}

USER_DATA = """#!/bin/sh
mkdir -p /var/www
echo "Hello from $(hostname), a server of your own cloud." > /var/www/index.html
exec httpd -f -p 80 -h /var/www
"""

RULES: tuple[dict[str, Any], ...] = (
    {"protocol": "icmp"},
    {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
    {"protocol": "tcp", "port_range_min": 80, "port_range_max": 80},
)


def run_demo(state: State) -> None:
    """Makes what is missing and says how to reach the server. Raises ClickException with the API's own words."""
    admin, user = connect(state, "nacre-admin"), connect(state, "nacre")
    flavor = ensure_flavor(admin)
    image = first(user.get("image", "/images?name=busybox"), "images", "image busybox")
    external = first(user.get("network", "/networks?router:external=true"), "networks", "external network")
    network, subnet = ensure_network(user)
    ensure_router(user, external["id"], subnet["id"])
    group = ensure_group(user)
    server = ensure_server(user, flavor, image["id"], network["id"], group["id"])
    port = first(user.get("network", f"/ports?device_id={server['id']}"), "ports", "port of the server")
    address = ensure_floating(user, external["id"], port["id"])
    say(f"server {NAME} is ACTIVE at {address}")
    page = await_page(f"http://{address}/", user, server["id"])
    say(f"  curl http://{address}/               -> {page}")
    say(f"  ping {address}")
    say(f"  openstack console log show {NAME}      (with OS_CLIENT_CONFIG_FILE={state.clouds_yaml} OS_CLOUD=nacre)")
    say(f"  export DOCKER_HOST=unix://{state.docker}/{user.project_id}.sock && docker ps")


def named(client: Client, service: str, collection: str, name: str) -> dict[str, Any] | None:
    """The one of that name in the client's own project, or None."""
    found: list[dict[str, Any]] = client.get(service, f"/{collection}?name={name}&project_id={client.project_id}")[
        collection.replace("-", "_")
    ]
    return found[0] if found else None


def first(body: Any, key: str, what: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = body[key]
    if not rows:
        raise click.ClickException(f"the cloud has no {what}")
    return rows[0]


def ensure_flavor(admin: Client) -> str:
    for flavor in admin.get("compute", "/flavors")["flavors"]:
        if flavor["name"] == FLAVOR["name"]:
            return str(flavor["id"])
    return str(admin.post("compute", "/flavors", {"flavor": FLAVOR})["flavor"]["id"])


def ensure_network(user: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    network = (
        named(user, "network", "networks", NAME) or user.post("network", "/networks", {"network": {"name": NAME}})["network"]
    )
    subnet = named(user, "network", "subnets", NAME)
    if subnet is None:
        body = {"name": NAME, "network_id": network["id"], "ip_version": 4, "cidr": CIDR}
        subnet = user.post("network", "/subnets", {"subnet": body})["subnet"]
    return network, subnet


def ensure_router(user: Client, external_id: str, subnet_id: str) -> None:
    router = named(user, "network", "routers", NAME)
    if router is None:
        body = {"name": NAME, "external_gateway_info": {"network_id": external_id}}
        router = user.post("network", "/routers", {"router": body})["router"]
    ports = user.get("network", f"/ports?device_id={router['id']}")["ports"]
    if not any(fixed["subnet_id"] == subnet_id for port in ports for fixed in port["fixed_ips"]):
        user.request("PUT", "network", f"/routers/{router['id']}/add_router_interface", {"subnet_id": subnet_id})


def ensure_group(user: Client) -> dict[str, Any]:
    group = named(user, "network", "security-groups", NAME)
    if group is None:
        group = user.post("network", "/security-groups", {"security_group": {"name": NAME, "description": "ping, ssh, web"}})[
            "security_group"
        ]
    for rule in RULES:
        body = {"security_group_id": group["id"], "direction": "ingress", "ethertype": "IPv4", **rule}
        try:
            user.post("network", "/security-group-rules", {"security_group_rule": body})
        except ApiError as error:
            # 409: the rule is there from an earlier run.
            if error.status != 409:
                raise
    return group


def ensure_server(user: Client, flavor_id: str, image_id: str, network_id: str, group_id: str) -> dict[str, Any]:
    """The server, ACTIVE. One that failed earlier is replaced."""
    for server in user.get("compute", f"/servers/detail?name=^{NAME}$")["servers"]:
        if server["status"] == "ERROR":
            user.request("DELETE", "compute", f"/servers/{server['id']}")
            await_gone(user, server["id"])
        else:
            if server["status"] == "SHUTOFF":
                user.post("compute", f"/servers/{server['id']}/action", {"os-start": None})
            return await_active(user, server["id"])
    body = {
        "name": NAME,
        "imageRef": image_id,
        "flavorRef": flavor_id,
        "networks": [{"uuid": network_id}],
        "security_groups": [{"name": NAME}],
        "user_data": base64.b64encode(USER_DATA.encode()).decode(),
    }
    say(f"booting the server {NAME}")
    return await_active(user, user.post("compute", "/servers", {"server": body})["server"]["id"])


def await_active(user: Client, server_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + SERVER_WAIT_S
    while True:
        server: dict[str, Any] = user.get("compute", f"/servers/{server_id}")["server"]
        if server["status"] == "ACTIVE":
            return server
        if server["status"] == "ERROR":
            raise click.ClickException(f"the server is in ERROR: {server.get('fault', {}).get('message', 'no cause was given')}")
        if time.monotonic() > deadline:
            raise click.ClickException(f"the server is {server['status']} after {SERVER_WAIT_S:.0f} s; see `nacre logs node`")
        time.sleep(POLL_S)


def await_gone(user: Client, server_id: str) -> None:
    deadline = time.monotonic() + SERVER_WAIT_S
    while time.monotonic() < deadline:
        try:
            user.get("compute", f"/servers/{server_id}")
        except ApiError as error:
            if error.status == 404:
                return
            raise
        time.sleep(POLL_S)
    raise click.ClickException(f"the failed server {server_id} is not deleted after {SERVER_WAIT_S:.0f} s; see `nacre logs node`")


def ensure_floating(user: Client, external_id: str, port_id: str) -> str:
    found = user.get("network", f"/floatingips?port_id={port_id}")["floatingips"]
    if found:
        return str(found[0]["floating_ip_address"])
    body = {"floatingip": {"floating_network_id": external_id, "port_id": port_id}}
    return str(user.post("network", "/floatingips", body)["floatingip"]["floating_ip_address"])


def await_page(url: str, user: Client, server_id: str) -> str:
    """The page that the server's user-data serves."""
    deadline = time.monotonic() + PAGE_WAIT_S
    while True:
        try:
            return str(send("GET", url, timeout_s=2.0).body).strip()
        except ApiError as error:
            if time.monotonic() > deadline:
                log = user.post("compute", f"/servers/{server_id}/action", {"os-getConsoleOutput": {"length": 20}})["output"]
                raise click.ClickException(
                    f"the page does not come ({error.message}); the end of the server's console:\n{log}"
                ) from error
        time.sleep(POLL_S)
