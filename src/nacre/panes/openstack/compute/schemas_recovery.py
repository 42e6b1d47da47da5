"""The bodies of the actions of `recovery`, as structs, like those in `schemas`."""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from nacre.panes.openstack.compute.schemas import Boolean, Hostname, Name

Password = Annotated[str, Meta(max_length=4096)]


class Rescue(Struct, forbid_unknown_fields=True):
    """The action rescue, where it is not null. The image may be named by its URL."""

    admin_pass: Password | None = field(name="adminPass", default=None)
    rescue_image_ref: str | None = None

    def __post_init__(self) -> None:
        if self.rescue_image_ref is not None:
            UUID(self.rescue_image_ref.rpartition("/")[2])


class ChangePassword(Struct, forbid_unknown_fields=True):
    """The action changePassword."""

    admin_pass: Password = field(name="adminPass")

    def __post_init__(self) -> None:
        if "\0" in self.admin_pass:
            raise ValueError("adminPass must not hold NUL")


class Unshelve(Struct, forbid_unknown_fields=True):
    """The action unshelve, where it is not null."""

    availability_zone: Name | UnsetType | None = UNSET
    host: Hostname | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.availability_zone is UNSET and self.host is UNSET:
            raise ValueError("availability_zone or host must be given")


UNSHELVE_RANGES: dict[str, tuple[int, int | None]] = {"availability_zone": (77, None), "host": (91, None)}


class Evacuate(Struct, forbid_unknown_fields=True):
    """The action evacuate. Nothing is shared between hosts: `onSharedStorage` true is refused."""

    host: Hostname | UnsetType = UNSET
    admin_pass: Password | UnsetType = field(name="adminPass", default=UNSET)
    on_shared_storage: Boolean | UnsetType = field(name="onSharedStorage", default=UNSET)
    force: Boolean | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.on_shared_storage is True or self.on_shared_storage in ("True", "true", "1"):
            raise ValueError("onSharedStorage: no storage is shared between hosts")


EVACUATE_RANGES: dict[str, tuple[int, int | None]] = {"onSharedStorage": (1, 13), "force": (29, 67)}


class MigrateLive(Struct, forbid_unknown_fields=True):
    """The action os-migrateLive."""

    host: Hostname | None = None
    block_migration: Boolean | str | UnsetType = UNSET
    disk_over_commit: Boolean | UnsetType = UNSET
    force: Boolean | UnsetType = UNSET


LIVE_RANGES: dict[str, tuple[int, int | None]] = {"diskOverCommit": (1, 24), "disk_over_commit": (1, 24), "force": (30, 67)}


class MigrateTo(Struct, forbid_unknown_fields=True):
    """The action migrate, where it is not null (from 2.56 on)."""

    host: Hostname | None = None


class ConsoleType(Struct, forbid_unknown_fields=True):
    """The actions os-get*Console."""

    type: Name


class RemoteConsole(Struct, forbid_unknown_fields=True):
    """The body of POST /servers/{id}/remote-consoles."""

    protocol: Name
    type: Name
