"""Security-group rules: 20 POSTs for a port in use, until a packet passes by the last one; a ping runs through it all."""

import re
import socket
import subprocess
import time
from typing import Any

from nacre.cli.benchmarks.target import Figures, Target, summary

RULES = 20
ROUNDS = 5
FIRST_PORT = 8000
PROBE_TIMEOUT_S = 0.004
USER_DATA = "#!/bin/sh\nfor port in $(seq {first} {last}); do httpd -p $port -h /tmp; done\n"


def twenty(target: Target) -> Figures:
    """The time from the first POST until a connection through the last rule is accepted."""
    import base64

    target.prepare()
    group = target.call("POST", "/network/v2.0/security-groups", {"security_group": {"name": "bench"}})["security_group"]
    _rule(target, group["id"], protocol="icmp")
    user_data = USER_DATA.format(first=FIRST_PORT, last=FIRST_PORT + RULES * ROUNDS)
    server = target.boot(
        "rules", security_groups=[{"name": group["id"]}], user_data=base64.b64encode(user_data.encode()).decode()
    )
    target.wait(lambda: target.status(server) == "ACTIVE", "the server to be ACTIVE")
    address = _floating(target, server)
    target.wait(lambda: subprocess.run(["ping", "-c1", "-W1", address], capture_output=True).returncode == 0, "a ping", 0.2)
    ping = subprocess.Popen(["ping", "-i", "0.01", "-q", address], stdout=subprocess.PIPE, text=True)
    samples = []
    for number in range(ROUNDS):
        first = FIRST_PORT + number * RULES
        time.sleep(0.5)
        start = time.perf_counter()
        for port in range(first, first + RULES):
            _rule(target, group["id"], protocol="tcp", port_range_min=port, port_range_max=port)
        target.wait(lambda p=first + RULES - 1: _accepts(address, p), "the last rule to be in the kernel", 0)  # type: ignore[misc]
        samples.append((time.perf_counter() - start) * 1000)
    ping.send_signal(2)
    output, _ = ping.communicate(timeout=30)
    loss = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    values = summary(samples)
    values["packets of the ping sent"] = int(loss[1]) if loss else "?"
    values["of them lost"] = int(loss[1]) - int(loss[2]) if loss else "?"
    return Figures("20 security-group rules by 20 POSTs", values, samples)


def _rule(target: Target, group: str, **fields: Any) -> None:
    rule = {"security_group_id": group, "direction": "ingress", "ethertype": "IPv4", **fields}
    target.call("POST", "/network/v2.0/security-group-rules", {"security_group_rule": rule})


def _accepts(address: str, port: int) -> bool:
    """A dropped SYN is sent again after a second only: so each try is a new one, and a short one."""
    with socket.socket() as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect((address, port))
        except OSError:
            return False
        return True


def _floating(target: Target, server: str) -> str:
    """A floating IP for the server, by a router that is made for it."""
    public = target.call("GET", "/network/v2.0/networks?router:external=true")["networks"][0]["id"]
    body = {"router": {"name": "bench", "external_gateway_info": {"network_id": public}}}
    router = target.call("POST", "/network/v2.0/routers", body)["router"]["id"]
    subnet = target.call("GET", f"/network/v2.0/subnets?network_id={target.network_id}")["subnets"][0]["id"]
    target.call("PUT", f"/network/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
    port = target.call("GET", f"/network/v2.0/ports?device_id={server}")["ports"][0]["id"]
    body = {"floatingip": {"floating_network_id": public, "port_id": port}}
    return str(target.call("POST", "/network/v2.0/floatingips", body)["floatingip"]["floating_ip_address"])


def clean_up(target: Target) -> None:
    """Take away what `twenty` made."""
    for floating in target.call("GET", "/network/v2.0/floatingips")["floatingips"]:
        target.call("DELETE", f"/network/v2.0/floatingips/{floating['id']}")
    target.delete_all()
    for router in target.call("GET", "/network/v2.0/routers?name=bench")["routers"]:
        for port in target.call("GET", f"/network/v2.0/ports?device_id={router['id']}")["ports"]:
            if port["device_owner"] == "network:router_interface":
                target.call("PUT", f"/network/v2.0/routers/{router['id']}/remove_router_interface", {"port_id": port["id"]})
        target.call("DELETE", f"/network/v2.0/routers/{router['id']}")
    for group in target.call("GET", "/network/v2.0/security-groups?name=bench")["security_groups"]:
        target.call("DELETE", f"/network/v2.0/security-groups/{group['id']}")
