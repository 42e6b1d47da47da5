"""Finding a container by what a client calls it: Docker's id, a prefix of it, its name, or the server's own id."""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.store import Prepared

Row = dict[str, Any]

ID_LENGTH = 64
UUID_LENGTH = 32
_HEX = re.compile(r"[0-9a-f]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_BY_ID = Prepared(
    sa.select(servers).where(servers.c.id == sa.bindparam("ident"), servers.c.project_id == sa.bindparam("project"))
)
_BY_PREFIX = Prepared(
    sa.select(servers.c.id)
    .where(
        servers.c.id >= sa.bindparam("low"), servers.c.id < sa.bindparam("high"), servers.c.project_id == sa.bindparam("project")
    )
    .limit(2)
)
_NAMED_CONTAINER = Prepared(
    sa.select(containers.c.server_id).where(
        containers.c.name == sa.bindparam("name"), containers.c.project_id == sa.bindparam("project")
    )
)
_NAMED_SERVER = Prepared(
    sa.select(servers.c.id)
    .where(
        servers.c.name == sa.bindparam("name"),
        servers.c.project_id == sa.bindparam("project"),
        servers.c.id.not_in(sa.select(containers.c.server_id)),
    )
    .limit(2)
)
_CONTAINER = Prepared(sa.select(containers).where(containers.c.server_id == sa.bindparam("ident")))


@lru_cache(maxsize=8192)
def docker_id(server_id: str) -> str:
    """The server's id as Docker's: 64 hex digits that begin with it, so that prefixes are the same in both panes."""
    plain = server_id.replace("-", "")
    return plain + hashlib.sha256(plain.encode()).hexdigest()[: ID_LENGTH - len(plain)]


def find(conn: sa.Connection, ctx: Context, ref: str) -> Row:
    """The project's server that a client calls `ref`, with its row of `containers` (None for one that Nova made) under "container".

    Docker's order: the whole id, the name, a prefix of the id that is the only one. Raises NotFound, and Invalid for an ambiguous prefix.
    """
    ident = _resolve(conn, ctx.project_id or "", ref)
    row = _BY_ID.first(conn, ident=ident, project=ctx.project_id) if ident else None
    if row is None:
        raise NotFound(f"No such container: {ref}")
    return with_container(conn, row)


def with_container(conn: sa.Connection, row: Mapping[str, Any]) -> Row:
    """A server's row, with its container's under "container"."""
    return {**row, "container": _CONTAINER.first(conn, ident=row["id"])}


def _resolve(conn: sa.Connection, project: str, ref: str) -> str | None:
    """The server's id, or None."""
    if _UUID.fullmatch(ref):
        return ref
    is_hex = _HEX.fullmatch(ref) is not None
    if is_hex and len(ref) == ID_LENGTH:
        return _of_docker_id(ref)
    named = named_by(conn, project, ref.removeprefix("/"))
    if named is not None:
        return named
    return _by_prefix(conn, project, ref) if is_hex else None


def named_by(conn: sa.Connection, project: str, name: str) -> str | None:
    """The id of the container with that name, else of the one server that Nova gave it."""
    ident: str | None = _NAMED_CONTAINER.scalar(conn, name=name, project=project)
    if ident is None:
        others = _NAMED_SERVER.scalars(conn, name=name, project=project)
        ident = others[0] if len(others) == 1 else None
    return ident


def _of_docker_id(ref: str) -> str | None:
    ident = dashed(ref[:UUID_LENGTH])
    return ident if docker_id(ident) == ref else None


def _by_prefix(conn: sa.Connection, project: str, prefix: str) -> str | None:
    low = dashed(prefix[:UUID_LENGTH])
    found = _BY_PREFIX.scalars(conn, low=low, high=low + "g", project=project)
    found = [ident for ident in found if docker_id(ident).startswith(prefix)]
    if len(found) > 1:
        raise Invalid(f"multiple IDs found with provided prefix: {prefix}")
    return found[0] if found else None


def dashed(text: str) -> str:
    """Hex digits, 32 at most, as the beginning of a UUID in its usual form."""
    parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:32])
    return "-".join(part for part in parts if part)
