"""The bodies that Compute takes, as structs: what is not here is refused with 400, and so is what has the wrong type.

Fields that came or went with a microversion are in the *_RANGES tables. Numbers and booleans may be sent as text, as Nova takes them.
"""

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

INT32_MAX = 2**31 - 1
USER_DATA_CHARACTERS_MAX = 65_535
"""Of base64, as Nova counts."""
TAGS_MAX = 50
SERVERS_PER_REQUEST_MAX = 1000

Text255 = Annotated[str, Meta(max_length=255)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,10}$")]
SignedDigits = Annotated[str, Meta(pattern=r"^-?[0-9]{1,10}$")]
Positive = Annotated[int, Meta(ge=1, le=INT32_MAX)] | Digits
Count = Annotated[int, Meta(ge=0, le=INT32_MAX)] | Digits
Boolean = (
    bool
    | Literal["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"]
    | Literal["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"]
)
Key = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]+$")]
Metadata = dict[Key, Text255]
Tag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]+$")]
Tags = Annotated[list[Tag], Meta(max_length=TAGS_MAX)]
DeviceTag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]*$")]
DiskConfig = Literal["AUTO", "MANUAL"]
Uuid = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$")]
Hostname = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-.]+$")]

TRUE = frozenset({"true", "1", "on", "yes", "y", "t"})


def truth(value: bool | str) -> bool:
    return value if isinstance(value, bool) else value.lower() in TRUE


def number(value: int | str) -> int:
    return int(value)


def check_name(value: str, what: str = "name") -> str:
    """Nova's rule for names: printable, not blank, no space at either end. Raises ValueError."""
    if not value.strip():
        raise ValueError(f"{what} must not be blank")
    if value != value.strip():
        raise ValueError(f"{what} must not begin or end with a space")
    if not all(character.isprintable() for character in value):
        raise ValueError(f"{what} holds characters that cannot be printed")
    return value


def check_text(value: str | None, what: str) -> None:
    """Lines, but no control characters. Raises ValueError."""
    if value and not all(character.isprintable() or character in "\t\r\n" for character in value):
        raise ValueError(f"{what} holds characters that cannot be printed")


def checked_ip(value: str, version: int, what: str) -> str:
    """An address in its canonical spelling; an empty text is none. Raises ValueError."""
    if not value:
        return ""
    address = ipaddress.ip_address(value)
    if address.version != version:
        raise ValueError(f"{what} must be an IPv{version} address")
    return str(address)


class NetworkBody(Struct, forbid_unknown_fields=True):
    """One entry of a server's `networks`."""

    uuid: Uuid | None = None
    port: Uuid | None = None
    fixed_ip: str | None = None
    tag: DeviceTag | None = None

    def __post_init__(self) -> None:
        if self.fixed_ip is not None:
            ipaddress.ip_address(self.fixed_ip)


class SecurityGroupName(Struct, forbid_unknown_fields=True):
    name: Name


class PersonalityFile(Struct, forbid_unknown_fields=True):
    """A file that is written into a server (until 2.56). The contents are base64."""

    path: Annotated[str, Meta(min_length=1)]
    contents: str

    def __post_init__(self) -> None:
        if "\0" in self.path or ".." in self.path.split("/"):
            raise ValueError("path must not hold NUL or lead upwards")
        _check_base64(self.contents, "contents")


class BlockDevice(Struct, forbid_unknown_fields=True):
    """An entry of block_device_mapping_v2. Which of them are served is decided where a server is made."""

    uuid: str | None = None
    source_type: Literal["volume", "image", "snapshot", "blank"] | UnsetType = UNSET
    destination_type: Literal["volume", "local"] | UnsetType = UNSET
    boot_index: int | str | None = None
    delete_on_termination: Boolean = False
    device_name: str | None = None
    device_type: str | None = None
    disk_bus: str | None = None
    guest_format: str | None = None
    volume_size: int | str | None = None
    volume_type: str | None = None
    volume_id: str | None = None
    image_id: str | None = None
    snapshot_id: str | None = None
    no_device: Any = None
    tag: str | None = None


