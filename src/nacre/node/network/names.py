"""What our things are called in the kernel: every name carries the cloud's id, so that two clouds can live on one machine.

A link's name has 15 characters at most, so it ends in nine hex digits of the id of what it serves; its alias bears the whole id.
"""

import ipaddress

BRIDGE = "br0"
"""The bridge in a network's own namespace, where it is alone and needs no cloud id."""

METADATA_V4 = "169.254.169.254"
METADATA_V6 = "fe80::a9fe:a9fe"


def prefix(cloud_id: str) -> str:
    return f"n{cloud_id}-"


def table(cloud_id: str) -> str:
    """The name of our nft tables, in every namespace."""
    return f"n{cloud_id}"


def namespace(cloud_id: str, kind: str, thing_id: str) -> str:
    """The file under /run/netns. Kinds: network, router."""
    return f"{prefix(cloud_id)}{kind}-{thing_id}"


def parse_namespace(cloud_id: str, name: str) -> tuple[str, str] | None:
    """The kind and the id in a namespace's name, or None for one that is not ours."""
    head = prefix(cloud_id)
    kind, _, thing_id = name.removeprefix(head).partition("-")
    return (kind, thing_id) if name.startswith(head) and kind in ("network", "router") and thing_id else None


def link(cloud_id: str, thing_id: str) -> str:
    return f"{prefix(cloud_id)}{thing_id.replace('-', '')[:9]}"


def shaper(cloud_id: str, thing_id: str, direction: str) -> str:
    """The device in whose queue what a port or a floating IP sends (egress) or gets waits. No link begins so: u and d are no hex digits."""
    return f"{prefix(cloud_id)}{'u' if direction == 'egress' else 'd'}{thing_id.replace('-', '')[:8]}"


def tunnel(cloud_id: str, vni: int) -> str:
    """The VXLAN device of a network. It is made in the host's namespace, where its name must be unique, and then moved."""
    return f"{prefix(cloud_id)}x{vni}"


def outside(cloud_id: str) -> str:
    """In a physical network's namespace the port of its bridge that leads out by the host's external device."""
    return f"{prefix(cloud_id)}out"


def derived_mac(thing_id: str, role: int) -> str:
    """A locally administered address that is the same after every restart. `role` tells apart the ends of one thing's links."""
    digits = thing_id.replace("-", "")
    return ":".join(["0a", f"{role:02x}", *(digits[i : i + 2] for i in range(0, 8, 2))])


def link_local(mac: str) -> str:
    """The IPv6 link-local address that a MAC address gives (RFC 4291, appendix A: the modified EUI-64)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:]))
