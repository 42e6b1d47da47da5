"""Servers as Nova shows them, at each microversion. Tempest's response schemas are the measure: no key more, none less."""

from collections.abc import Mapping, Sequence
from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.compute.rules import host_hash
from nacre.cloud.compute.states import state_of
from nacre.panes.edge import Call
from nacre.panes.edge.times import seconds

IN_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
"""The statuses with which a progress is shown. Nothing here takes long enough to count per cents: it is always 0."""
FULL_UPDATE = 75
"""From this minor version on a PUT answers with all of the server."""


def addresses(ports: Sequence[Row], extended: bool = True) -> dict[str, list[Row]]:
    """network name -> addresses, fixed ones before the floating ones of the same port."""
    shown: dict[str, list[Row]] = {}
    for port in ports:
        items = shown.setdefault(port["network_name"], [])
        pairs = [(fixed["version"], fixed["address"], "fixed") for fixed in port["fixed_ips"]]
        pairs += [(4, address, "floating") for address in port["floating_ips"]]
        for version, address, kind in pairs:
            item: Row = {"version": version, "addr": address}
            if extended:
                item["OS-EXT-IPS:type"] = kind
                item["OS-EXT-IPS-MAC:mac_addr"] = port["mac"]
            items.append(item)
    return shown


def group_names(ports: Sequence[Row]) -> list[Row]:
    """The names of all groups of the ports, each once."""
    return [{"name": name} for name in dict.fromkeys(name for port in ports for name in port["security_groups"])]