class SchedulerHints(Struct):
    """Hints beyond these are kept as they are: schedulers may define their own."""

    group: Uuid | UnsetType = UNSET
    different_host: Uuid | list[Uuid] | UnsetType = UNSET
    same_host: Uuid | list[Uuid] | UnsetType = UNSET


class ServerCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /servers."""

    name: Name
    flavor_ref: Annotated[str, Meta(min_length=1)] | int = field(name="flavorRef")
    image_ref: str | UnsetType = field(name="imageRef", default=UNSET)
    admin_pass: str | None = field(name="adminPass", default=None)
    metadata: Metadata = {}
    networks: list[NetworkBody] | Literal["auto", "none"] | UnsetType = UNSET
    disk_config: DiskConfig = field(name="OS-DCF:diskConfig", default="MANUAL")
    access_ip_v4: str = field(name="accessIPv4", default="")
    access_ip_v6: str = field(name="accessIPv6", default="")
    personality: list[PersonalityFile] | UnsetType = UNSET
    availability_zone: Name | None = None
    block_device_mapping: list[dict[str, Any]] | UnsetType = UNSET
    block_device_mapping_v2: list[BlockDevice] | UnsetType = UNSET
    config_drive: Boolean = False
    key_name: Name | None = None
    min_count: Positive | None = None
    max_count: Positive | None = None
    return_reservation_id: Boolean = False
    security_groups: list[SecurityGroupName] = []
    user_data: Annotated[str, Meta(max_length=USER_DATA_CHARACTERS_MAX)] | None = None
    description: Text255 | UnsetType | None = UNSET
    tags: Tags | UnsetType = UNSET
    trusted_image_certificates: list[Name] | UnsetType | None = UNSET
    host: Hostname | UnsetType = UNSET
    hypervisor_hostname: Hostname | UnsetType = UNSET
    hostname: Hostname | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.name = check_name(self.name)
        self.access_ip_v4 = checked_ip(self.access_ip_v4, 4, "accessIPv4")
        self.access_ip_v6 = checked_ip(self.access_ip_v6, 6, "accessIPv6")
        if isinstance(self.description, str):
            check_text(self.description, "description")
        if self.image_ref is not UNSET and self.image_ref:
            UUID(self.image_ref.rpartition("/")[2])
        if isinstance(self.tags, list) and len(set(self.tags)) != len(self.tags):
            raise ValueError("tags has non-unique elements")
        if self.user_data is not None:
            _check_base64(self.user_data)


SERVER_CREATE_RANGES: dict[str, tuple[int, int | None]] = {
    "personality": (1, 56),
    "description": (19, None),
    "tags": (52, None),
    "trusted_image_certificates": (63, None),
    "host": (74, None),
    "hypervisor_hostname": (74, None),
    "hostname": (90, None),
}


def _check_base64(value: str, what: str = "user_data") -> None:
    try:
        base64.b64decode(re.sub(r"\s", "", value), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} must be base64") from None


class ServerUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of PUT /servers/{id}."""

    name: Name | UnsetType = UNSET
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)
    access_ip_v4: str | UnsetType | None = field(name="accessIPv4", default=UNSET)
    access_ip_v6: str | UnsetType | None = field(name="accessIPv6", default=UNSET)
    description: Text255 | UnsetType | None = UNSET
    hostname: Hostname | UnsetType = UNSET
    pinned_availability_zone: Name | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.name, str):
            self.name = check_name(self.name)
        if isinstance(self.access_ip_v4, str):
            self.access_ip_v4 = checked_ip(self.access_ip_v4, 4, "accessIPv4")
        if isinstance(self.access_ip_v6, str):
            self.access_ip_v6 = checked_ip(self.access_ip_v6, 6, "accessIPv6")
        if isinstance(self.description, str):
            check_text(self.description, "description")


SERVER_UPDATE_RANGES: dict[str, tuple[int, int | None]] = {
    "description": (19, None),
    "hostname": (90, None),
    "pinned_availability_zone": (104, None),
}


