"""A good body for each route that takes one.

`{name}` in a text is replaced by the id of a thing of that name.
"""

from typing import Any

from tests.fuzz import discovery, stacks
from tests.fuzz.actions import ACTIONS
from tests.fuzz.things import NET, SERVER, THINGS, V2, V3, V21

CSR = (
    "-----BEGIN CERTIFICATE REQUEST-----\n"
    "MH8wMwIBADAAMCowBQYDK2VwAyEAUQGbJXeH0yzGwhwkN/wwaKgoXx1Jx37AaRye\n"
    "0IlkeSigADAFBgMrZXADQQC+IGUGZIXasl6ZW+1cSl6WtEsNa8HYLzW4+FAy5q+o\n"
    "LW1vOH1dVjZCwn7/zse9xlAAEMCRB7qV28YcBKmsMCQL\n"
    "-----END CERTIFICATE REQUEST-----\n"
)
"""A signing request of a key that nobody kept."""
PASSWORD = {"user": {"id": "{user_id}", "password": "secret-of-the-fuzz"}}

BANDWIDTH_LIMIT = {"bandwidth_limit_rule": {"max_kbps": 2000, "max_burst_kbps": 0, "direction": "ingress"}}
FORWARDING = {
    "protocol": "tcp",
    "external_port": 2222,
    "internal_port": 22,
    "internal_port_id": "{port_id}",
    "internal_ip_address": "10.77.0.50",
    "description": "d",
}


REGISTERED = {"service_id": "{service_id}", "region_id": "{region_id}", "resource_name": "fuzz", "default_limit": 3}
LIMIT = {
    "service_id": "{service_id}",
    "region_id": "{region_id}",
    "project_id": "{project_id}",
    "resource_name": "fuzz",
    "resource_limit": 3,
}
METADEFS = f"{V2}/metadefs/namespaces"
NAMESPACE = {"namespace": "fuzz", "display_name": "Fuzz", "description": "d", "visibility": "public", "protected": False}
DEFINITION = {"name": "p", "title": "P", "type": "integer", "minimum": 1, "maximum": 9, "operators": ["<in>"], "readonly": False}
RULES = [{"service": "compute", "method": "GET", "path": "/v2.1/servers/*"}]

GROUP_RULE = {"parent_group_id": "{security_group_id}", "ip_protocol": "tcp", "from_port": 1, "to_port": 2, "cidr": "::/0"}
ROUTE = {"routes": [{"destination": "198.51.100.0/24", "nexthop": "10.77.0.9"}]}

