"""A container's mounts: volumes, tmpfs, paths of the host's, and what it has from other containers (`--volumes-from`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.containers import lookup
from nacre.cloud.context import Context, internal
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.volumes import use
from nacre.protocol.containers import Mount

Row = dict[str, Any]


def resolve(
    conn: sa.Connection, ctx: Context, config: Mapping[str, Any], host: Mapping[str, Any], alive: frozenset[str] | None
) -> tuple[tuple[Mount, ...], str | None]:
    """The mounts of a container that is being made, in the order in which they nest, and the host on which its volumes lie (None: any).

    Raises Invalid, Conflict, OverQuota.
    """
    try:
        found, host_id = use.for_container(
            conn,
            ctx,
            host["Binds"] or (),
            host["Mounts"] or (),
            host["VolumeDriver"] or "",
            anonymous=config["Volumes"] or (),
            inherited=_inherited(conn, ctx, host["VolumesFrom"] or ()),
            tmpfs=host["Tmpfs"] or {},
            alive=alive,
        )
    except NotFound as error:
        # A create's 404 is about its image: Docker's client would go and pull that.
        raise Invalid(error.message, field="HostConfig") from None
    return tuple(sorted(found, key=lambda mount: mount.target)), host_id


def _inherited(conn: sa.Connection, ctx: Context, others: Sequence[str]) -> list[Mount]:
    """Each is CONTAINER[:ro|rw]."""
    found: list[Mount] = []
    for text in others:
        ref, _, mode = text.partition(":")
        if not ref or mode not in ("", "ro", "rw", "z", "Z"):
            raise Invalid(f"invalid volumes-from specification: '{text}'", field="HostConfig.VolumesFrom")
        for mount in of_container(lookup.find(conn, ctx, ref)["container"]):
            found.append(msgspec.structs.replace(mount, read_only=True) if mode == "ro" else mount)
    return found


def of_container(container: Mapping[str, Any] | None) -> tuple[Mount, ...]:
    """Of a row of `containers`; a server that Nova made has none."""
    return msgspec.convert(container["spec"].get("mounts", ()), tuple[Mount, ...]) if container is not None else ()


def release(conn: sa.Connection, container: Mapping[str, Any]) -> None:
    """The container goes with its volumes: those that have no name and no other user."""
    holder = replace(internal(), project_id=container["project_id"])
    use.release(conn, holder, container["server_id"], of_container(container))
