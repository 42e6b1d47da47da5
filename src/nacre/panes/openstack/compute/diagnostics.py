"""A server's diagnostics: the counters of its cgroups and interfaces, read at this moment on its host.

https://docs.openstack.org/api-ref/compute/#servers-diagnostics-servers-diagnostics
"""

from typing import Any

import msgspec

from nacre.cloud.collection import Row
from nacre.cloud.compute.states import state_of
from nacre.cloud.errors import Conflict, Unavailable
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute.servers import load

SHAPED = 48
"""From this minor version on every hypervisor's diagnostics have one shape."""
MIB = 1 << 20
STATES = {"active": "running", "resized": "running", "rescued": "running", "paused": "paused", "suspended": "suspended"}
"""vm_state -> the state that is shown; every other one is `shutdown`."""
DRIVER = "libvirt"
"""The API knows five names, and what runs here is none of them: this is the one that runs containers, too."""
_NIC = (
    ("rx_octets", "rx_bytes"),
    ("rx_errors", "rx_errors"),
    ("rx_drop", "rx_dropped"),
    ("rx_packets", "rx_packets"),
    ("tx_octets", "tx_bytes"),
    ("tx_errors", "tx_errors"),
    ("tx_drop", "tx_dropped"),
    ("tx_packets", "tx_packets"),
)


async def show(call: Call) -> Reply:
    """Raises Conflict for a server that is on no host, Unavailable where its host does not answer."""
    row, ports = await call.read(load, call.path["server_id"])
    if row["host_id"] is None or row["observed_state"] is None:
        raise Conflict(f"Instance {row['id']} is not ready", code="InstanceNotReady")
    sample = await _sample(call, row)
    return Reply(_shaped(call, row, ports, sample) if call.at_least(SHAPED) else _flat(sample))


async def _sample(call: Call, row: Row) -> dict[str, Any]:
    """As the Docker API's ContainerStats (see nacre.protocol.streams)."""
    stream = await call.cloud.hosts.open(row["host_id"], "stats", row["id"], {"stream": False})
    try:
        async for _, data in stream:
            return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unavailable(f"The server's host says what nobody understands: {error}") from None
    finally:
        await stream.close()
    raise Unavailable("The server's host says nothing of it.")


def _cpu_ns(sample: dict[str, Any]) -> int:
    return int(sample["cpu_stats"]["cpu_usage"]["total_usage"])


def _disk(sample: dict[str, Any]) -> Row:
    """All block devices together; None for what the kernel does not count."""

    def total(name: str, op: str) -> int | None:
        lines = sample["blkio_stats"].get(name)
        return None if not lines else sum(line["value"] for line in lines if line["op"].lower() == op)

    return {
        "read_bytes": total("io_service_bytes_recursive", "read"),
        "read_requests": total("io_serviced_recursive", "read"),
        "write_bytes": total("io_service_bytes_recursive", "write"),
        "write_requests": total("io_serviced_recursive", "write"),
        "errors_count": None,
    }


def _nics(ports: list[Row], sample: dict[str, Any]) -> list[Row]:
    """The interfaces are eth0, eth1 and so on, in the order of the server's ports."""
    found = []
    networks = sample.get("networks", {})
    for number, port in enumerate(ports):
        counted = networks.get(f"eth{number}", {})
        nic = {shown: counted.get(name) for shown, name in _NIC}
        found.append({"mac_address": port["mac"], **nic, "rx_rate": None, "tx_rate": None})
    return found


def _shaped(call: Call, row: Row, ports: list[Row], sample: dict[str, Any]) -> Row:
    used = sample["memory_stats"].get("usage")
    facts = call.cloud.hosts.facts(row["host_id"])
    return {
        "state": STATES.get(state_of(row).vm_state, "shutdown"),
        "driver": DRIVER,
        "hypervisor": "container",
        "hypervisor_os": facts.get("operatingsystem"),
        "uptime": None,
        "config_drive": row["config_drive"],
        "num_cpus": row["flavor"]["vcpus"],
        "num_nics": len(ports),
        "num_disks": 1,
        "disk_details": [_disk(sample)],
        # The kernel counts for all processors together.
        "cpu_details": [{"id": None, "time": _cpu_ns(sample), "utilisation": None}],
        "nic_details": _nics(ports, sample),
        "memory_details": {"maximum": row["flavor"]["memory_mb"], "used": None if used is None else used // MIB},
    }


def _flat(sample: dict[str, Any]) -> Row:
    """Before 2.48: a number for each name, memory in KiB as libvirt's driver has it."""
    memory = sample["memory_stats"]
    shown: Row = {"cpu0_time": _cpu_ns(sample)}
    shown |= {name: memory[key] // 1024 for name, key in (("memory", "limit"), ("memory-used", "usage")) if key in memory}
    disk = _disk(sample)
    shown |= {f"root_{name.replace('requests', 'req')}": value for name, value in disk.items() if value is not None}
    for interface, counted in sample.get("networks", {}).items():
        shown |= {f"{interface}_{name.replace('_bytes', '')}": value for name, value in counted.items()}
    return shown
