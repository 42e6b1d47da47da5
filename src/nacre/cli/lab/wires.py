"""The lab's network: a switch in a namespace of its own, a cable to each host and one to the machine, and what of it is cut.

What is there is asked of the kernel each time; nothing is remembered beside it. Every step may be repeated after a crash in its midst.
"""

import json
import re
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import click

from nacre.cli.lab.layout import API, Lab

PINS = Path("/run/netns")
BRIDGE = "br0"
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


def links(namespace: str | None) -> dict[str, bool]:
    """The names of the links there, and whether they are up."""
    where = ("-n", namespace) if namespace else ()
    found = json.loads(run("ip", *where, "-j", "link"))
    return {link["ifname"]: "UP" in link["flags"] for link in found}


def ensure(lab: Lab) -> None:
    """The switch and all cables. Raises ClickException where the underlay's addresses are in use meanwhile."""
    if not has_namespace(lab.switch):
        run("ip", "netns", "add", lab.switch)
    if BRIDGE not in links(lab.switch):
        batch(lab.switch, [f"link add {BRIDGE} type bridge forward_delay 0"])
    batch(lab.switch, ["link set lo up", f"link set {BRIDGE} up"])
    if "table bridge cuts" not in run(*entering(lab.switch), "nft", "list", "tables"):
        run(*entering(lab.switch), "nft", "-f", "-", content=CUTS)
    plug(lab, API, None)
    for host in lab.names:
        namespace = lab.namespace(host)
        if not has_namespace(namespace):
            run("ip", "netns", "add", namespace)
        plug(lab, host, namespace)


def plug(lab: Lab, end: str, namespace: str | None) -> None:
    """A cable from the switch to a namespace; one that lost an end is made anew. A cable that is there stays as it is, up or down."""
    link = lab.link(end)
    here, there = links(lab.switch), links(namespace)
    if link in here and link in there:
        return
    if link in there:
        batch(namespace, [f"link del {link}"])
    elif link in here:
        batch(lab.switch, [f"link del {link}"])
    refuse_taken(lab, namespace)
    prefix = IPv4Network(lab.underlay).prefixlen
    lines = [f"link add {link} type veth peer name {link} netns {lab.switch}", f"addr add {lab.address(end)}/{prefix} dev {link}"]
    batch(namespace, [*lines, f"link set {link} up", *(["link set lo up"] if namespace else [])])
    batch(lab.switch, [f"link set {link} master {BRIDGE} up"])


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
    if has_namespace(lab.switch):
        batch(lab.switch, [f"link del {name}" for name in links(lab.switch) if name.startswith(lab.link(""))])
    if lab.link(API) in links(None):
        batch(None, [f"link del {lab.link(API)}"])
    for namespace in (*(lab.namespace(host) for host in hosts), lab.switch):
        if has_namespace(namespace):
            run("ip", "netns", "del", namespace)


def set_cable(lab: Lab, host: str, *, up: bool) -> None:
    """Pull a host's cable out of the switch, or put it back."""
    batch(lab.switch, [f"link set {lab.link(host)} {'up' if up else 'down'}"])


def cut(lab: Lab, one: str, other: str) -> None:
    """No frame passes between the two any more, in either direction; again: no change."""
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
