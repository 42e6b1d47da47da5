"""Containers and their volumes: what `-v`, `--mount` and VOLUME ask for becomes mounts of the container's spec.

create    mounts, host = for_container(...)      volumes are made by name; the container must land on `host` if that is not None
          place(conn, ctx, mounts, host_id)      once the container's host is chosen: volumes that nobody used yet come to it
inspect   describe(conn, mounts)
remove    release(conn, ctx, server_id, mounts)  anonymous volumes go with their container (`docker rm -v`, `--rm`)
"""

import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.volumes import placing
from nacre.cloud.volumes.operations import VolumeSpec, create, discard, unmade_copies, users
from nacre.cloud.volumes.rules import parse_size
from nacre.cloud.volumes.tables import volumes
from nacre.protocol.containers import Mount

Row = dict[str, Any]

PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
MODES = frozenset({"rw", "ro", "z", "Z", "copy", "nocopy", "consistent", "cached", "delegated"}) | PROPAGATIONS
LABEL_ANONYMOUS = "com.docker.volume.anonymous"
MOUNTPOINTS = {"flocker": "/flocker"}
"""Where a volume is said to lie. Flocker's plugin showed /flocker/ and the id; all others are under /nacre."""


def for_container(
    conn: sa.Connection,
    ctx: Context,
    binds: Sequence[str],
    mounts: Sequence[Row],
    volume_driver: str,
    *,
    anonymous: Iterable[str] = (),
    inherited: Sequence[Mount] = (),
    tmpfs: dict[str, str] | None = None,
    alive: frozenset[str] | None = None,
) -> tuple[tuple[Mount, ...], str | None]:
    """The mounts for a container's spec, and the host on which its volumes lie (None: wherever it lands).

    `binds`, `mounts` and `tmpfs` are HostConfig's Binds, Mounts (as decoded JSON, Docker's names) and Tmpfs; `anonymous` the targets of the
    image's and the config's Volumes; `inherited` the mounts of `--volumes-from`. Volumes that are not there are made. Mounts of kind `host`
    are only parsed: whether they may be is another policy's matter. Raises Invalid, NotFound, Conflict (volumes on several hosts), OverQuota.
    """
    found: dict[str, Mount] = {}
    for mount in (
        *(_bind(conn, ctx, text, volume_driver, alive) for text in binds),
        *(_mount(conn, ctx, body, volume_driver, alive) for body in mounts),
        *(_tmpfs(target, options) for target, options in (tmpfs or {}).items()),
    ):
        if mount.target in found:
            raise Invalid(f"Duplicate mount point: {mount.target}")
        found[mount.target] = mount
    for mount in inherited:
        found.setdefault(mount.target, mount)
    for path in anonymous:
        target = _target(path)
        if target not in found:
            found[target] = _volume(conn, ctx, VolumeSpec(driver=volume_driver, anonymous=True), target, alive)
    return tuple(found.values()), host_of(conn, found.values())


def place(conn: sa.Connection, ctx: Context, mounts: Iterable[Mount], host_id: str) -> None:
    """The container lands on this host: its volumes are there from now on. Raises Conflict for one that must stay elsewhere."""
    for row in _rows(conn, mounts):
        placing.move(conn, row, host_id, used=True)


def release(conn: sa.Connection, ctx: Context, server_id: str, mounts: Iterable[Mount]) -> None:
    """The container is being removed, with its volumes: those without a name of their own go, if no other container uses them."""
    using = users(conn, ctx)
    for row in _rows(conn, mounts):
        others = [ident for ident in using.get(row["id"], ()) if ident != server_id]
        if row["anonymous"] and not row["gone"] and not others and not unmade_copies(conn, row["id"]):
            discard(conn, row)


def describe(conn: sa.Connection, mounts: Sequence[Mount]) -> list[Row]:
    """As `Mounts` of a container's inspect (Engine API, MountPoint). The Source of a volume bears its id."""
    rows = {row["id"]: row for row in _rows(conn, mounts)}
    return [_described(mount, rows.get(mount.volume_id)) for mount in mounts]


def mountpoint(row: Row) -> str:
    """Where the volume is said to lie: no path of a host, but its id is in it."""
    return f"{MOUNTPOINTS.get(row['driver'], '/nacre')}/{row['id']}"


def _described(mount: Mount, row: Row | None) -> Row:
    writable: Row = {"RW": not mount.read_only, "Propagation": mount.propagation}
    if mount.kind == "volume":
        name, driver = (row["name"], row["driver"]) if row else (mount.volume_id, "local")
        source = mountpoint(row) if row else ""
        # The order is that of the engine's own struct, which `--format={{.Mounts}}` shows.
        return {
            "Type": "volume",
            "Name": name,
            "Source": source,
            "Destination": mount.target,
            "Driver": driver,
            "Mode": "z",
            **writable,
        }
    kind = "bind" if mount.kind == "host" else mount.kind
    return {"Type": kind, "Source": mount.host_path, "Destination": mount.target, "Mode": "", **writable}


def _rows(conn: sa.Connection, mounts: Iterable[Mount]) -> list[Row]:
    ids = {mount.volume_id for mount in mounts if mount.volume_id}
    return [dict(row) for row in conn.execute(sa.select(volumes).where(volumes.c.id.in_(ids))).mappings()] if ids else []


