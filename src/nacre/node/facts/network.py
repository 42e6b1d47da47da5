"""Facts of the host's network: interfaces and their addresses, by netlink (rtnetlink(7)) and /sys/class/net."""

import ipaddress
import re
import socket
import struct
from typing import Any

from nacre.node.facts.source import Source
from nacre.node.facts.system import domain

INTERFACES_MAX = 64
BUFFER_BYTES = 256 * 1024
TIMEOUT_S = 1.0
_OURS = re.compile(r"n[0-9a-f]{4}-.*|veth.*|docker.*|br-[0-9a-f]{12}")
"""What clouds of ours and other engines make for their guests comes and goes, and says nothing of the host."""
_RTM_NEWADDR, _RTM_GETADDR, _DONE, _ERROR = 20, 22, 3, 2
_REQUEST, _DUMP = 0x1, 0x300
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBi")
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}


def addresses() -> dict[str, list[tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, str]]]:
    """Interface -> its addresses with their scopes, in the kernel's order; empty where netlink gives no answer."""
    found: dict[str, list[tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, str]]] = {}
    names = dict(socket.if_nameindex())
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.settimeout(TIMEOUT_S)
            netlink.send(_HEADER.pack(24, _RTM_GETADDR, _REQUEST | _DUMP, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, 0))
            while True:
                data = netlink.recv(BUFFER_BYTES)
                for kind, payload in _messages(data):
                    if kind in (_DONE, _ERROR):
                        return found
                    if kind == _RTM_NEWADDR:
                        _take(payload, names, found)
    except OSError:
        return found


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            break
        found.append((kind, data[_HEADER.size : length]))
        data = data[(length + 3) & ~3 :]
    return found


def _take(
    payload: bytes, names: dict[int, str], found: dict[str, list[tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, str]]]
) -> None:
    _family, prefix, _flags, scope, index = _ADDRESS.unpack_from(payload)
    attributes = {}
    rest = payload[_ADDRESS.size :]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if length < 4:
            break
        attributes[kind] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]
    address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    name = names.get(index)
    if address and name:
        found.setdefault(name, []).append((ipaddress.ip_interface((address, prefix)), _SCOPES.get(scope, str(scope))))


def interfaces(source: Source) -> dict[str, Any]:
    known = addresses() if source.root.as_posix() == "/" else {}
    found: dict[str, Any] = {}
    for name in source.names("sys/class/net"):
        if _OURS.fullmatch(name) or len(found) >= INTERFACES_MAX or not source.exists(f"sys/class/net/{name}/mtu"):
            continue
        found[name] = _interface(source, name, known.get(name, []))
    return found


def _interface(
    source: Source, name: str, bound: list[tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, str]]
) -> dict[str, Any]:
    folder = f"sys/class/net/{name}"
    values: dict[str, Any] = {"mtu": int(source.text(f"{folder}/mtu") or 0)}
    mac = source.text(f"{folder}/address")
    if mac and mac != "00:00:00:00:00:00":
        values["mac"] = mac
    values["operational_state"] = source.text(f"{folder}/operstate") or "unknown"
    values["physical"] = source.exists(f"{folder}/device")
    speed = source.text(f"{folder}/speed")
    if speed.isdecimal():
        values["speed"] = int(speed)
        values["duplex"] = source.text(f"{folder}/duplex")
    for version, suffix in ((4, ""), (6, "6")):
        mine = [(address, scope) for address, scope in bound if address.version == version]
        if not mine:
            continue
        values[f"bindings{suffix}"] = [
            {"address": str(address.ip), "netmask": str(address.netmask), "network": str(address.network.network_address)}
            | ({"scope6": scope} if version == 6 else {})
            for address, scope in mine
        ]
        best, scope = next(((address, scope) for address, scope in mine if scope == "global"), mine[0])
        values |= {
            f"ip{suffix}": str(best.ip),
            f"netmask{suffix}": str(best.netmask),
            f"network{suffix}": str(best.network.network_address),
        }
        if version == 6:
            values["scope6"] = scope
    return values


def primary(source: Source, found: dict[str, Any]) -> str:
    """The interface of the default route (/proc/net/route), else the first with an address that is not loopback's."""
    for line in source.lines("proc/net/route")[1:]:
        fields = line.split("\t")
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000" and fields[0] in found:
            return fields[0]
    return next((name for name, values in found.items() if name != "lo" and "ip" in values), "")


def networking(source: Source) -> dict[str, Any]:
    hostname = socket.gethostname()
    found = interfaces(source)
    first = primary(source, found)
    short = hostname.partition(".")[0]
    suffix = domain(source, hostname)
    copied = ("ip", "ip6", "mac", "mtu", "netmask", "netmask6", "network", "network6", "scope6")
    values = {name: found[first][name] for name in copied if name in found.get(first, {})}
    return {
        "hostname": short,
        "fqdn": f"{short}.{suffix}" if suffix else short,
        "interfaces": found,
        **({"domain": suffix} if suffix else {}),
        **({"primary": first} if first else {}),
        **values,
    }
