"""Compute's route table."""

from nacre.cloud.compute.policies import POLICIES
from nacre.panes.edge import Call, Reply, Route, Service, Version
from nacre.panes.edge.route import Handler
from nacre.panes.openstack.compute import (
    actions,
    aggregates,
    attachments,
    consoles,
    diagnostics,
    events,
    extensions,
    flavors,
    floating_ips,
    gone,
    hosts,
    images,
    instance_actions,
    interfaces,
    keypairs,
    metadata,
    migrations,
    passwords,
    quotas,
    security_groups,
    server_groups,
    server_views,
    servers,
    tags,
    usage,
    versions,
)
from nacre.panes.openstack.compute.dialect import Unimplemented, render_error, unexpected
from nacre.panes.openstack.compute.microversions import MICROVERSIONS

QUERIES: dict[str, frozenset[str] | None] = {
    "/servers": None,
    "/servers/detail": None,
    "/servers/{server_id}/os-instance-actions": None,
    "/servers/{server_id}/os-volume_attachments": frozenset({"limit", "offset"}),
    "/flavors": None,
    "/flavors/detail": None,
    "/os-keypairs": None,
    "/os-keypairs/{keypair_name}": frozenset({"user_id"}),
    "/limits": frozenset({"tenant_id", "reserved"}),
    "/os-quota-sets/{quota_project_id}": frozenset({"user_id"}),
    "/os-quota-sets/{quota_project_id}/detail": frozenset({"user_id"}),
    "/os-server-groups": frozenset({"all_projects", "limit", "offset"}),
    "/os-simple-tenant-usage": None,
    "/os-simple-tenant-usage/{usage_project_id}": None,
    "/os-services": frozenset({"host", "binary"}),
    "/os-hypervisors": frozenset({"limit", "marker", "hypervisor_hostname_pattern", "with_servers"}),
    "/os-hypervisors/detail": frozenset({"limit", "marker", "hypervisor_hostname_pattern", "with_servers"}),
    "/os-hypervisors/{hypervisor_id}": frozenset({"with_servers"}),
    "/os-assisted-volume-snapshots/{snapshot_id}": frozenset({"delete_info"}),
    "/os-migrations": frozenset(
        {
            *("hidden", "host", "instance_uuid", "limit", "marker", "migration_type", "source_compute", "status"),
            *("changes-since", "changes-before", "user_id", "project_id"),
        }
    ),
}
"""The parameters that a path's query may have from 2.102 on: none where it is not here; None where its handler knows them."""
STRICT_QUERY = 102


def _strict(path: str, handler: Handler) -> Handler:
    known = QUERIES.get(path, frozenset())
    if known is None:
        return handler

    async def check(call: Call) -> Reply:
        if call.query and call.at_least(STRICT_QUERY):
            for name in call.query:
                if name not in known:
                    raise unexpected(name)
        return await handler(call)

    return check


def _row(method: str, path: str, handler: Handler, policy: str, summary: str, since: int = 1, until: int | None = None) -> Route:
    return Route(
        method,
        f"/v2.1{path}",
        _strict(path, handler),
        f"os_compute_api:{policy}",
        summary,
        since=Version(2, since) if since > 1 else None,
        until=None if until is None else Version(2, until),
    )


_VERSIONS: tuple[Route, ...] = (
    Route("GET", "", versions.index, None, "List versions"),
    Route("GET", "/", versions.index, None, "List versions"),
    Route("GET", "/v2", versions.show_frozen, None, "Show version 2.0"),
    Route("GET", "/v2/", versions.show_frozen, None, "Show version 2.0"),
    Route("GET", "/v2.1", versions.show, None, "Show version 2.1"),
    Route("GET", "/v2.1/", versions.show, None, "Show version 2.1"),
)