def host_of(conn: sa.Connection, mounts: Iterable[Mount]) -> str | None:
    """Where these volumes lie; None where none of them has a place of its own yet. Raises Conflict for several hosts."""
    fixed = [row for row in _rows(conn, mounts) if placing.is_fixed(row)]
    if len({row["host_id"] for row in fixed}) > 1:
        those = ", ".join(f"{row['name']} on {placing.hostname_of(conn, row['host_id'])}" for row in fixed)
        raise Conflict(f"no host has all volumes of the container: {those}")
    return fixed[0]["host_id"] if fixed else None


def _volume(
    conn: sa.Connection,
    ctx: Context,
    spec: VolumeSpec,
    target: str,
    alive: frozenset[str] | None,
    *,
    read_only: bool = False,
    copy_up: bool = True,
    subpath: str = "",
    propagation: str = "",
) -> Mount:
    if not spec.name:
        spec = VolumeSpec("", spec.driver, spec.options, {**spec.labels, LABEL_ANONYMOUS: ""}, anonymous=True)
    row = create(conn, ctx, spec, alive=alive)
    return Mount(target, "volume", row["id"], subpath, read_only=read_only, copy_up=copy_up, propagation=propagation)


def _bind(conn: sa.Connection, ctx: Context, text: str, driver: str, alive: frozenset[str] | None) -> Mount:
    """`[SOURCE:]TARGET[:MODES]`."""
    words = text.split(":")
    if len(words) == 2 and words[0].startswith("/") and not words[1].startswith("/"):
        words = ["", *words]  # TARGET:MODES
    source, target, modes = {1: ("", words[0], ""), 2: (*words, ""), 3: tuple(words)}.get(len(words), ("", "", ""))
    asked = {mode for mode in modes.split(",") if mode}
    if not target.startswith("/"):
        raise Invalid(f"invalid volume specification: '{text}'" + (": invalid mount path: must be absolute" if target else ""))
    if asked - MODES or {"ro", "rw"} <= asked or {"copy", "nocopy"} <= asked:
        raise Invalid(f"invalid mode: {modes}")
    propagation = next(iter(asked & PROPAGATIONS), "")
    if source.startswith("/"):
        return Mount(
            _target(target), "host", host_path=_clean(source), read_only="ro" in asked, propagation=propagation or "rprivate"
        )
    if propagation:
        raise Invalid(f"invalid volume specification: '{text}': a volume knows no propagation")
    return _volume(
        conn,
        ctx,
        VolumeSpec(source, driver),
        _target(target),
        alive,
        read_only="ro" in asked,
        copy_up="nocopy" not in asked,
    )


def _mount(conn: sa.Connection, ctx: Context, body: Row, driver: str, alive: frozenset[str] | None) -> Mount:
    """One of HostConfig.Mounts (Engine API, Mount)."""
    kind, source = body.get("Type"), body.get("Source") or ""
    target, read_only = _target(body.get("Target") or ""), bool(body.get("ReadOnly"))
    if kind == "tmpfs":
        options = body.get("TmpfsOptions") or {}
        if source:
            raise Invalid('invalid mount config for type "tmpfs": field Source must not be specified')
        if options.get("Options"):
            raise Invalid("TmpfsOptions.Options: are not available in this cloud")
        return Mount(
            target, "tmpfs", read_only=read_only, size_bytes=options.get("SizeBytes") or None, mode=options.get("Mode") or None
        )
    if kind == "bind":
        if not source.startswith("/"):
            raise Invalid(f"invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute")
        propagation = (body.get("BindOptions") or {}).get("Propagation") or "rprivate"
        if propagation not in PROPAGATIONS:
            raise Invalid(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
        return Mount(target, "host", host_path=_clean(source), read_only=read_only, propagation=propagation)
    if kind != "volume":
        raise Invalid(f'invalid mount config: mount type unknown: "{kind or ""}"')
    options = body.get("VolumeOptions") or {}
    subpath = options.get("Subpath") or ""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise Invalid(
            f'invalid mount config for type "volume": subpath {subpath!r} must be relative and stay inside of the volume'
        )
    chosen = options.get("DriverConfig") or {}
    spec = VolumeSpec(source, chosen.get("Name") or driver, chosen.get("Options") or {}, options.get("Labels") or {})
    return _volume(
        conn, ctx, spec, target, alive, read_only=read_only, copy_up=not options.get("NoCopy") and not subpath, subpath=subpath
    )


def _tmpfs(path: str, options: str) -> Mount:
    """HostConfig.Tmpfs: mount(8)'s size= and mode= and ro; nosuid, nodev and noexec hold anyway or make no difference to the host."""
    size_bytes, mode, read_only = None, None, False
    for option in (word for word in options.split(",") if word):
        name, _, value = option.partition("=")
        if name == "size":
            size_bytes = parse_size(path, value)
        elif name == "mode" and value.isdigit() and set(value) <= set("01234567"):
            mode = int(value, 8)
        elif name == "ro":
            read_only = True
        elif name not in ("rw", "nosuid", "nodev", "noexec", "noatime", "relatime"):
            raise Invalid(f'invalid tmpfs option ["{option}"]')
    return Mount(_target(path), "tmpfs", size_bytes=size_bytes, mode=mode, read_only=read_only)


def _target(path: str) -> str:
    if not path.startswith("/"):
        raise Invalid(f"invalid mount path: '{path}' mount path must be absolute")
    target = _clean(path)
    if target == "/":
        raise Invalid("invalid specification: destination can't be '/'")
    return target


def _clean(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")