DOCKER = "/docker"
BODIES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("POST", f"{DOCKER}/volumes/create"): (
        {"Name": "fuzz@gold", "Driver": "flocker", "DriverOpts": {"profile": "gold", "size": "10M"}, "Labels": {"a": "b"}},
        {"Name": "copy@snapshot-a", "Driver": "", "DriverOpts": {"host": "fuzz"}},
    ),
    ("PUT", f"{DOCKER}/volumes/{{name}}"): ({"Spec": {"Availability": "active"}},),
    ("POST", f"{V3}/auth/tokens"): (
        {"auth": {"identity": {"methods": ["password"], "password": PASSWORD}, "scope": {"project": {"id": "{project_id}"}}}},
        {"auth": {"identity": {"methods": ["password"], "password": PASSWORD}, "scope": {"system": {"all": True}}}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {"domain": {"name": "Default"}}}},
        {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}},
        {"auth": {"identity": {"methods": ["totp"], "totp": {"user": {"id": "{user_id}", "passcode": "123456"}}}}},
        {
            "auth": {
                "identity": {"methods": ["password"], "password": PASSWORD},
                "scope": {"OS-TRUST:trust": {"id": "{trust_id}"}},
            }
        },
        {
            "auth": {
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": {"id": "{application_credential_id}", "secret": "s"},
                }
            }
        },
    ),
    ("PUT", f"{V3}/regions/{{region_id}}"): ({"region": {"description": "fuzz"}},),
    ("PUT", f"{V3}/projects/{{project_id}}/tags"): ({"tags": ["a", "b"]},),
    ("POST", f"{V3}/users/{{user_id}}/password"): ({"user": {"password": "new", "original_password": "secret-of-the-fuzz"}},),
    ("POST", f"{V3}/users/{{user_id}}/application_credentials"): (
        {"application_credential": {"name": "f", "secret": "s"}},
        {"application_credential": {"name": "g", "access_rules": RULES}},
    ),
    ("POST", f"{V3}/users/{{user_id}}/credentials/OS-EC2"): ({"tenant_id": "{project_id}"},),
    ("PUT", f"{V3}/OS-OAUTH1/authorize/{{request_token_id}}"): (
        {"roles": [{"name": "member"}]},
        {"roles": [{"id": "{role_id}"}]},
    ),
    ("POST", f"{V3}/registered_limits"): ({"registered_limits": [REGISTERED]},),
    ("PATCH", f"{V3}/registered_limits/{{registered_limit_id}}"): ({"registered_limit": REGISTERED},),
    ("POST", f"{V3}/limits"): ({"limits": [LIMIT]},),
    ("PATCH", f"{V3}/limits/{{limit_id}}"): ({"limit": {"resource_limit": 4, "description": "d"}},),
    ("PATCH", f"{V2}/images/{{image_id}}"): (
        [{"op": "replace", "path": "/name", "value": "fuzz"}],
        [{"op": "add", "path": "/os_distro", "value": "x"}, {"op": "remove", "path": "/os_distro"}],
        [{"op": "replace", "path": "/visibility", "value": "public"}],
    ),
    ("POST", f"{V2}/images/{{image_id}}/import"): (
        {"method": {"name": "glance-direct"}, "stores": ["nacre"]},
        {"method": {"name": "copy-image"}, "all_stores": True, "all_stores_must_succeed": False},
        {"method": {"name": "web-download", "uri": "http://127.0.0.1/never-asked"}},
        {
            "method": {
                "name": "glance-download",
                "glance_image_id": "{image_id}",
                "glance_region": "RegionOne",
                "glance_service_interface": "public",
            }
        },
    ),
    ("POST", f"{V2}/images/{{image_id}}/locations"): (
        {"url": "http://127.0.0.1/never-asked", "validation_data": {"os_hash_algo": "sha256", "os_hash_value": "0" * 64}},
    ),
    ("POST", f"{V2}/tasks"): (
        {
            "type": "import",
            "input": {
                "import_from": "http://127.0.0.1/never-asked",
                "import_from_format": "raw",
                "image_properties": {"name": "fuzz", "disk_format": "raw", "container_format": "bare"},
            },
        },
    ),
    ("POST", METADEFS): (
        {
            **NAMESPACE,
            "namespace": "fuzz-whole",
            "properties": {"p": {"title": "P", "type": "string", "enum": ["a"], "default": "a"}},
            "objects": [
                {
                    "name": "o",
                    "required": ["p"],
                    "properties": {"p": {"title": "P", "type": "array", "items": {"type": "string"}}},
                }
            ],
            "tags": [{"name": "t"}],
            "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "hw:", "properties_target": "image"}],
        },
    ),
    ("PUT", f"{METADEFS}/{{namespace}}"): (NAMESPACE,),
    ("POST", f"{METADEFS}/{{namespace}}/objects"): ({"name": "o", "description": "d", "required": ["p"]},),
    ("PUT", f"{METADEFS}/{{namespace}}/objects/{{object_name}}"): ({"name": "o", "properties": {}},),
    ("POST", f"{METADEFS}/{{namespace}}/properties"): (DEFINITION,),
    ("PUT", f"{METADEFS}/{{namespace}}/properties/{{property_name}}"): (DEFINITION,),
    ("POST", f"{METADEFS}/{{namespace}}/tags"): ({"tags": [{"name": "t"}, {"name": "u"}]},),
    ("PUT", f"{METADEFS}/{{namespace}}/tags/{{tag_name}}"): ({"name": "t"},),
    ("POST", f"{METADEFS}/{{namespace}}/resource_types"): ({"name": "OS::Nova::Server", "prefix": "p"},),
    ("POST", f"{V2}/images/{{image_id}}/members"): ({"member": "{project_id}"},),
    ("PUT", f"{V2}/images/{{image_id}}/members/{{member_id}}"): ({"status": "accepted"},),
    ("POST", f"{NET}/agents/{{agent_id}}/l3-routers"): ({"router_id": "{router_id}"},),
    ("PUT", f"{NET}/routers/{{router_id}}/add_router_interface"): ({"subnet_id": "{subnet_id}"}, {"port_id": "{port_id}"}),
    ("PUT", f"{NET}/routers/{{router_id}}/remove_router_interface"): ({"subnet_id": "{subnet_id}"}, {"port_id": "{port_id}"}),
    ("PUT", f"{NET}/routers/{{router_id}}/add_extraroutes"): ({"router": ROUTE},),
    ("PUT", f"{NET}/routers/{{router_id}}/remove_extraroutes"): ({"router": ROUTE},),
    ("PUT", f"{NET}/address-groups/{{address_group_id}}/add_addresses"): ({"addresses": ["198.51.100.0/24"]},),
    ("PUT", f"{NET}/address-groups/{{address_group_id}}/remove_addresses"): ({"addresses": ["192.0.2.0/24"]},),
    ("POST", f"{NET}/qos/policies/{{policy_id}}/bandwidth_limit_rules"): (BANDWIDTH_LIMIT,),
    ("PUT", f"{NET}/qos/policies/{{policy_id}}/bandwidth_limit_rules/{{rule_id}}"): (BANDWIDTH_LIMIT,),
    ("PUT", f"{NET}/qos/alias_bandwidth_limit_rules/{{rule_id}}"): (BANDWIDTH_LIMIT,),
    ("POST", f"{NET}/floatingips/{{floatingip_id}}/port_forwardings"): ({"port_forwarding": FORWARDING},),
    ("PUT", f"{NET}/floatingips/{{floatingip_id}}/port_forwardings/{{port_forwarding_id}}"): ({"port_forwarding": FORWARDING},),
    ("PUT", f"{NET}/quotas/{{project_id}}"): ({"quota": {"network": 10, "port": -1, "security_group": 5}},),
    ("PUT", f"{NET}/floatingips/{{floatingip_id}}"): (
        {"floatingip": {"port_id": "{port_id}", "fixed_ip_address": "10.77.0.50"}},
    ),
    ("POST", f"{V21}/servers"): ({"server": SERVER}, {"server": {**SERVER, "networks": [{"port": "{port_id}"}]}}),
    ("PUT", f"{V21}/servers/{{server_id}}"): ({"server": {"name": "fuzz", "accessIPv4": "192.0.2.1", "description": "d"}},),
    ("POST", f"{V21}/servers/{{server_id}}/action"): ACTIONS,
    ("POST", f"{V21}/servers/{{server_id}}/metadata"): ({"metadata": {"a": "b"}},),
    ("PUT", f"{V21}/servers/{{server_id}}/metadata"): ({"metadata": {"a": "b"}},),
    ("PUT", f"{V21}/servers/{{server_id}}/metadata/{{key}}"): ({"meta": {"a": "b"}},),
    ("PUT", f"{V21}/servers/{{server_id}}/tags"): ({"tags": ["a", "b"]},),
    ("POST", f"{V21}/servers/{{server_id}}/os-interface"): (
        {"interfaceAttachment": {"net_id": "{network_id}", "fixed_ips": [{"ip_address": "10.77.0.60"}]}},
        {"interfaceAttachment": {"port_id": "{port_id}"}},
    ),
    ("POST", f"{V21}/servers/{{server_id}}/remote-consoles"): ({"remote_console": {"protocol": "serial", "type": "serial"}},),
    ("POST", f"{V21}/servers/{{server_id}}/os-volume_attachments"): (
        {"volumeAttachment": {"volumeId": "{image_id}", "device": "/dev/vdb", "tag": "t", "delete_on_termination": True}},
    ),
    ("PUT", f"{V21}/servers/{{server_id}}/os-volume_attachments/{{volume_id}}"): (
        {"volumeAttachment": {"volumeId": "{image_id}"}},
    ),
    ("POST", f"{V21}/os-assisted-volume-snapshots"): (
        {"snapshot": {"volume_id": "{image_id}", "create_info": {"snapshot_id": "x", "type": "qcow2", "new_file": "y"}}},
    ),
    ("PUT", f"{V21}/flavors/{{flavor_id}}"): ({"flavor": {"description": "d"}},),
    ("POST", f"{V21}/flavors/{{flavor_id}}/action"): (
        {"addTenantAccess": {"tenant": "{project_id}"}},
        {"removeTenantAccess": {"tenant": "{project_id}"}},
    ),
    ("POST", f"{V21}/flavors/{{flavor_id}}/os-extra_specs"): ({"extra_specs": {"a": "b", "c": 1}},),
    ("PUT", f"{V21}/flavors/{{flavor_id}}/os-extra_specs/{{key}}"): ({"a": "b"},),
    ("PUT", f"{V21}/os-quota-sets/{{quota_project_id}}"): ({"quota_set": {"instances": 10, "cores": -1, "force": True}},),
    ("PUT", f"{V21}/os-quota-class-sets/{{class_name}}"): ({"quota_class_set": {"instances": 10}},),
    ("PUT", f"{V21}/os-services/{{service_id}}"): (
        {"status": "disabled", "disabled_reason": "x"},
        {"host": "fuzz", "binary": "nova-compute"},
    ),
    ("PUT", "/placement/resource_providers/{uuid}/traits"): ({"resource_provider_generation": 1, "traits": ["CUSTOM_FUZZ"]},),
    ("POST", "/nacre/v1/host-tokens"): ({"hosts": 2, "ttl_s": 600}, {}),
    ("PUT", "/nacre/v1/hosts/{host}/cordon"): ({"reason": "fuzz"},),
    ("PUT", "/nacre/v1/hosts/{host}/drain"): ({"reason": "fuzz"},),
    ("PATCH", "/nacre/v1/hosts/{host}/labels"): ({"storage": "ssd", "zone": None},),
    ("POST", "/nacre/v1/projects/{project}/docker-certificates"): ({"csr": CSR, "user_id": "{user_id}", "days": 1}, {"csr": CSR}),
    ("POST", f"{V21}/os-security-groups"): ({"security_group": {"name": "fuzz", "description": "d"}},),
    ("PUT", f"{V21}/os-security-groups/{{group_id}}"): ({"security_group": {"name": "fuzz", "description": "d"}},),
    ("POST", f"{V21}/os-security-group-rules"): ({"security_group_rule": GROUP_RULE},),
    ("POST", "/docker/containers/create"): (
        {
            "Image": "{image_id}",
            "Cmd": ["sleep", "1"],
            "Entrypoint": ["sh", "-c"],
            "Env": ["A=b", "constraint:node==fuzz"],
            "Labels": {"a": "b"},
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "StopTimeout": 1,
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1000000000, "Retries": 2},
            "HostConfig": {
                "Binds": ["fuzz:/fuzz:ro"],
                "Memory": 67108864,
                "NanoCpus": 500000000,
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8099"}]},
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
                "Mounts": [{"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {"SizeBytes": 65536, "Mode": 493}}],
                "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            },
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": ["fuzz"], "IPAMConfig": {"IPv4Address": ""}}}},
        },
        {"Image": "{image_id}"},
    ),
    ("POST", "/docker/containers/{id}/update"): (
        {
            "Memory": 67108864,
            "MemorySwap": -1,
            "NanoCpus": 1000000000,
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
        },
    ),
    ("POST", "/docker/networks/create"): (
        {
            "Name": "fuzz",
            "Driver": "bridge",
            "EnableIPv6": True,
            "IPAM": {
                "Driver": "default",
                "Options": {},
                "Config": [
                    {
                        "Subnet": "10.78.0.0/16",
                        "IPRange": "10.78.5.0/24",
                        "Gateway": "10.78.0.1",
                        "AuxiliaryAddresses": {"a": "10.78.0.9"},
                    }
                ],
            },
            "Internal": False,
            "Attachable": True,
            "Options": {"com.docker.network.driver.mtu": "1400"},
            "Labels": {"a": "b"},
        },
    ),
    ("POST", "/docker/networks/{id}/connect"): (
        {"Container": "fuzz", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.78.5.5"}, "Aliases": ["a"]}},
    ),
    ("POST", "/docker/networks/{id}/disconnect"): ({"Container": "fuzz", "Force": True},),
    ("POST", "/docker/containers/{id}/exec"): (
        {
            "Cmd": ["true"],
            "AttachStdout": True,
            "Env": ["A=b"],
            "User": "1",
            "WorkingDir": "/",
            "Tty": False,
            "ConsoleSize": [24, 80],
        },
    ),
    ("POST", "/docker/exec/{id}/start"): ({"Detach": True, "Tty": False}, {"Detach": False, "ConsoleSize": [24, 80]}),
}
BODIES |= discovery.BODIES | stacks.BODIES


def _of_things() -> None:
    """What makes a thing also changes it: unless a route has a body of its own, it takes the one of its collection."""
    for parameter, _, path, key, body in THINGS:
        if parameter == "application_credential_id":
            continue
        whole = {key: body} if key else body
        BODIES.setdefault(("POST", path), (whole,))
        for method in ("PUT", "PATCH"):
            BODIES.setdefault((method, f"{path}/{{{parameter}}}"), (whole,))


_of_things()
TAGS = ({"tags": ["a", "b"]},)


def bodies_of(method: str, path: str) -> tuple[Any, ...]:
    """Good bodies for a route; none for one that takes none."""
    if path.startswith(NET) and path.endswith("/tags"):
        return TAGS if method == "PUT" else ()
    return BODIES.get((method, path), ())