_SERVER = "/servers/{server_id}"
_SERVERS: tuple[Route, ...] = (
    _row("GET", "/servers", servers.index, "servers:index", "List servers"),
    _row("POST", "/servers", servers.create, "servers:create", "Create servers"),
    _row("GET", "/servers/detail", servers.detail, "servers:detail", "List servers with detail"),
    _row("GET", _SERVER, servers.show, "servers:show", "Show a server"),
    _row("PUT", _SERVER, servers.update, "servers:update", "Update a server"),
    _row("DELETE", _SERVER, servers.delete, "servers:delete", "Delete a server"),
    _row("POST", f"{_SERVER}/action", actions.run, "servers:action", "Run an action on a server"),
    _row("GET", f"{_SERVER}/ips", interfaces.list_ips, "os-ips:index", "List a server's addresses"),
    _row("GET", f"{_SERVER}/ips/{{network_label}}", interfaces.show_ips, "os-ips:show", "Show its addresses in a network"),
    _row("GET", f"{_SERVER}/metadata", metadata.index, "server-metadata:index", "List a server's metadata"),
    _row("POST", f"{_SERVER}/metadata", metadata.add, "server-metadata:create", "Add metadata"),
    _row("PUT", f"{_SERVER}/metadata", metadata.replace, "server-metadata:update_all", "Replace the metadata"),
    _row("GET", f"{_SERVER}/metadata/{{key}}", metadata.show, "server-metadata:show", "Show an item of metadata"),
    _row("PUT", f"{_SERVER}/metadata/{{key}}", metadata.update, "server-metadata:update", "Set an item of metadata"),
    _row("DELETE", f"{_SERVER}/metadata/{{key}}", metadata.delete, "server-metadata:delete", "Delete an item of metadata"),
    _row("GET", f"{_SERVER}/tags", tags.index, "os-server-tags:index", "List a server's tags", 26),
    _row("PUT", f"{_SERVER}/tags", tags.replace, "os-server-tags:update_all", "Replace the tags", 26),
    _row("DELETE", f"{_SERVER}/tags", tags.clear, "os-server-tags:delete_all", "Delete all tags", 26),
    _row("GET", f"{_SERVER}/tags/{{tag}}", tags.show, "os-server-tags:show", "Check a tag", 26),
    _row("PUT", f"{_SERVER}/tags/{{tag}}", tags.add, "os-server-tags:update", "Add a tag", 26),
    _row("DELETE", f"{_SERVER}/tags/{{tag}}", tags.remove, "os-server-tags:delete", "Delete a tag", 26),
    _row("GET", f"{_SERVER}/os-interface", interfaces.index, "os-attach-interfaces:list", "List a server's interfaces"),
    _row("POST", f"{_SERVER}/os-interface", interfaces.create, "os-attach-interfaces:create", "Attach an interface"),
    _row("GET", f"{_SERVER}/os-interface/{{port_id}}", interfaces.show, "os-attach-interfaces:show", "Show an interface"),
    _row(
        "DELETE", f"{_SERVER}/os-interface/{{port_id}}", interfaces.delete, "os-attach-interfaces:delete", "Detach an interface"
    ),
    _row("GET", f"{_SERVER}/os-instance-actions", instance_actions.index, "os-instance-actions:list", "List a server's actions"),
    _row(
        "GET",
        f"{_SERVER}/os-instance-actions/{{request_id}}",
        instance_actions.show,
        "os-instance-actions:show",
        "Show an action with its events",
    ),
)

