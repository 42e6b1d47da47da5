"""The lab's network: two switches in a namespace of their own, a cable of each to each host and to the machine, and what of it is cut.

One switch is the underlay between the hosts, the other the segment of the external network, on which hosts have no address of their own.

What is there is asked of the kernel each time; nothing is remembered beside it. Every step may be repeated after a crash in its midst.
"""

import json
import re
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import click

from nacre.cli.lab.layout import API, Lab

PINS = Path("/run/netns")
UNDERLAY, OUTSIDE = "br0", "out0"
"""The bridges."""
COMMAND_S = 60.0
CUTS = """table bridge cuts {
  set between { type ifname . ifname; }
  chain forward { type filter hook forward priority 0; policy accept; iifname . oifname @between drop; }
}"""


def run(*command: str, content: str | None = None) -> str:
    """A tool's output. Raises ClickException with its own words."""
    try:
        done = subprocess.run(command, input=content, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"`{' '.join(command)}` did not end within {COMMAND_S:.0f} s") from error
    if done.returncode:
        raise click.ClickException(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def batch(namespace: str | None, lines: Sequence[str]) -> None:
    """Commands of `ip`, in one process; the first that fails ends it."""
    if lines:
        where = ("-n", namespace) if namespace else ()
        run("ip", *where, "-batch", "-", content="\n".join(lines) + "\n")


def has_namespace(name: str) -> bool:
    return (PINS / name).exists()


def entering(namespace: str) -> tuple[str, ...]:
    """What to put before a command that shall run there, with the machine's own file systems."""
    return ("nsenter", f"--net={PINS / namespace}")


def links(namespace: str | None) -> dict[str, dict[str, Any]]:
    """The links there by their names, as `ip -j link` shows them."""
    where = ("-n", namespace) if namespace else ()
    return {link["ifname"]: link for link in json.loads(run("ip", *where, "-j", "link"))}


def ensure(lab: Lab) -> None:
    """The switch and all cables. Raises ClickException where the underlay's addresses are in use meanwhile."""
    if not has_namespace(lab.switch):
        run("ip", "netns", "add", lab.switch)
    for bridge in (UNDERLAY, OUTSIDE):
        if bridge not in links(lab.switch):
            batch(lab.switch, [f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0"])
        batch(lab.switch, [f"link set {bridge} up"])
    batch(lab.switch, ["link set lo up"])
    if "table bridge cuts" not in run(*entering(lab.switch), "nft", "list", "tables"):
        run(*entering(lab.switch), "nft", "-f", "-", content=CUTS)
    plug(lab, API, None)
    for host in lab.names:
        namespace = lab.namespace(host)
        if not has_namespace(namespace):
            run("ip", "netns", "add", namespace)
        plug(lab, host, namespace)


def plug(lab: Lab, end: str, namespace: str | None) -> None:
    """The cables of a host, or of the machine. One that is there stays as it is, in or out."""
    address = f"addr add {lab.address(end)}/{IPv4Network(lab.underlay).prefixlen} dev {lab.link(end)}"
    if not whole(lab, lab.link(end), namespace):
        refuse_taken(lab, namespace)
        lay(lab, lab.link(end), namespace, UNDERLAY, [address, *(["link set lo up"] if namespace else [])])
    if not whole(lab, lab.outer(end), namespace):
        lay(lab, lab.outer(end), namespace, OUTSIDE, [f"link set {lab.outer(end)} addrgenmode none"])


def whole(lab: Lab, link: str, namespace: str | None) -> bool:
    """Whether a cable has both its ends; one that lost an end, or never got to the switch, is taken away."""
    here, there = links(lab.switch), links(namespace)
    if link in here and link in there and here[link].get("master"):
        return True
    for where, found in ((namespace, there), (lab.switch, here)):
        if link in found:
            batch(where, [f"link del {link}"])
            break
    return False


def lay(lab: Lab, link: str, namespace: str | None, bridge: str, lines: Sequence[str]) -> None:
    batch(namespace, [f"link add {link} type veth peer name {link} netns {lab.switch}", *lines, f"link set {link} up"])
    batch(lab.switch, [f"link set {link} master {bridge} up"])


def refuse_taken(lab: Lab, namespace: str | None) -> None:
    """Another network of the machine may have come to use the underlay's addresses while the lab was away."""
    if namespace is None:
        routes = json.loads(run("ip", "-j", "-4", "route"))
        for route in routes:
            if route["dst"] != "default" and IPv4Network(route["dst"]).overlaps(IPv4Network(lab.underlay)):
                raise click.ClickException(
                    f"the lab's underlay {lab.underlay} meets the route {route['dst']} dev {route['dev']} of this machine: "
                    "take that away, or this lab down with --purge and up again"
                )


def remove(lab: Lab, hosts: Sequence[str]) -> None:
    """The switch and the cables with it; again: nothing to do. The links go first: a namespace goes by and by."""
    ours = (lab.link(""), lab.outer(""))
    for namespace in (*([lab.switch] if has_namespace(lab.switch) else []), None):
        batch(namespace, [f"link del {name}" for name in links(namespace) if name.startswith(ours)])
    for pin in (*(lab.namespace(host) for host in hosts), lab.switch):
        if has_namespace(pin):
            run("ip", "netns", "del", pin)


def set_cable(lab: Lab, host: str, *, up: bool) -> None:
    """Pull a host's cables out of the switches, or put them back."""
    batch(lab.switch, [f"link set {link} {'up' if up else 'down'}" for link in (lab.link(host), lab.outer(host))])


def plugged(lab: Lab) -> set[str]:
    """The ends whose cables are in."""
    there = links(lab.switch) if has_namespace(lab.switch) else {}
    return {end for end in (API, *lab.names) if "UP" in there.get(lab.link(end), {"flags": []})["flags"]}


def cut(lab: Lab, one: str, other: str) -> None:
    """No frame of the underlay passes between the two any more, in either direction; again: no change."""
    change_cuts(lab, "add", one, other)


def heal(lab: Lab, one: str, other: str) -> None:
    if tuple(sorted((one, other))) in cuts(lab):
        change_cuts(lab, "delete", one, other)


def change_cuts(lab: Lab, verb: str, one: str, other: str) -> None:
    a, b = lab.link(one), lab.link(other)
    run(*entering(lab.switch), "nft", f'{verb} element bridge cuts between {{ "{a}" . "{b}", "{b}" . "{a}" }}')


def heal_all(lab: Lab) -> None:
    run(*entering(lab.switch), "nft", "flush set bridge cuts between")


def cuts(lab: Lab) -> list[tuple[str, str]]:
    """Which pairs are cut, each once and in order."""
    if not has_namespace(lab.switch):
        return []
    shown = run(*entering(lab.switch), "nft", "list set bridge cuts between")
    head = re.escape(lab.link(""))
    pairs = re.findall(rf'"{head}(\w+)" \. "{head}(\w+)"', shown)
    return sorted({(a, b) if a < b else (b, a) for a, b in pairs})