class RebootBody(Struct, forbid_unknown_fields=True):
    type: Literal["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]


class ResizeBody(Struct, forbid_unknown_fields=True):
    """The action resize."""

    flavor_ref: Annotated[str, Meta(min_length=1)] | int = field(name="flavorRef")
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)


class CreateImageBody(Struct, forbid_unknown_fields=True):
    """The action createImage."""

    name: Name
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        self.name = check_name(self.name)


class CreateBackupBody(Struct, forbid_unknown_fields=True):
    """The action createBackup."""

    name: Name
    backup_type: str
    rotation: Count
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        self.name = check_name(self.name)


class RebuildBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """The action rebuild."""

    image_ref: str = field(name="imageRef")
    name: Name | UnsetType = UNSET
    admin_pass: str | UnsetType = field(name="adminPass", default=UNSET)
    metadata: Metadata | UnsetType = UNSET
    preserve_ephemeral: Boolean = False
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)
    access_ip_v4: str | UnsetType = field(name="accessIPv4", default=UNSET)
    access_ip_v6: str | UnsetType = field(name="accessIPv6", default=UNSET)
    personality: list[PersonalityFile] | UnsetType = UNSET
    description: Text255 | UnsetType | None = UNSET
    key_name: Name | UnsetType | None = UNSET
    user_data: Annotated[str, Meta(max_length=USER_DATA_CHARACTERS_MAX)] | UnsetType | None = UNSET
    trusted_image_certificates: list[Name] | UnsetType | None = UNSET
    hostname: Hostname | UnsetType = UNSET

    def __post_init__(self) -> None:
        UUID(self.image_ref.rpartition("/")[2])
        if isinstance(self.name, str):
            self.name = check_name(self.name)
        if isinstance(self.access_ip_v4, str):
            self.access_ip_v4 = checked_ip(self.access_ip_v4, 4, "accessIPv4")
        if isinstance(self.access_ip_v6, str):
            self.access_ip_v6 = checked_ip(self.access_ip_v6, 6, "accessIPv6")
        if isinstance(self.description, str):
            check_text(self.description, "description")
        if isinstance(self.user_data, str):
            _check_base64(self.user_data)


REBUILD_RANGES: dict[str, tuple[int, int | None]] = {
    "personality": (1, 56),
    "description": (19, None),
    "key_name": (54, None),
    "user_data": (57, None),
    "trusted_image_certificates": (63, None),
    "hostname": (90, None),
}


class LockBody(Struct, forbid_unknown_fields=True):
    locked_reason: Name | None = None


class ConsoleBody(Struct, forbid_unknown_fields=True):
    """`length`: how many lines from the end; None or -1 is all of it."""

    length: Annotated[int, Meta(ge=-1, le=INT32_MAX)] | SignedDigits | None = None


class AddFixedIpBody(Struct, forbid_unknown_fields=True):
    network_id: Annotated[str, Meta(min_length=1, max_length=255)] = field(name="networkId")


class RemoveFixedIpBody(Struct, forbid_unknown_fields=True):
    """The action removeFixedIp."""

    address: str

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.address)


class InterfaceFixedIp(Struct, forbid_unknown_fields=True):
    """One address that an interface shall have."""

    ip_address: str

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.ip_address)


class InterfaceCreate(Struct, forbid_unknown_fields=True):
    net_id: Uuid | None = None
    port_id: Uuid | None = None
    fixed_ips: Annotated[list[InterfaceFixedIp], Meta(min_length=1, max_length=1)] | None = None
    tag: DeviceTag | UnsetType = UNSET


INTERFACE_RANGES: dict[str, tuple[int, int | None]] = {"tag": (49, None)}

FlavorId = Annotated[str, Meta(max_length=255, pattern=r"^(?! )[a-zA-Z0-9. _-]*(?<! )$")]


Factor = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]


class FlavorCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /flavors."""

    name: Name
    ram: Positive
    vcpus: Positive
    disk: Count
    id: FlavorId | int | None = None
    ephemeral: Count = field(name="OS-FLV-EXT-DATA:ephemeral", default=0)
    swap: Count = 0
    rxtx_factor: Annotated[float, Meta(gt=0, le=3.40282e38)] | Factor | UnsetType = UNSET
    is_public: Boolean = field(name="os-flavor-access:is_public", default=True)
    description: Annotated[str, Meta(max_length=65535)] | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        self.name = check_name(self.name)
        for what in ("ram", "vcpus"):
            if number(getattr(self, what)) < 1:
                raise ValueError(f"{what} must be at least 1")
        for what in ("ram", "vcpus", "disk", "ephemeral", "swap"):
            if number(getattr(self, what)) > INT32_MAX:
                raise ValueError(f"{what} must be at most {INT32_MAX}")
        if self.rxtx_factor is not UNSET and float(self.rxtx_factor) <= 0:
            raise ValueError("rxtx_factor must be more than 0")
        if isinstance(self.description, str):
            check_text(self.description, "description")


FLAVOR_RANGES: dict[str, tuple[int, int | None]] = {"description": (55, None), "rxtx_factor": (1, 101)}


class FlavorUpdate(Struct, forbid_unknown_fields=True):
    """The body of PUT /flavors/{id} (microversion 2.55)."""

    description: Annotated[str, Meta(max_length=65535)] | None

    def __post_init__(self) -> None:
        check_text(self.description, "description")


class TenantAccess(Struct, forbid_unknown_fields=True):
    tenant: Name


ExtraSpecKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]+$")]
ExtraSpecValue: Any = Text255 | int | float | bool
ExtraSpecs = Annotated[dict[ExtraSpecKey, ExtraSpecValue], Meta(min_length=1)]


class KeypairCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name
    public_key: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    type: Literal["ssh", "x509"] | UnsetType = UNSET
    user_id: Name | UnsetType = UNSET


KEYPAIR_RANGES: dict[str, tuple[int, int | None]] = {"type": (2, None), "user_id": (10, None)}

Limit = Annotated[int, Meta(ge=-1, le=INT32_MAX)] | SignedDigits


class ServiceByName(Struct, forbid_unknown_fields=True):
    host: Name
    binary: Name
    disabled_reason: Name | UnsetType = UNSET
    forced_down: Boolean | UnsetType = UNSET


class ServiceUpdate(Struct, forbid_unknown_fields=True):
    status: Literal["enabled", "disabled"] | UnsetType = UNSET
    disabled_reason: Name | UnsetType = UNSET
    forced_down: Boolean | UnsetType = UNSET


class SecurityGroupBody(Struct, forbid_unknown_fields=True):
    name: Name
    description: Text255 | None = None


class SecurityGroupRuleBody(Struct):
    """Nova does not check this body by a schema; numbers may be text, and -1 is any."""

    parent_group_id: str
    ip_protocol: str | None = None
    from_port: int | str | None = None
    to_port: int | str | None = None
    cidr: str | None = None
    group_id: str | None = None


class ResetState(Struct, forbid_unknown_fields=True):
    state: Literal["active", "error"]


class FloatingIpCreate(Struct, forbid_unknown_fields=True):
    pool: str | None = None


class AddFloatingIp(Struct, forbid_unknown_fields=True):
    """The action addFloatingIp."""

    address: str
    fixed_address: str | None = None

    def __post_init__(self) -> None:
        ipaddress.IPv4Address(self.address)
        if self.fixed_address is not None:
            ipaddress.IPv4Address(self.fixed_address)


class RemoveFloatingIp(Struct, forbid_unknown_fields=True):
    """The action removeFloatingIp."""

    address: str

    def __post_init__(self) -> None:
        ipaddress.IPv4Address(self.address)


class ImageMetadata(Struct, forbid_unknown_fields=True):
    metadata: Metadata


class ImageMetadataItem(Struct, forbid_unknown_fields=True):
    meta: Annotated[Metadata, Meta(min_length=1, max_length=1)]