_ATTACHMENT = f"{_SERVER}/os-volume_attachments/{{volume_id}}"
_MIGRATION = f"{_SERVER}/migrations/{{migration_id}}"
_OF_SERVERS: tuple[Route, ...] = (
    Route("GET", consoles.PATH, consoles.attach, None, "Open a console by its token (a WebSocket)", streams=True),
    _row("POST", f"{_SERVER}/remote-consoles", consoles.create, "os-remote-consoles", "Make a console", 6),
    _row(
        "GET",
        "/os-console-auth-tokens/{console_token}",
        consoles.show_token,
        "os-console-auth-tokens",
        "Show what a console's token opens",
    ),
    _row("GET", f"{_SERVER}/os-server-password", passwords.show, "os-server-password:show", "Show the password it chose"),
    _row("DELETE", f"{_SERVER}/os-server-password", passwords.clear, "os-server-password:clear", "Forget that password"),
    _row("GET", f"{_SERVER}/diagnostics", diagnostics.show, "os-server-diagnostics", "Show a server's counters"),
    _row("GET", f"{_SERVER}/topology", server_views.topology, "compute:server:topology:index", "Show its NUMA topology", 78),
    _row("GET", f"{_SERVER}/migrations", server_views.migrations, "servers:migrations:index", "List live migrations", 23),
    _row("GET", _MIGRATION, server_views.migration, "servers:migrations:show", "Show a live migration", 23),
    _row("DELETE", _MIGRATION, server_views.abort_migration, "servers:migrations:delete", "Abort a live migration", 24),
    _row(
        "POST", f"{_MIGRATION}/action", server_views.force_migration, "servers:migrations:force_complete", "Force one to end", 22
    ),
    _row("GET", f"{_SERVER}/os-volume_attachments", attachments.index, "os-volumes-attachments:index", "List a server's volumes"),
    _row("POST", f"{_SERVER}/os-volume_attachments", attachments.create, "os-volumes-attachments:create", "Attach a volume"),
    _row("GET", _ATTACHMENT, attachments.one, "os-volumes-attachments:show", "Show an attached volume"),
    _row("PUT", _ATTACHMENT, attachments.update, "os-volumes-attachments:update", "Change an attached volume"),
    _row("DELETE", _ATTACHMENT, attachments.one, "os-volumes-attachments:delete", "Detach a volume"),
    _row(
        "POST",
        "/os-assisted-volume-snapshots",
        attachments.assist_snapshot,
        "os-assisted-volume-snapshots:create",
        "Assist in a volume's snapshot",
    ),
    _row(
        "DELETE",
        "/os-assisted-volume-snapshots/{snapshot_id}",
        attachments.delete_assisted,
        "os-assisted-volume-snapshots:delete",
        "Assist in deleting a volume's snapshot",
    ),
)

_FLAVOR = "/flavors/{flavor_id}"
_FLAVORS: tuple[Route, ...] = (
    _row("GET", "/flavors", flavors.index, "flavors", "List flavors"),
    _row("POST", "/flavors", flavors.create, "os-flavor-manage:create", "Create a flavor"),
    _row("GET", "/flavors/detail", flavors.detail, "flavors", "List flavors with detail"),
    _row("GET", _FLAVOR, flavors.show, "flavors", "Show a flavor"),
    _row("PUT", _FLAVOR, flavors.update, "os-flavor-manage:update", "Update a flavor's description", 55),
    _row("DELETE", _FLAVOR, flavors.delete, "os-flavor-manage:delete", "Delete a flavor"),
    _row("POST", f"{_FLAVOR}/action", flavors.action, "os-flavor-access", "Give or take a project's access"),
    _row("GET", f"{_FLAVOR}/os-flavor-access", flavors.list_access, "os-flavor-access", "List who has access"),
    _row("GET", f"{_FLAVOR}/os-extra_specs", flavors.list_specs, "os-flavor-extra-specs:index", "List extra specs"),
    _row("POST", f"{_FLAVOR}/os-extra_specs", flavors.create_specs, "os-flavor-extra-specs:create", "Add extra specs"),
    _row("GET", f"{_FLAVOR}/os-extra_specs/{{key}}", flavors.show_spec, "os-flavor-extra-specs:show", "Show an extra spec"),
    _row("PUT", f"{_FLAVOR}/os-extra_specs/{{key}}", flavors.update_spec, "os-flavor-extra-specs:update", "Set an extra spec"),
    _row(
        "DELETE", f"{_FLAVOR}/os-extra_specs/{{key}}", flavors.delete_spec, "os-flavor-extra-specs:delete", "Delete an extra spec"
    ),
)

