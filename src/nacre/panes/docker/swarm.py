"""Swarm mode, plugins of the engine, secrets, configs: answered as an engine answers that is in no swarm and has no plugins."""

from collections.abc import Awaitable, Callable

from nacre.cloud.errors import NotFound, Unavailable
from nacre.panes.edge import Call, Reply, Route

NO_MANAGER = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
NO_SWARM = "This node is not part of a swarm"
NO_INIT = "Swarm mode is not available here: Nacre schedules containers over all of its hosts by itself"


async def not_manager(call: Call) -> Reply:
    raise Unavailable(NO_MANAGER)


async def not_member(call: Call) -> Reply:
    raise Unavailable(NO_SWARM)


async def not_available(call: Call) -> Reply:
    raise Unavailable(NO_INIT)


async def list_plugins(call: Call) -> Reply:
    return Reply([])


async def no_plugin(call: Call) -> Reply:
    raise NotFound(f'plugin "{call.path["name"]}" not found')


async def no_new_plugin(call: Call) -> Reply:
    raise Unavailable("Plugins run on the hosts, whose operators install them: they cannot be installed by this API")


_ROWS: tuple[tuple[str, str, Callable[[Call], Awaitable[Reply]], str], ...] = (
    ("GET", "/swarm", not_manager, "Inspect the swarm"),
    ("POST", "/swarm/init", not_available, "Begin a swarm"),
    ("POST", "/swarm/join", not_available, "Join a swarm"),
    ("POST", "/swarm/leave", not_member, "Leave the swarm"),
    ("POST", "/swarm/update", not_manager, "Change the swarm"),
    ("GET", "/swarm/unlockkey", not_manager, "Show the unlock key"),
    ("POST", "/swarm/unlock", not_member, "Unlock a manager"),
    ("GET", "/nodes", not_manager, "List nodes"),
    ("GET", "/nodes/{id}", not_manager, "Inspect a node"),
    ("DELETE", "/nodes/{id}", not_manager, "Remove a node"),
    ("POST", "/nodes/{id}/update", not_manager, "Change a node"),
    ("GET", "/tasks", not_manager, "List tasks"),
    ("GET", "/tasks/{id}", not_manager, "Inspect a task"),
    ("GET", "/tasks/{id}/logs", not_manager, "Logs of a task"),
    ("GET", "/services/{id}/logs", not_manager, "Logs of a service"),
    *(
        row
        for kind in ("services", "secrets", "configs")
        for row in (
            ("GET", f"/{kind}", not_manager, f"List {kind}"),
            ("POST", f"/{kind}/create", not_manager, f"Create one of the {kind}"),
            ("GET", f"/{kind}/{{id}}", not_manager, f"Inspect one of the {kind}"),
            ("DELETE", f"/{kind}/{{id}}", not_manager, f"Remove one of the {kind}"),
            ("POST", f"/{kind}/{{id}}/update", not_manager, f"Change one of the {kind}"),
        )
    ),
    ("GET", "/plugins", list_plugins, "List plugins"),
    ("GET", "/plugins/privileges", no_new_plugin, "What a plugin asks for"),
    ("POST", "/plugins/pull", no_new_plugin, "Install a plugin"),
    ("POST", "/plugins/create", no_new_plugin, "Create a plugin"),
    ("GET", "/plugins/{name:.+}/json", no_plugin, "Inspect a plugin"),
    ("POST", "/plugins/{name:.+}/enable", no_plugin, "Enable a plugin"),
    ("POST", "/plugins/{name:.+}/disable", no_plugin, "Disable a plugin"),
    ("POST", "/plugins/{name:.+}/upgrade", no_plugin, "Upgrade a plugin"),
    ("POST", "/plugins/{name:.+}/push", no_plugin, "Push a plugin"),
    ("POST", "/plugins/{name:.+}/set", no_plugin, "Configure a plugin"),
    ("DELETE", "/plugins/{name:.+}", no_plugin, "Remove a plugin"),
)

ROUTES: tuple[Route, ...] = tuple(
    Route(method, path, handler, "docker:system", f"{summary} (no swarm mode, no engine plugins)")
    for method, path, handler, summary in _ROWS
)
