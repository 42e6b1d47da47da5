"""The bodies of Tutum's API. A key that is not known is refused by its name: nothing is taken and then not done."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from nacre.cloud.stacks.specs import Operation, ServiceSpec


class Tag(Struct, forbid_unknown_fields=True):
    name: str


def _type_of(field: msgspec.structs.FieldInfo) -> Any:
    return tuple[str | Tag, ...] if field.name == "tags" else field.type


def _fields(*, optional: bool) -> list[Any]:
    found: list[Any] = []
    for field in msgspec.structs.fields(ServiceSpec):
        required = field.required and field.name != "name" and not optional
        found.append((field.name, _type_of(field)) if required else (field.name, _type_of(field) | UnsetType, UNSET))
    return found


ServiceCreate = msgspec.defstruct("ServiceCreate", _fields(optional=False), kw_only=True, forbid_unknown_fields=True)
"""The members of a ServiceSpec; without a name it is made of the image's."""
ServiceUpdate = msgspec.defstruct("ServiceUpdate", _fields(optional=True), kw_only=True, forbid_unknown_fields=True)


class StackCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    name: str
    services: tuple[ServiceCreate, ...] = ()  # type: ignore[valid-type]


class StackUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is listed is there afterwards, and nothing else."""

    services: tuple[ServiceCreate, ...]  # type: ignore[valid-type]


class TriggerCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    operation: Operation = "REDEPLOY"


class Scale(Struct, kw_only=True, forbid_unknown_fields=True):
    target_num_containers: int | None = None


def given(body: Any) -> dict[str, Any]:
    """The members that were given."""
    values = {field.name: getattr(body, field.name) for field in msgspec.structs.fields(body)}
    found = {name: value for name, value in values.items() if value is not UNSET}
    if "tags" in found:
        found["tags"] = tuple(tag.name if isinstance(tag, Tag) else tag for tag in found["tags"])
    return found


def spec_of(body: Any) -> ServiceSpec:
    values = given(body)
    image = values["image"].rpartition("/")[2].partition("@")[0].partition(":")[0]
    return ServiceSpec(**{"name": image, **values})