_KEYPAIR = "/os-keypairs/{keypair_name}"
_QUOTA = "/os-quota-sets/{quota_project_id}"
_ACCOUNTS: tuple[Route, ...] = (
    _row("GET", "/os-keypairs", keypairs.index, "os-keypairs:index", "List keypairs"),
    _row("POST", "/os-keypairs", keypairs.create, "os-keypairs:create", "Import or generate a keypair"),
    _row("GET", _KEYPAIR, keypairs.show, "os-keypairs:show", "Show a keypair"),
    _row("DELETE", _KEYPAIR, keypairs.delete, "os-keypairs:delete", "Delete a keypair"),
    _row("GET", "/limits", quotas.show_limits, "limits", "Show limits and what is used"),
    _row("GET", _QUOTA, quotas.show, "os-quota-sets:show", "Show a project's quotas"),
    _row("PUT", _QUOTA, quotas.update, "os-quota-sets:update", "Set a project's quotas"),
    _row("DELETE", _QUOTA, quotas.delete, "os-quota-sets:delete", "Give a project the default quotas"),
    _row("GET", f"{_QUOTA}/defaults", quotas.defaults, "os-quota-sets:defaults", "Show the default quotas"),
    _row("GET", f"{_QUOTA}/detail", quotas.detail, "os-quota-sets:detail", "Show a project's quotas and what is used"),
    _row("GET", "/os-quota-class-sets/{class_name}", quotas.show_class, "os-quota-class-sets:show", "Show the default quotas"),
    _row("PUT", "/os-quota-class-sets/{class_name}", quotas.update_class, "os-quota-class-sets:update", "Set the default quotas"),
)

_SERVER_GROUP = "/os-server-groups/{group_id}"
_PROJECTS: tuple[Route, ...] = (
    _row("GET", "/extensions", extensions.index, "extensions", "List extensions"),
    _row("GET", "/extensions/{alias}", extensions.show, "extensions", "Show an extension"),
    _row("GET", "/os-server-groups", server_groups.index, "os-server-groups:index", "List server groups"),
    _row("POST", "/os-server-groups", server_groups.create, "os-server-groups:create", "Create a server group"),
    _row("GET", _SERVER_GROUP, server_groups.show, "os-server-groups:show", "Show a server group"),
    _row("DELETE", _SERVER_GROUP, server_groups.delete, "os-server-groups:delete", "Delete a server group"),
    _row("GET", "/os-simple-tenant-usage", usage.index, "os-simple-tenant-usage:list", "Show what all projects used"),
    _row(
        "GET", "/os-simple-tenant-usage/{usage_project_id}", usage.show, "os-simple-tenant-usage:show", "Show what a project used"
    ),
    _row("GET", "/os-migrations", migrations.index, "os-migrations:index", "List migrations"),
    _row(
        "POST",
        "/os-server-external-events",
        events.create,
        "os-server-external-events:create",
        "Tell of events of other services",
    ),
)

_AGGREGATE = "/os-aggregates/{aggregate_id}"
_AGGREGATES: tuple[Route, ...] = (
    _row("GET", "/os-aggregates", aggregates.index, "os-aggregates:index", "List host aggregates"),
    _row("POST", "/os-aggregates", aggregates.create, "os-aggregates:create", "Create a host aggregate"),
    _row("GET", _AGGREGATE, aggregates.show, "os-aggregates:show", "Show a host aggregate"),
    _row("PUT", _AGGREGATE, aggregates.update, "os-aggregates:update", "Update a host aggregate"),
    _row("DELETE", _AGGREGATE, aggregates.delete, "os-aggregates:delete", "Delete a host aggregate"),
    _row("POST", f"{_AGGREGATE}/action", aggregates.action, "os-aggregates:change", "Change its hosts or metadata"),
)

