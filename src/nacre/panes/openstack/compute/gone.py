"""Calls that Nova had once and answers with 410 today, and so do we: https://docs.openstack.org/api-ref/compute/#obsolete-apis."""

from typing import Any

from nacre.cloud.errors import Gone
from nacre.panes.edge import Call, Reply

COLLECTIONS = (
    "os-agents",
    "os-cells",
    "os-certificates",
    "os-cloudpipe",
    "os-fixed-ips",
    "os-floating-ip-dns",
    "os-floating-ips-bulk",
    "os-fping",
    "os-security-group-default-rules",
)
"""Each with what lies below it by an id."""
OF_SERVERS = ("os-virtual-interfaces", "consoles")
_READ, _CHANGE = ("GET", "DELETE"), ("POST", "PUT")


def paths() -> list[tuple[str, str]]:
    """(method, path) of every one of them."""
    found = []
    for name in COLLECTIONS:
        found += [(method, f"/{name}") for method in ("GET", *_CHANGE)]
        found += [(method, f"/{name}/{{gone_id}}") for method in (*_READ, *_CHANGE)]
    for name in OF_SERVERS:
        found += [(method, f"/servers/{{server_id}}/{name}") for method in ("GET", "POST")]
        found += [(method, f"/servers/{{server_id}}/{name}/{{gone_id}}") for method in _READ]
    return found


async def answer(call: Call) -> Reply:
    raise Gone(f"{call.route.path} was removed from the Compute API and is not served any more.", code="Gone")


async def of_action(call: Call, ident: str, body: Any) -> Reply:
    """An action that was Xen's alone."""
    raise Gone("The action resetNetwork was removed from the Compute API and is not served any more.", code="Gone")


async def of_networks(call: Call) -> Reply:
    """Changes of networks by Compute: they were nova-network's."""
    raise Gone("Networks are made and changed by the Networking API; Compute's calls for it were removed.", code="Gone")
