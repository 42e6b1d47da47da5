"""`docker create`: a server that is made stopped, and what Docker knows of it beyond that, in one transaction."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute import servers as compute
from nacre.cloud.compute.scheduling import FactsOf
from nacre.cloud.compute.specs import ServerSpec
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import (
    compiling,
    events,
    grants,
    limits,
    lookup,
    merging,
    mounts,
    names,
    networking,
    refusals,
    scheduling,
)
from nacre.cloud.containers.compiling import Resolved
from nacre.cloud.containers.specs import ContainerSpec
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.image import references
from nacre.cloud.scheduler import Conditions, ExpressionError, NoValidHost, Ratios, Strategy
from nacre.cloud.volumes import use
from nacre.protocol.containers import Mount
from nacre.store import Prepared
from nacre.store.schema import new_id

Row = dict[str, Any]

SHORT_ID_LENGTH = 12
_INSERT = Prepared(containers.insert())
_TAKEN = Prepared(
    sa.select(servers.c.id).where(
        servers.c.project_id == sa.bindparam("project"), servers.c.name == sa.bindparam("name"), servers.c.gone.is_(False)
    )
)


def create(
    conn: sa.Connection,
    ctx: Context,
    spec: ContainerSpec,
    *,
    alive: frozenset[str] | None,
    ratios: Ratios | None = None,
    facts: FactsOf | None = None,
    strategy: Strategy = "spread",
) -> tuple[str, list[str]]:
    """Make a container. Returns the server's id and warnings.

    Raises NotFound (image, network, another container), Invalid, Conflict (the name), Forbidden (host access), OverQuota, NotSchedulable.
    """
    limits.check(spec.host_config)
    refusals.check(spec.host_config)
    name = choose_name(conn, ctx, spec.name)
    image = references.resolve(conn, ctx, _image_name(spec.config))
    placement = scheduling.prepare(spec.config, spec.host_config)
    config = merging.merged(placement.config, merging.image_defaults(image))
    ident = spec.id or new_id()
    config["Hostname"] = compiling.hostname_of(config, lookup.docker_id(ident)[:SHORT_ID_LENGTH])
    host = settled(spec.host_config)
    network = networking.plan(conn, ctx, name, host, spec.networking_config)
    mounted, lies_on = mounts.resolve(conn, ctx, config, host, alive)
    container = compiling.compile_container(config, host, _resolved(conn, ctx, config, host, network, mounted))
    grants.check(conn, ctx, container)
    flavor = limits.flavor_of(host, image)
    server = ServerSpec(
        id=ident,
        name=name,
        image_id=image["id"],
        flavor=flavor,
        networks=network.requests,
        hostname=config["Hostname"],
        power="stopped",
        require_host=True,
        host_id=_only_host(network.host_id, _shared_host(conn, ctx, host), lies_on),
        told=True,
        conditions=_with_drivers(placement.conditions, network),
    )
    try:
        (row,) = compute.create(conn, ctx, server, alive=alive, ratios=ratios, facts=facts, strategy=strategy)
    except (NoValidHost, ExpressionError) as error:
        raise scheduling.failure(error) from None
    use.place(conn, ctx, mounted, row["host_id"])
    _INSERT.run(
        conn,
        server_id=ident,
        project_id=ctx.project_id,
        name=name,
        config=config,
        host_config=host,
        spec=msgspec.to_builtins(container),
        labels=config["Labels"] or {},
        image_ref=spec.config["Image"],
        swarm_id=placement.swarm_id,
        auto_remove=bool(host["AutoRemove"]),
    )
    networking.joined(conn, ctx, ident)
    events.of_server(conn, row, "create")
    return ident, list(placement.warnings)


def _with_drivers(conditions: Conditions, network: networking.Plan) -> Conditions:
    """The host must have the plugins of the networks asked for."""
    drivers = tuple({request.driver for request in network.requests if request.driver} if network.requests != "none" else ())
    return replace(conditions, network_drivers=drivers) if drivers else conditions


def _image_name(config: Mapping[str, Any]) -> str:
    name: str = config["Image"]
    if not name:
        raise Invalid("no image specified", field="Image")
    return name


def choose_name(conn: sa.Connection, ctx: Context, name: str | None) -> str:
    """The name that was asked for, or one made up. Raises Invalid, Conflict."""
    if name:
        clean = names.check(name)
        require_free(conn, ctx, clean)
        return clean
    for number in range(names.TRIES_MAX):
        made = names.made_up(number)
        if holder(conn, ctx, made) is None:
            return made
    raise Conflict("No free name was found: give the container one.", field="name")


def holder(conn: sa.Connection, ctx: Context, name: str) -> str | None:
    """The id of the project's server that bears the name."""
    ident: str | None = _TAKEN.scalar(conn, project=ctx.project_id, name=name)
    return ident