HOSTS_UNTIL = 42
_HYPERVISOR = "/os-hypervisors/{hypervisor_id}"
_HOSTS: tuple[Route, ...] = (
    _row("GET", "/os-availability-zone", hosts.zone_list, "os-availability-zone:list", "List availability zones"),
    _row("GET", "/os-availability-zone/detail", hosts.zone_detail, "os-availability-zone:detail", "List zones with their hosts"),
    _row("GET", "/os-hosts", hosts.host_list, "os-hosts:list", "List hosts", until=HOSTS_UNTIL),
    _row("GET", "/os-hosts/{host_name}", hosts.host_show, "os-hosts:show", "Show a host", until=HOSTS_UNTIL),
    _row("PUT", "/os-hosts/{host_name}", hosts.host_update, "os-hosts:update", "Enable or disable a host", until=HOSTS_UNTIL),
    *(
        _row("GET", f"/os-hosts/{{host_name}}/{verb}", hosts.host_power, f"os-hosts:{name}", f"{text} a host", until=HOSTS_UNTIL)
        for verb, name, text in (("startup", "start", "Start"), ("shutdown", "shutdown", "Stop"), ("reboot", "reboot", "Reboot"))
    ),
    _row("DELETE", "/os-services/{service_id}", hosts.service_delete, "os-services:delete", "Forget a host that is gone"),
    _row("GET", "/os-services", hosts.service_list, "os-services:list", "List services"),
    _row("PUT", "/os-services/{service_id}", hosts.service_by_name, "os-services:update", "Enable or disable a host", until=52),
    _row("PUT", "/os-services/{service_id}", hosts.service_update, "os-services:update", "Enable or disable a host", 53),
    _row("GET", "/os-hypervisors", hosts.hypervisor_list, "os-hypervisors:list", "List hypervisors"),
    _row("GET", "/os-hypervisors/detail", hosts.hypervisor_detail, "os-hypervisors:list-detail", "List hypervisors with detail"),
    _row(
        "GET",
        "/os-hypervisors/statistics",
        hosts.hypervisor_statistics,
        "os-hypervisors:statistics",
        "Sum up all hypervisors",
        until=87,
    ),
    _row("GET", _HYPERVISOR, hosts.hypervisor_show, "os-hypervisors:show", "Show a hypervisor"),
    _row("GET", f"{_HYPERVISOR}/uptime", hosts.hypervisor_uptime, "os-hypervisors:uptime", "Show a host's uptime", until=87),
    _row("GET", f"{_HYPERVISOR}/search", hosts.hypervisor_search, "os-hypervisors:search", "Find hypervisors by name", until=52),
    _row(
        "GET", f"{_HYPERVISOR}/servers", hosts.hypervisor_servers, "os-hypervisors:servers", "List hypervisors' servers", until=52
    ),
)

