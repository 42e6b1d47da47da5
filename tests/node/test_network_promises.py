"""Limits, forwarded ports and counters of a whole cloud, set with the unmodified `openstack` client and measured at a real guest."""

import json
import time
import urllib.request
from pathlib import Path

import pytest

from tests.node.test_first_steps import Cloud, cloud, fetch
from tests.processes import wait_for

__all__ = ["cloud"]

pytestmark = pytest.mark.root

USER_DATA = """#!/bin/sh
mkdir -p /var/www
echo small > /var/www/index.html
dd if=/dev/zero of=/var/www/big bs=65536 count=48
httpd -p 80 -h /var/www
"""
LIMIT_KBPS = 8_000


def kbps(address: str) -> float:
    """How fast a page of three megabytes comes, in units of 1,000 bits a second."""
    begin = time.monotonic()
    with urllib.request.urlopen(f"http://{address}/big", timeout=120) as page:
        return len(page.read()) * 8 / 1000 / (time.monotonic() - begin)


def boot(cloud: Cloud, directory: Path) -> str:
    """A server on a network of its own that serves pages. Returns its fixed address."""
    from nacre.cli.busybox import write_tar

    openstack = cloud.openstack
    image, script = directory / "busybox.tar", directory / "page.sh"
    with image.open("wb") as file:
        write_tar(file)
    script.write_text(USER_DATA)
    openstack("image", "create", "tiny", "--file", str(image), "--container-format", "docker", "--disk-format", "raw")
    openstack("network", "create", "web")
    openstack("subnet", "create", "web", "--network", "web", "--subnet-range", "10.1.0.0/24")
    openstack("router", "create", "web", "--external-gateway", "public")
    openstack("router", "add", "subnet", "web", "web")
    openstack("security", "group", "create", "web")
    openstack("security", "group", "rule", "create", "web", "--protocol", "tcp", "--dst-port", "80")
    openstack("flavor", "create", "small", "--ram", "64", "--vcpus", "1", "--disk", "1")
    words = ("--image", "tiny", "--flavor", "small", "--network", "web", "--security-group", "web", "--user-data", str(script))
    server = openstack("server", "create", "web", *words, "--wait", "-f", "json")
    assert server["status"] == "ACTIVE"
    address: str = openstack("port", "list", "--server", "web", "-f", "json")[0]["Fixed IP Addresses"][0]["ip_address"]
    return address


def test_what_the_client_sets_is_what_the_guest_gets(cloud: Cloud, tmp_path: Path) -> None:
    openstack = cloud.openstack
    fixed = boot(cloud, tmp_path)
    port = openstack("port", "list", "--server", "web", "-f", "json")[0]["ID"]
    # A port of a floating IP leads on.
    floating = openstack("floating", "ip", "create", "public", "-f", "json")
    words = ("--internal-ip-address", fixed, "--port", port, "--internal-protocol-port", "80", "--protocol", "tcp")
    openstack("floating", "ip", "port", "forwarding", "create", *words, "--external-protocol-port", "8080", floating["id"])
    place = f"{floating['floating_ip_address']}:8080"
    assert wait_for(lambda: fetch(place), "the page by the forwarded port") == "small\n"
    assert kbps(place) > 3 * LIMIT_KBPS
    # Its port is limited while it serves, and then is not.
    openstack("network", "qos", "policy", "create", "slow")
    rule = ("--type", "bandwidth-limit", "--max-kbps", str(LIMIT_KBPS), "--egress")
    openstack("network", "qos", "rule", "create", *rule, "slow")
    openstack("port", "set", "--qos-policy", "slow", port)
    assert wait_for(lambda: 0.4 * LIMIT_KBPS < kbps(place) < 1.5 * LIMIT_KBPS, "a page at the limit's pace")
    openstack("port", "unset", "--qos-policy", port)
    assert wait_for(lambda: kbps(place) > 3 * LIMIT_KBPS, "a page at full pace again")
    # What goes out is counted.
    label = openstack("network", "meter", "create", "out", "-f", "json")["id"]
    openstack("network", "meter", "rule", "create", "--egress", "--source-ip-prefix", "10.1.0.0/24", "out")
    token = openstack("token", "issue", "-f", "json")["id"]
    url = f"{openstack('catalog', 'show', 'network', '-f', 'json')['endpoints'][0]['url']}/v2.0/metering/metering-labels"

    def counted() -> bool:
        assert kbps(place)
        request = urllib.request.Request(f"{url}/{label}/counters", headers={"X-Auth-Token": token})
        counters = json.load(urllib.request.urlopen(request))["metering_counters"]
        return bool(counters[0]["bytes"] > 3_000_000)

    assert wait_for(counted, "the page's bytes at the meter")
    cloud.nacre("audit")