class ServerView:
    """How one request shows servers: its microversion, whether it may see host details, and the hosts' names for that."""

    def __init__(self, call: Call, host_names: Mapping[str, str] | None = None, alive: frozenset[str] = frozenset()) -> None:
        self.minor = call.version.minor
        self.base = call.base_url
        self.host_names = host_names
        """None: this caller does not see OS-EXT-SRV-ATTR."""
        self.alive = alive

    def links(self, ident: str) -> list[Row]:
        return [
            {"rel": "self", "href": f"{self.base}/v2.1/servers/{ident}"},
            {"rel": "bookmark", "href": f"{self.base}/servers/{ident}"},
        ]

    def brief(self, row: Row) -> Row:
        return {"id": row["id"], "name": row["name"], "links": self.links(row["id"])}

    def detail(self, row: Row, ports: Sequence[Row], *, groups: bool = True) -> Row:
        """`groups` false: without server_groups, which lists do not show."""
        state = state_of(row)
        shown = self._common(row, ports, state.status, extended=True)
        if not groups:
            shown.pop("server_groups", None)
        shown["key_name"] = row["key_name"]
        shown["config_drive"] = "True" if row["config_drive"] else ""
        shown["OS-EXT-AZ:availability_zone"] = row["availability_zone"]
        shown["OS-EXT-STS:task_state"] = state.task_state
        shown["OS-EXT-STS:vm_state"] = state.vm_state
        shown["OS-EXT-STS:power_state"] = state.power_state
        shown["OS-SRV-USG:launched_at"] = _plain(row["launched_at"])
        shown["OS-SRV-USG:terminated_at"] = None
        shown["os-extended-volumes:volumes_attached"] = []
        if ports:
            # Nova leaves the key out for a server without any group.
            names = group_names(ports)
            if names:
                shown["security_groups"] = names
        if self.minor >= 90:
            shown["OS-EXT-SRV-ATTR:hostname"] = row["hostname"]
        if self.host_names is not None:
            self._host_details(shown, row, self.host_names)
        return shown

    def changed(self, row: Row, ports: Sequence[Row]) -> Row:
        """The answer to a PUT."""
        return (
            self.detail(row, ports)
            if self.minor >= FULL_UPDATE
            else self._common(row, ports, state_of(row).status, extended=False)
        )

    def rebuilt(self, row: Row, ports: Sequence[Row], admin_pass: str) -> Row:
        """The answer to a rebuild."""
        if self.minor >= FULL_UPDATE:
            shown = self.detail(row, ports) | {"adminPass": admin_pass, "user_data": row["user_data"]}
            shown.pop("OS-EXT-SRV-ATTR:user_data", None)
            return shown
        shown = self._common(row, ports, state_of(row).status, extended=False) | {"adminPass": admin_pass}
        if self.minor >= 54:
            shown["key_name"] = row["key_name"]
        if self.minor >= 57:
            shown["user_data"] = row["user_data"]
        return shown

    def _common(self, row: Row, ports: Sequence[Row], status: str, *, extended: bool) -> Row:
        minor = self.minor
        ident = row["id"]
        shown: Row = {
            "id": ident,
            "name": row["name"],
            "status": status,
            "tenant_id": row["project_id"],
            "user_id": row["user_id"],
            "metadata": row["metadata"],
            "hostId": host_hash(row["project_id"], row["host_id"]),
            "image": self._image(row),
            "flavor": self._flavor(row["flavor"]),
            # Whole seconds, so that many rows share one formatted text.
            "created": seconds(int(row["created_at"])),
            "updated": seconds(int(row["updated_at"])),
            "addresses": addresses(ports, extended),
            "accessIPv4": row["access_ip_v4"],
            "accessIPv6": row["access_ip_v6"],
            "links": self.links(ident),
            "OS-DCF:diskConfig": row["disk_config"],
        }
        if status in IN_PROGRESS:
            shown["progress"] = 0
        if status == "ERROR":
            shown["fault"] = self._fault(row)
        if minor >= 9:
            shown["locked"] = row["locked"]
        if minor >= 19:
            shown["description"] = row["description"]
        if minor >= 26:
            shown["tags"] = row["tags"]
        if minor >= 63:
            shown["trusted_image_certificates"] = None
        if minor >= 71:
            shown["server_groups"] = [row["server_group"]] if row.get("server_group") else []
        if minor >= 73:
            shown["locked_reason"] = row["locked_reason"]
        if minor >= 96:
            shown["pinned_availability_zone"] = (row["requested_zone"] or "").partition(":")[0] or None
        if minor >= 100:
            shown["scheduler_hints"] = row["scheduler_hints"]
        return shown

    def _image(self, row: Row) -> Any:
        ident = row["image_id"]
        if ident is None:
            return ""
        shown = {"id": ident, "links": [{"rel": "bookmark", "href": f"{self.base}/images/{ident}"}]}
        if self.minor >= 98:
            shown["properties"] = row["image"].get("properties", {})
        return shown

    def _flavor(self, flavor: Row) -> Row:
        if self.minor < 47:
            return {
                "id": flavor["id"],
                "links": [{"rel": "bookmark", "href": f"{self.base}/flavors/{flavor['id']}"}],
            }
        return {
            "vcpus": flavor["vcpus"],
            "ram": flavor["memory_mb"],
            "disk": flavor["disk_gb"],
            "ephemeral": flavor["ephemeral_gb"],
            "swap": flavor["swap_mb"],
            "original_name": flavor["name"],
            "extra_specs": flavor["extra_specs"],
        }

    def _fault(self, row: Row) -> Row:
        return {
            "code": row["fault_code"] or 500,
            "created": seconds(row["fault_at"] or row["updated_at"]),
            "message": row["fault"] or "The node reported an error.",
        }

    def _host_details(self, shown: Row, row: Row, names: Mapping[str, str]) -> None:
        host_id = row["host_id"]
        name = names.get(host_id) if host_id else None
        shown["OS-EXT-SRV-ATTR:host"] = name
        shown["OS-EXT-SRV-ATTR:hypervisor_hostname"] = name
        shown["OS-EXT-SRV-ATTR:instance_name"] = f"instance-{row['id'][:8]}"
        if self.minor >= 3:
            shown["OS-EXT-SRV-ATTR:reservation_id"] = row["reservation_id"]
            shown["OS-EXT-SRV-ATTR:launch_index"] = row["launch_index"]
            shown["OS-EXT-SRV-ATTR:hostname"] = row["hostname"]
            shown["OS-EXT-SRV-ATTR:kernel_id"] = ""
            shown["OS-EXT-SRV-ATTR:ramdisk_id"] = ""
            shown["OS-EXT-SRV-ATTR:root_device_name"] = None
            shown["OS-EXT-SRV-ATTR:user_data"] = row["user_data"]
        if self.minor >= 16:
            shown["host_status"] = "" if host_id is None else ("UP" if host_id in self.alive else "DOWN")


def _plain(moment: float | None) -> str | None:
    """2026-11-21T12:00:00.000000, without a zone, as Nova shows launched_at."""
    text = seconds(moment)
    return None if text is None else f"{text[:-1]}.000000"


def interface(call: Call, port: Row) -> Row:
    """A port as os-interface shows it."""
    shown = {
        "net_id": port["network_id"],
        "port_id": port["port_id"],
        "mac_addr": port["mac"],
        "port_state": port["status"],
        "fixed_ips": [{"subnet_id": fixed["subnet_id"], "ip_address": fixed["address"]} for fixed in port["fixed_ips"]],
    }
    if call.at_least(70):
        shown["tag"] = port["tag"]
    return shown
