"""The bodies of calls about hosts, groups of hosts and of servers, and what other services tell: as structs, like those in `schemas`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from nacre.panes.openstack.compute.schemas import Key, Name, Positive, Text255, Uuid, check_name


class AggregateCreate(Struct, forbid_unknown_fields=True):
    """The body of POST /os-aggregates."""

    name: Name
    availability_zone: Name | None = None

    def __post_init__(self) -> None:
        self.name = check_name(self.name)
        _check_zone(self.availability_zone)


class AggregateUpdate(Struct, forbid_unknown_fields=True):
    """The body of PUT /os-aggregates/{id}."""

    name: Name | UnsetType = UNSET
    availability_zone: Name | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if self.name is UNSET and self.availability_zone is UNSET:
            raise ValueError("name or availability_zone must be given")
        if isinstance(self.name, str):
            self.name = check_name(self.name)
        _check_zone(self.availability_zone)


def _check_zone(zone: object) -> None:
    if isinstance(zone, str) and ":" in check_name(zone, "availability_zone"):
        raise ValueError("availability_zone must not hold a colon")


class AggregateHost(Struct, forbid_unknown_fields=True):
    host: Name


class AggregateMetadata(Struct, forbid_unknown_fields=True):
    metadata: dict[Key, Text255 | None]


GroupPolicy = Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]


class ServerGroupCreateOld(Struct, forbid_unknown_fields=True):
    """The body of POST /os-server-groups until 2.63."""

    name: Name
    policies: Annotated[list[GroupPolicy], Meta(min_length=1, max_length=1)]

    def __post_init__(self) -> None:
        self.name = check_name(self.name)


class ServerGroupCreate(Struct, forbid_unknown_fields=True):
    """The body of POST /os-server-groups from 2.64 on."""

    name: Name
    policy: GroupPolicy
    rules: dict[Literal["max_server_per_host"], Positive] | None = None

    def __post_init__(self) -> None:
        self.name = check_name(self.name)


class ExternalEvent(Struct, forbid_unknown_fields=True):
    """One event that another service tells of."""

    name: Literal[
        "network-changed",
        "network-vif-plugged",
        "network-vif-unplugged",
        "network-vif-deleted",
        "volume-extended",
        "power-update",
    ]
    server_uuid: Uuid
    status: Literal["failed", "completed", "in-progress"] = "completed"
    tag: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class HostUpdate(Struct, forbid_unknown_fields=True):
    """The body of PUT /os-hosts/{name}."""

    status: Literal["enable", "disable"] | None = None
    maintenance_mode: Literal["enable", "disable"] | None = None

    def __post_init__(self) -> None:
        if self.status is None and self.maintenance_mode is None:
            raise ValueError("status or maintenance_mode must be given")
