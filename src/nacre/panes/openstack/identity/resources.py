"""Identity's regular resources, as tables of attributes."""

from typing import Annotated, Any, Literal

import msgspec

from nacre.cloud.collection import Row
from nacre.cloud.identity import (
    credentials,
    domains,
    endpoint_filter,
    groups,
    limits,
    oauth,
    projects,
    regions,
    roles,
    services,
    users,
)
from nacre.panes.edge import Call, times
from nacre.panes.edge.resource import Attribute, Resource

Name64 = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"\S")]
Name255 = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"\S")]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
RegionId = Annotated[str, msgspec.Meta(max_length=64)]
Url = Annotated[str, msgspec.Meta(max_length=225, pattern=r"^[a-zA-Z0-9+.-]+:.+")]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Interface = Literal["public", "internal", "admin"]
LimitNumber = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]
"""-1 is no limit."""


class EndpointFilters(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What endpoints of a group have in common."""

    service_id: Id | msgspec.UnsetType = msgspec.UNSET
    region_id: Id | msgspec.UnsetType = msgspec.UNSET
    interface: Interface | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class ResourceOptions(msgspec.Struct, forbid_unknown_fields=True):
    immutable: bool | msgspec.UnsetType | None = msgspec.UNSET


Flag = bool | msgspec.UnsetType | None
Method = Literal["password", "token", "totp", "application_credential"]
MethodRule = Annotated[list[Method], msgspec.Meta(min_length=1, max_length=4)]


class UserOptions(msgspec.Struct, forbid_unknown_fields=True):
    lock_password: Flag = msgspec.UNSET
    ignore_change_password_upon_first_use: Flag = msgspec.UNSET
    ignore_password_expiry: Flag = msgspec.UNSET
    ignore_lockout_failure_attempts: Flag = msgspec.UNSET
    ignore_user_inactivity: Flag = msgspec.UNSET
    multi_factor_auth_enabled: Flag = msgspec.UNSET
    multi_factor_auth_rules: Annotated[list[MethodRule], msgspec.Meta(max_length=32)] | msgspec.UnsetType | None = msgspec.UNSET


def _region_too(call: Call, row: Row) -> Row:
    return {**row, "region": row["region_id"]}


def _with_tags(call: Call, row: Row) -> Row:
    return {**row, "tags": projects.tags_of(row)}


def _with_expiry(call: Call, row: Row) -> Row:
    return {**row, "password_expires_at": times.micros(row["password_expires_at"], suffix="")}


def _named(type_: Any) -> Attribute:
    return Attribute("name", type_, create=True, update=True, required=True, filter="text")


_ENABLED = Attribute("enabled", bool, create=True, update=True, default=True, filter="boolean")
_ID = Attribute("id", filter="text")
_DOMAIN = Attribute("domain_id", Id | None, create=True, update=True, filter="text")
_OPTIONS = Attribute("options", ResourceOptions, create=True, update=True)
_DESCRIPTION = Attribute("description", str | None, create=True, update=True)
_DESCRIPTION_TEXT = Attribute("description", str | None, create=True, update=True, default="")

REGIONS = Resource(
    singular="region",
    plural="regions",
    path="/v3/regions",
    operations=regions.operations,
    policy="identity:%s_region",
    keep_unknown=True,
    attributes=(
        Attribute("id", RegionId, create=True),
        _DESCRIPTION_TEXT,
        Attribute("parent_region_id", Id | None, create=True, update=True, default=None, filter="text"),
    ),
)

SERVICES = Resource(
    singular="service",
    plural="services",
    path="/v3/services",
    operations=services.operations,
    policy="identity:%s_service",
    keep_unknown=True,
    attributes=(
        _ID,
        Attribute("type", Name255, create=True, update=True, required=True, filter="text"),
        Attribute("name", Annotated[str, msgspec.Meta(max_length=255)] | None, create=True, update=True, filter="text"),
        _DESCRIPTION,
        _ENABLED,
    ),
)

ENDPOINTS = Resource(
    singular="endpoint",
    plural="endpoints",
    path="/v3/endpoints",
    operations=services.endpoint_operations,
    policy="identity:%s_endpoint",
    keep_unknown=True,
    render=_region_too,
    attributes=(
        _ID,
        Attribute("interface", Interface, create=True, update=True, required=True, filter="text"),
        Attribute("service_id", Id, create=True, update=True, required=True, filter="text"),
        Attribute("region_id", Id | None, create=True, update=True, filter="text"),
        Attribute("region", Id | None, create=True, update=True),
        Attribute("url", Url, create=True, update=True, required=True),
        _ENABLED,
    ),
)

DOMAINS = Resource(
    singular="domain",
    plural="domains",
    path="/v3/domains",
    operations=domains.operations,
    policy="identity:%s_domain",
    keep_unknown=True,
    render=_with_tags,
    attributes=(_ID, _named(Name64), _DESCRIPTION_TEXT, _ENABLED, _OPTIONS, Attribute("tags")),
)

PROJECTS = Resource(
    singular="project",
    plural="projects",
    path="/v3/projects",
    operations=projects,
    policy="identity:%s_project",
    keep_unknown=True,
    verbs=("list", "create", "update", "delete"),
    render=_with_tags,
    attributes=(
        _ID,
        _named(Name64),
        _DESCRIPTION_TEXT,
        _ENABLED,
        _DOMAIN,
        Attribute("parent_id", Id | None, create=True, update=True, filter="text"),
        Attribute("is_domain", bool, create=True, update=True, filter="boolean"),
        Attribute("tags", list[Tag], create=True, update=True, filter="text"),
        *(Attribute(name, filter="text", show=False) for name in ("tags-any", "not-tags", "not-tags-any")),
        _OPTIONS,
    ),
)

USERS = Resource(
    singular="user",
    plural="users",
    path="/v3/users",
    operations=users.operations,
    policy="identity:%s_user",
    keep_unknown=True,
    verbs=("list", "show", "delete"),
    render=_with_expiry,
    attributes=(
        _ID,
        _named(Name255),
        Attribute("password", str | None, create=True, update=True, show=False),
        _ENABLED,
        _DOMAIN,
        Attribute("default_project_id", Id | None, create=True, update=True, filter="text"),
        Attribute("description", str | None, create=True, update=True),
        Attribute("password_expires_at", filter="text"),
        Attribute("options", UserOptions, create=True, update=True),
    ),
)

GROUPS = Resource(
    singular="group",
    plural="groups",
    path="/v3/groups",
    operations=groups.operations,
    policy="identity:%s_group",
    keep_unknown=True,
    attributes=(_ID, _named(Name64), _DESCRIPTION_TEXT, _DOMAIN),
)

ROLES = Resource(
    singular="role",
    plural="roles",
    path="/v3/roles",
    operations=roles.operations,
    policy="identity:%s_role",
    keep_unknown=True,
    attributes=(_ID, _named(Name255), _DESCRIPTION, _DOMAIN, _OPTIONS),
)

CREDENTIALS = Resource(
    singular="credential",
    plural="credentials",
    path="/v3/credentials",
    operations=credentials.operations,
    policy="identity:%s_credential",
    keep_unknown=True,
    attributes=(
        _ID,
        Attribute("type", Name255, create=True, update=True, required=True, filter="text"),
        Attribute("blob", str, create=True, update=True, required=True),
        Attribute("user_id", Id, create=True, update=True, filter="text"),
        Attribute("project_id", Id | None, create=True, update=True, filter="text"),
    ),
)

POLICIES = Resource(
    singular="policy",
    plural="policies",
    path="/v3/policies",
    operations=credentials.policy_operations,
    policy="identity:%s_policy",
    keep_unknown=True,
    attributes=(
        _ID,
        Attribute("type", Name255, create=True, update=True, required=True, filter="text"),
        Attribute("blob", str, create=True, update=True, required=True),
    ),
)

ENDPOINT_GROUPS = Resource(
    singular="endpoint_group",
    plural="endpoint_groups",
    path="/v3/OS-EP-FILTER/endpoint_groups",
    operations=endpoint_filter.groups,
    policy="identity:%s_endpoint_group",
    attributes=(
        _ID,
        _named(Name255),
        _DESCRIPTION,
        Attribute("filters", EndpointFilters | None, create=True, update=True, required=True),
    ),
)

CONSUMERS = Resource(
    singular="consumer",
    plural="consumers",
    path="/v3/OS-OAUTH1/consumers",
    operations=oauth.consumers,
    policy="identity:%s_consumer",
    keep_unknown=True,
    verbs=("list", "show", "update", "delete"),
    attributes=(_ID, _DESCRIPTION),
)

REGISTERED_LIMITS = Resource(
    singular="registered_limit",
    plural="registered_limits",
    path="/v3/registered_limits",
    operations=limits.registered,
    policy="identity:%s_registered_limit",
    verbs=("list", "show", "update", "delete"),
    attributes=(
        _ID,
        Attribute("service_id", Id, create=True, update=True, required=True, filter="text"),
        Attribute("region_id", Id | None, create=True, update=True, default=None, filter="text"),
        Attribute("resource_name", Name255, create=True, update=True, required=True, filter="text"),
        Attribute("default_limit", LimitNumber, create=True, update=True, required=True),
        _DESCRIPTION,
    ),
)

LIMITS = Resource(
    singular="limit",
    plural="limits",
    path="/v3/limits",
    operations=limits.operations,
    policy="identity:%s_limit",
    verbs=("list", "show", "update", "delete"),
    attributes=(
        _ID,
        Attribute("project_id", Id | None, create=True, default=None, filter="text"),
        Attribute("domain_id", Id | None, create=True, default=None, filter="text"),
        Attribute("service_id", Id, create=True, required=True, filter="text"),
        Attribute("region_id", Id | None, create=True, default=None, filter="text"),
        Attribute("resource_name", Name255, create=True, required=True, filter="text"),
        Attribute("resource_limit", LimitNumber, create=True, update=True, required=True),
        _DESCRIPTION,
    ),
)

REGULAR = (
    *(REGIONS, SERVICES, ENDPOINTS, DOMAINS, PROJECTS, USERS, GROUPS, ROLES, CREDENTIALS, POLICIES),
    *(ENDPOINT_GROUPS, CONSUMERS, REGISTERED_LIMITS, LIMITS),
)