def require_free(conn: sa.Connection, ctx: Context, name: str) -> None:
    """Raises Conflict in the engine's words."""
    ident = holder(conn, ctx, name)
    if ident is not None:
        raise Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{lookup.docker_id(ident)}". '
            "You have to remove (or rename) that container to be able to reuse that name.",
            field="name",
        )


def settled(host_config: Mapping[str, Any]) -> Row:
    """HostConfig as it is kept and shown: what was left open has its value."""
    host = dict(host_config)
    host["NetworkMode"] = host["NetworkMode"] or "default"
    host["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0, **(host["RestartPolicy"] or {})}
    host["RestartPolicy"]["Name"] = host["RestartPolicy"]["Name"] or "no"
    log = host["LogConfig"] or {}
    host["LogConfig"] = {"Type": log.get("Type") or "json-file", "Config": log.get("Config") or {}}
    host["ShmSize"] = host["ShmSize"] or compiling.SHM_BYTES
    host["IpcMode"] = host["IpcMode"] or "private"
    host["CgroupnsMode"] = host["CgroupnsMode"] or "private"
    host["Runtime"] = host["Runtime"] or "runc"
    host["ConsoleSize"] = host["ConsoleSize"] or [0, 0]
    if host["MemorySwappiness"] == -1:
        host["MemorySwappiness"] = None
    return host


def _only_host(*wanted: str | None) -> str | None:
    """Where it must be for its network, its namespaces and its volumes. Raises Conflict where they are on different hosts."""
    found = {host_id for host_id in wanted if host_id is not None}
    if len(found) > 1:
        raise Conflict("the containers and volumes that the container shares are on different hosts")
    return found.pop() if found else None


def _resolved(
    conn: sa.Connection,
    ctx: Context,
    config: Mapping[str, Any],
    host: Mapping[str, Any],
    network: networking.Plan,
    mounted: tuple[Mount, ...],
) -> Resolved:
    disabled = config["NetworkDisabled"]
    return Resolved(
        mounts=mounted,
        network="none" if disabled else network.network,
        network_of=network.network_of,
        extra_hosts=networking.link_hosts(conn, ctx, host),
        pid_of=_sharing(conn, ctx, host["PidMode"], "PidMode", ("", "private", "host")),
        ipc_of=_sharing(conn, ctx, host["IpcMode"], "IpcMode", ("", "private", "shareable", "none")),
    )


def _sharing(conn: sa.Connection, ctx: Context, mode: str, field: str, own: tuple[str, ...]) -> str:
    """The id of the server whose namespace it shares; empty for one of its own. Raises Invalid, NotFound, Conflict."""
    if mode in own:
        return ""
    if not mode.startswith("container:"):
        raise Invalid(f"HostConfig.{field}: {mode!r} is not available in this cloud", field=f"HostConfig.{field}")
    other = lookup.find(conn, ctx, mode.removeprefix("container:"))
    if other["gone"] or other["host_id"] is None:
        raise Conflict(f"cannot join the namespace of a container that is not there: {lookup.docker_id(other['id'])}")
    ident: str = other["id"]
    return ident


def _shared_host(conn: sa.Connection, ctx: Context, host: Mapping[str, Any]) -> str | None:
    """The host of the containers whose namespaces it shares. Raises Conflict when there are several."""
    found = {
        lookup.find(conn, ctx, mode.removeprefix("container:"))["host_id"]
        for mode in (host["PidMode"], host["IpcMode"])
        if mode.startswith("container:")
    }
    if len(found) > 1:
        raise Conflict("the containers whose namespaces are to be shared are on different hosts")
    return found.pop() if found else None