PROXIES_UNTIL = 35
"""The last minor version with the calls that belong to other services."""
_IMAGE = "/images/{image_id}"
_FLOATING_IP = "/os-floating-ips/{floating_ip_id}"
_GROUP = "/os-security-groups/{group_id}"
_PROXIES: tuple[Route, ...] = (
    _row("GET", "/images", images.index, "images", "List images", until=PROXIES_UNTIL),
    _row("GET", "/images/detail", images.detail, "images", "List images with detail", until=PROXIES_UNTIL),
    _row("GET", _IMAGE, images.show, "images", "Show an image", until=PROXIES_UNTIL),
    _row("DELETE", _IMAGE, images.delete, "images:change", "Delete an image", until=PROXIES_UNTIL),
    _row("POST", f"{_IMAGE}/metadata", images.add_metadata, "images:change", "Add metadata", until=38),
    _row("PUT", f"{_IMAGE}/metadata", images.replace_metadata, "images:change", "Replace the metadata", until=38),
    _row("PUT", f"{_IMAGE}/metadata/{{key}}", images.set_metadata, "images:change", "Set an item of it", until=38),
    _row("DELETE", f"{_IMAGE}/metadata/{{key}}", images.delete_metadata, "images:change", "Delete an item of it", until=38),
    _row("GET", "/os-floating-ips", floating_ips.index, "os-floating-ips:list", "List floating IPs", until=PROXIES_UNTIL),
    _row("POST", "/os-floating-ips", floating_ips.create, "os-floating-ips:create", "Allocate one", until=PROXIES_UNTIL),
    _row("GET", _FLOATING_IP, floating_ips.show, "os-floating-ips:show", "Show a floating IP", until=PROXIES_UNTIL),
    _row("DELETE", _FLOATING_IP, floating_ips.delete, "os-floating-ips:delete", "Release a floating IP", until=PROXIES_UNTIL),
    _row("GET", "/os-floating-ip-pools", floating_ips.pools, "os-floating-ip-pools", "List their pools", until=PROXIES_UNTIL),
    _row("GET", "/os-networks", floating_ips.network_list, "os-networks:list", "List networks", until=PROXIES_UNTIL),
    _row("GET", "/os-networks/{network_id}", floating_ips.network_show, "os-networks:show", "Show one", until=PROXIES_UNTIL),
    _row("GET", "/os-tenant-networks", floating_ips.network_list, "os-networks:list", "List networks", until=PROXIES_UNTIL),
    _row(
        "GET", "/os-tenant-networks/{network_id}", floating_ips.network_show, "os-networks:show", "Show one", until=PROXIES_UNTIL
    ),
    _row("GET", f"{_IMAGE}/metadata", images.list_metadata, "images", "List an image's metadata", until=38),
    _row("GET", f"{_IMAGE}/metadata/{{key}}", images.show_metadata, "images", "Show an item of it", until=38),
    _row("GET", f"{_SERVER}/os-security-groups", security_groups.list_of_server, "os-security-groups:list", "List its groups"),
    _row("GET", "/os-security-groups", security_groups.index, "os-security-groups:get", "List groups", until=PROXIES_UNTIL),
    _row("POST", "/os-security-groups", security_groups.create, "os-security-groups:create", "Create one", until=PROXIES_UNTIL),
    _row("GET", _GROUP, security_groups.show, "os-security-groups:show", "Show a security group", until=PROXIES_UNTIL),
    _row("PUT", _GROUP, security_groups.update, "os-security-groups:update", "Update a security group", until=PROXIES_UNTIL),
    _row("DELETE", _GROUP, security_groups.delete, "os-security-groups:delete", "Delete a security group", until=PROXIES_UNTIL),
    _row(
        "POST",
        "/os-security-group-rules",
        security_groups.create_rule,
        "os-security-groups:rule:create",
        "Create a rule",
        until=PROXIES_UNTIL,
    ),
    _row(
        "DELETE",
        "/os-security-group-rules/{rule_id}",
        security_groups.delete_rule,
        "os-security-groups:rule:delete",
        "Delete a rule",
        until=PROXIES_UNTIL,
    ),
)

_USAGE_LOG = "/os-instance_usage_audit_log"
_LEFT: tuple[Route, ...] = (
    _row("GET", _USAGE_LOG, server_views.audit_logs, "os-instance-usage-audit-log:list", "Show the usage audits of last month"),
    _row("GET", f"{_USAGE_LOG}/{{before}}", server_views.audit_log, "os-instance-usage-audit-log:show", "Show earlier ones"),
    *(_row(method, path, gone.answer, "gone", "Was removed: 410") for method, path in gone.paths()),
    *(
        _row(method, f"/{name}{below}", gone.of_networks, "gone", "Was removed: 410", until=PROXIES_UNTIL)
        for name in ("os-networks", "os-tenant-networks")
        for method, below in (("POST", ""), ("DELETE", "/{network_id}"))
    ),
)

ROUTES: tuple[Route, ...] = (
    *_VERSIONS,
    *_SERVERS,
    *_OF_SERVERS,
    *_FLAVORS,
    *_ACCOUNTS,
    *_PROJECTS,
    *_AGGREGATES,
    *_HOSTS,
    *_PROXIES,
    *_LEFT,
)

SERVICE = Service(
    "compute", "/compute", ROUTES, render_error, POLICIES, MICROVERSIONS, {Unimplemented: 501}, frozen=("/v2", "/v2.1")
)
